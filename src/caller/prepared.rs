//! Lines whose sounds are ready to be sent.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::suite::Delivery;
use crate::call::Effect;

/// A line of the script with its speech ready to be sent.
#[derive(Debug, Clone)]
pub struct PreparedLine {
    /// The condition's id in the scenario.
    pub condition: u32,
    /// What it says, for the log.
    pub text: String,
    /// Speaks this long into the agent's speech instead of after it.
    pub interrupt_after: Option<Duration>,
    /// What it does.
    pub steps: Vec<PreparedStep>,
}

/// A step of a line. All samples are at the leg's rate.
#[derive(Debug, Clone)]
pub enum PreparedStep {
    /// Says this, without silence at either end.
    Speech {
        /// The samples.
        samples: Arc<[i16]>,
        /// Nothing that the agent says stops it.
        ignore_interruptions: bool,
    },
    /// The speech that follows was changed in these ways.
    Changed(Vec<Effect>),
    /// Makes a sound that is no speech, to its end.
    Sound {
        /// The samples.
        samples: Arc<[i16]>,
        /// What it is.
        effect: Effect,
    },
    /// A sound goes on under everything from here on; none: no longer.
    Background(Option<Bed>),
    /// From here on frames are lost.
    Loss {
        /// Percent of all frames.
        percent: f64,
        /// Decides which.
        seed: u64,
    },
    /// Pauses; the agent may cut in, and the script goes on when it has finished.
    Silence(Duration),
    /// Pauses, whatever the agent says.
    Hold(Duration),
    /// Presses keys.
    Dtmf(String),
    /// Sends data.
    Message(Value),
    /// Makes this REST call and waits for its answer.
    Function(String),
    /// Says words of which the call brings a part: see [`super::Request::Speak`].
    Words {
        /// The words, with their `{{function.name.key}}`.
        text: String,
        /// How.
        delivery: Delivery,
    },
    /// Hangs up.
    EndCall,
}

/// A background sound that is repeated without a seam.
#[derive(Debug, Clone)]
pub struct Bed {
    /// The samples.
    pub samples: Arc<[i16]>,
    /// What it is.
    pub effect: Effect,
}

/// How a caller behaves beside what its script says.
#[derive(Debug, Clone)]
pub struct Manner {
    /// Waits this long before it answers.
    pub pause: Duration,
    /// Speaks over the agent where the script says so; else it waits for its turn.
    pub interrupts: bool,
    /// Said while the agent speaks, without taking the turn.
    pub backchannels: Vec<PreparedBackchannel>,
}

impl Default for Manner {
    /// Answers at once, interrupts, and says nothing while the agent speaks.
    fn default() -> Self {
        Self { pause: Duration::ZERO, interrupts: true, backchannels: Vec::new() }
    }
}

/// A short sign of listening.
#[derive(Debug, Clone)]
pub struct PreparedBackchannel {
    /// This long into each turn of the agent.
    pub at: Duration,
    /// The words.
    pub text: String,
    /// The samples.
    pub samples: Arc<[i16]>,
}
