//! The scripted caller: suites, what a script does, by voice and in writing.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/writing.rs"]
mod writing;

mod effects;
mod personalities;
mod script;
mod spec_suites;
mod suites;
mod tags;
mod text;
mod voice;
