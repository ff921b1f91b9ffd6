//! The scripted caller: test suites, speech and effects, turn taking; by voice or in writing.

mod course;
pub mod effects;
mod errands;
mod keypad;
mod leg;
pub mod personality;
mod player;
mod prepare;
mod prepared;
pub mod speech;
pub mod suite;
mod text;
mod turn;
mod utterance;

pub use leg::ScriptedCaller;
pub use player::{Answer, Patience, Player, Request};
pub use prepare::{PrepareError, PreparedScript};
pub use prepared::{Bed, Manner, PreparedBackchannel, PreparedLine, PreparedStep};
pub use text::{TEXT_PATIENCE, TextCaller, TextScript};
pub use utterance::SIGNAL_OFFSET;
