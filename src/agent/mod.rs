//! Small voice agents for demos and tests.
