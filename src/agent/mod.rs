//! Small voice agents for demos and tests. They are legs like any other: `trunkline agent` joins one to a CHIRP door.

mod echo;
mod scripted;

pub use echo::EchoAgent;
pub use scripted::{AgentLines, ScriptedAgent};
