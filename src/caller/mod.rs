//! The scripted caller: test suites, speech, turn taking.

mod leg;
mod player;
mod turn;

pub use leg::ScriptedCaller;
pub use player::{Patience, Player, PreparedLine, PreparedStep, SIGNAL_OFFSET};
