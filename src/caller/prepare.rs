//! From a script to a caller that is ready to dial: every text spoken before the call begins.

use std::sync::Arc;

use super::ScriptedCaller;
use super::player::{Patience, Player, PreparedLine, PreparedStep};
use super::speech::{SpeechError, SpeechStore};
use super::suite::{Line, Script, Step};
use crate::audio::Rate;

/// A script whose speech is ready. Cheap to clone: the speech is shared.
#[derive(Debug, Clone)]
pub struct PreparedScript {
    lines: Vec<PreparedLine>,
    speaks_first: bool,
    rate: Rate,
    name: String,
}

impl PreparedScript {
    /// Speaks all that `script` says.
    ///
    /// # Errors
    /// [`SpeechError`] for the first text that cannot be spoken.
    pub async fn prepare(script: &Script, name: &str, store: &SpeechStore, rate: Rate) -> Result<Self, SpeechError> {
        let mut lines = Vec::new();
        for line in script.opening.iter().chain(&script.lines) {
            lines.push(prepared(line, &script.language, store, rate).await?);
        }
        Ok(Self { lines, speaks_first: script.opening.is_some(), rate, name: name.to_owned() })
    }

    /// A caller that plays the script.
    #[must_use]
    pub fn caller(&self, patience: Patience) -> ScriptedCaller {
        let player = Player::new(self.lines.clone(), self.speaks_first, self.rate, patience);
        ScriptedCaller::new(player, self.rate, &self.name)
    }
}

async fn prepared(line: &Line, language: &str, store: &SpeechStore, rate: Rate) -> Result<PreparedLine, SpeechError> {
    let mut steps = Vec::new();
    for step in &line.steps {
        steps.push(match step {
            Step::Say { text, ignore_interruptions } => {
                let samples: Arc<[i16]> = store.render(text, language, rate).await?;
                PreparedStep::Speech { samples, ignore_interruptions: *ignore_interruptions }
            }
            Step::Silence(time) => PreparedStep::Silence(*time),
            Step::Hold(time) => PreparedStep::Hold(*time),
            Step::EndCall => PreparedStep::EndCall,
        });
    }
    Ok(PreparedLine { condition: line.condition, text: line.words(), interrupt_after: line.interrupt_after, steps })
}
