//! An agent that is a child process: s16le, one channel, on its stdin and stdout, one process a call.
//!
//! The child finds `TRUNKLINE_CALL_ID`, `TRUNKLINE_RATE` (Hz, both ways) and, where they are known, `TRUNKLINE_RUN_ID`,
//! `TRUNKLINE_RESULT_ID`, `TRUNKLINE_SCENARIO_ID`, `TRUNKLINE_SCENARIO` and `TRUNKLINE_METADATA` (what came with the call: the
//! metadata of a LiveKit job, where Cekura puts `test_profile_data`) in its environment. Its stdin is fed in real time
//! without a gap. What it writes to stderr goes into the call's log, line by line. When it exits with
//! 0 it has hung up; another exit is a crash. When the call ends its stdin is closed; a second later its process group gets SIGTERM, and half a second after that SIGKILL.

mod child;

use std::task::{Context, Poll};
use std::time::Duration;

pub use child::ProcessError;
pub(in crate::transport) use child::{Child, Output};

use super::Capability;
use crate::audio::{Rate, from_s16le};
use crate::call::{Abilities, CallIds, Leg, LegCommand, LegEvent};

/// What a pipe carries.
const ABILITIES: Abilities = Abilities { continuous_sink: true, ..Abilities::NONE };
/// What a child process can do, for the table in the README.
pub(super) const CAPABILITY: Capability = Capability {
    wire: "child process",
    way_in: None,
    way_out: Some("`process:COMMAND`"),
    audio: "8, 16, 24, 48 kHz, s16le",
    abilities: ABILITIES,
    tried: "`sh` and Python scripts",
};
/// What may wait for a child that does not read its stdin.
const MOST_QUEUED: Duration = Duration::from_secs(5);

/// The spelling of a way out that is a command.
pub(super) fn spelled(scheme: &str, words: &[String]) -> String {
    format!("{scheme}:{}", shell_words::join(words))
}

/// A running child.
pub struct ProcessLeg {
    via: String,
    rate: Rate,
    child: Child,
    not_read: u64,
    odd_byte: Option<u8>,
}

impl ProcessLeg {
    /// Starts `words[0]` with the rest as its arguments.
    ///
    /// # Errors
    /// [`ProcessError`] when it cannot be started.
    pub fn spawn(words: &[String], rate: Rate, ids: &CallIds, metadata: Option<&str>) -> Result<Self, ProcessError> {
        let child = Child::spawn(words, ids, metadata, &[("TRUNKLINE_RATE", rate.hz().to_string())])?;
        Ok(Self { via: spelled("process", words), rate, child, not_read: 0, odd_byte: None })
    }

    /// Whole samples; half of one waits for its other half.
    fn samples(&mut self, bytes: &[u8]) -> Vec<i16> {
        let mut audio: Vec<u8> = self.odd_byte.take().into_iter().collect();
        audio.extend_from_slice(bytes);
        if audio.len() % 2 == 1 {
            self.odd_byte = audio.pop();
        }
        from_s16le(&audio)
    }
}

impl Leg for ProcessLeg {
    fn rate(&self) -> Rate {
        self.rate
    }

    fn abilities(&self) -> Abilities {
        ABILITIES
    }

    fn via(&self) -> String {
        self.via.clone()
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<LegEvent> {
        self.child.poll_stdin(cx);
        if self.not_read > 0 && self.child.waiting() == 0 {
            return Poll::Ready(LegEvent::NotRead(std::mem::take(&mut self.not_read)));
        }
        self.child.poll_output(cx).map(|output| match output {
            Output::Log(line) => LegEvent::Log(line),
            Output::Bytes(bytes) => LegEvent::Audio(self.samples(&bytes)),
            Output::Gone(hangup) => hangup,
        })
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> bool {
        self.child.poll_stdin(cx);
        self.child.waiting() == 0 && self.not_read == 0
    }

    fn command(&mut self, command: LegCommand<'_>) {
        match command {
            LegCommand::Audio(samples) if self.child.listens() => {
                let room = self.rate.samples_in(MOST_QUEUED) as usize * 2;
                if self.child.waiting() + samples.len() * 2 <= room {
                    self.child.send(samples.iter().flat_map(|sample| sample.to_le_bytes()));
                } else {
                    self.not_read += 1;
                }
            }
            LegCommand::Hangup(reason) => {
                self.child.drop_waiting();
                self.child.ask(reason);
            }
            // A pipe carries audio alone.
            _ => {}
        }
    }
}
