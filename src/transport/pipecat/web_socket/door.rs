//! The door: a WebSocket server that Pipecat's clients call, as they call a bot.

use super::PipecatCallerLeg;
use crate::audio::Rate;
use crate::transport::web_socket::{Admitted, Taken, TokenDoor, TokenEntrance};

/// How a door for Pipecat's clients is set up.
#[derive(Debug, Clone)]
pub struct PipecatDoor {
    /// Where it is, and who may come in.
    pub door: TokenDoor,
    /// The rate of what clients get. A bot speaks at 24 kHz where it says nothing else, and clients count on it: what plays the
    /// sound in a browser does not look at a frame's rate.
    pub rate: Rate,
}

impl PipecatDoor {
    /// The rate of a bot that says nothing else (`audio_out_sample_rate`).
    pub const RATE: Rate = Rate::HZ_24000;
}

impl TokenEntrance for PipecatDoor {
    fn wire(&self) -> &'static str {
        "pipecat"
    }

    fn door(&self) -> &TokenDoor {
        &self.door
    }

    async fn admit(&self, taken: Taken) -> Result<Admitted, String> {
        Ok(PipecatCallerLeg::new(taken, self.rate, self.door.idle).into())
    }
}
