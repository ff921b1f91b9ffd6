//! Offline measuring: from a call's folder to turns, latency and barge-in.
