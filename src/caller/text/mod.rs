//! The same scripts, played in writing: a caller for chats.

mod leg;
mod player;

use std::sync::Arc;
use std::time::Duration;

use super::course::Course;
use super::errands::Errands;
use super::personality::Personality;
use super::suite::{Problem, Script};
use crate::call::Abilities;

pub use leg::TextCaller;
use player::TextPlayer;

/// How long a caller waits for a chat agent that writes nothing, where nothing else is said: language models take their time.
pub const TEXT_PATIENCE: Duration = Duration::from_secs(60);

/// A script that is played in writing. It needs no speech. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TextScript {
    script: Arc<Script>,
    name: String,
    pause: Duration,
}

impl TextScript {
    /// A script to be written; `name` is the scenario's, `wire` names how the agent is reached.
    ///
    /// # Errors
    /// Every tag of it that is only for a voice, by condition.
    pub fn new(script: &Script, name: &str, wire: &str) -> Result<Self, Vec<Problem>> {
        let chat = Abilities { text_only: true, text: true, data: true, ..Abilities::NONE };
        let problems = script.misfits(name, wire, chat);
        if problems.is_empty() {
            Ok(Self { script: Arc::new(script.clone()), name: name.to_owned(), pause: Duration::ZERO })
        } else {
            Err(problems)
        }
    }

    /// The same script from a caller of this personality: in writing it has but its pause.
    #[must_use]
    pub fn cast(&self, personality: &Personality) -> Self {
        Self { pause: personality.pause, ..self.clone() }
    }

    /// The agent is to write first: the script's first message is empty.
    #[must_use]
    pub fn agent_opens(&self) -> bool {
        self.script.opening.is_none()
    }

    /// What the script needs the agent's leg to be able to do.
    #[must_use]
    pub fn needs(&self) -> Abilities {
        // Its words are what a chat agent's messages are.
        Abilities { text: true, transcripts: false, ..self.script.needs() }
    }

    /// A caller that plays the script; it gives an agent up that writes nothing for `patience`.
    #[must_use]
    pub fn caller(&self, patience: Duration) -> TextCaller {
        let player = TextPlayer::new(&self.script, Course::of(&self.script), self.pause, patience);
        let functions = &self.script.functions;
        let errands = (!functions.is_empty()).then(|| Errands::new(functions.clone(), None));
        TextCaller::new(player, errands, self.needs(), &self.name)
    }
}
