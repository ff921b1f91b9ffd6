//! The scripted caller: test suites, speech, turn taking.
