//! Cekura's API as its client meets it.

#[path = "../common/mod.rs"]
mod common;

mod client;
mod observing;
