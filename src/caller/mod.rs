//! The scripted caller: test suites, speech, turn taking.

mod leg;
mod player;
mod prepare;
pub mod speech;
pub mod suite;
mod turn;

pub use leg::ScriptedCaller;
pub use player::{Patience, Player, PreparedLine, PreparedStep, SIGNAL_OFFSET};
pub use prepare::PreparedScript;
