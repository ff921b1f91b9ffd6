//! A call's audio over a peer connection, both ways: what comes is put in order and decoded, what goes is cut into frames and
//! encoded. The legs over WebRTC have it in common.

use std::task::Context;
use std::time::{Duration, Instant};

use super::receive::{JitterBuffer, JitterCounts, JitterLimits};
use super::rtp::{RtpAudio, RtpTime};
use crate::audio::Rate;
use crate::audio::opus::{OpusEncoder, OpusError, OpusSettings};
use crate::call::{Alarm, LegEvent, LineCounts};

/// Lost packets are told of so often.
const LOSS_EVERY: Duration = Duration::from_secs(1);

/// Both directions of a call's audio.
pub struct Voice {
    jitter: Option<JitterBuffer>,
    encoder: OpusEncoder,
    /// Samples sent so far: the RTP time of the next.
    sent: u64,
    /// Less than a frame, until there is more.
    waiting: Vec<i16>,
    /// When the next frame is due.
    alarm: Alarm,
    told: (Instant, JitterCounts),
    /// What the line did was told for the last time.
    told_line: bool,
}

impl Voice {
    /// The rate of both: Opus at its full band.
    pub const RATE: Rate = Rate::HZ_48000;

    /// A call that has not begun.
    ///
    /// # Errors
    /// [`OpusError`] when there is no memory for the codec.
    pub fn new() -> Result<Self, OpusError> {
        // FEC as the field's clients send it. DTX, which they have too, takes steady tones and background noise for silence: what
        // a scripted caller plays would not arrive as it is recorded.
        let settings = OpusSettings::default();
        Ok(Self {
            jitter: None,
            encoder: OpusEncoder::new(Self::RATE, settings)?,
            sent: 0,
            waiting: Vec::new(),
            alarm: Alarm::new(),
            told: (Instant::now(), JitterCounts::default()),
            told_line: false,
        })
    }

    /// Takes a packet.
    pub fn receive(&mut self, arrived: Instant, packet: RtpAudio) {
        if self.jitter.is_none() {
            self.jitter = JitterBuffer::new(Self::RATE, JitterLimits::default(), arrived)
                .inspect_err(|error| tracing::error!("the far side cannot be heard: {error}"))
                .ok();
        }
        if let Some(jitter) = &mut self.jitter {
            jitter.push(arrived, packet);
        }
    }

    /// Something has come.
    #[must_use]
    pub const fn hears(&self) -> bool {
        self.jitter.is_some()
    }

    /// Nothing that has come is still to be played.
    #[must_use]
    pub fn is_heard_out(&self) -> bool {
        self.jitter.as_ref().is_none_or(|jitter| jitter.waiting() == 0)
    }

    /// The next frame whose time has come.
    pub fn poll_audio(&mut self, cx: &mut Context<'_>) -> Option<Vec<i16>> {
        loop {
            let jitter = self.jitter.as_mut()?;
            if let Some(frame) = jitter.pop(Instant::now()) {
                return Some(frame.samples);
            }
            if self.alarm.poll_at(Some(jitter.next_wake().into()), cx).is_pending() {
                return None;
            }
        }
    }

    /// What was lost since it was last told.
    pub fn losses(&mut self) -> Option<LegEvent> {
        let jitter = self.jitter.as_ref().filter(|_| self.told.0.elapsed() >= LOSS_EVERY)?;
        let counts = jitter.counts();
        let (_, before) = std::mem::replace(&mut self.told, (Instant::now(), counts));
        let frames = counts.packets.lost.saturating_sub(before.packets.lost);
        let concealed = counts.frames_concealed.saturating_sub(before.frames_concealed);
        (frames > 0).then(|| LegEvent::Lost { frames, concealed: concealed.min(frames) })
    }

    /// What the line did until the call was over: once.
    pub fn last_line(&mut self) -> Option<LegEvent> {
        if std::mem::replace(&mut self.told_line, true) { None } else { self.line() }
    }

    /// What the line did, so far.
    fn line(&self) -> Option<LegEvent> {
        let counts = self.jitter.as_ref()?.counts();
        Some(LegEvent::Line(LineCounts {
            received: counts.packets.received,
            lost: counts.packets.lost,
            late: counts.packets.late,
            duplicate: counts.packets.duplicate,
            recovered: counts.frames_recovered,
            concealed: counts.frames_concealed,
            resyncs: counts.packets.resyncs,
            jitter_ms: counts.jitter_ms,
            mean_depth_ms: counts.mean_depth_ms,
            max_depth_ms: counts.max_depth_ms,
            inserted_ms: counts.inserted_ms,
            left_out_ms: counts.left_out_ms,
        }))
    }

    /// Audio of any length for the far side, in frames of 20 ms: `send` gets each one's time, level and packet of Opus.
    pub fn send(&mut self, samples: &[i16], mut send: impl FnMut(RtpTime, i8, &[u8])) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.extend_from_slice(samples);
        let whole = waiting.len() - waiting.len() % Self::RATE.frame_len();
        for frame in waiting[..whole].chunks(Self::RATE.frame_len()) {
            let time = RtpTime::new(self.sent);
            self.sent += frame.len() as u64;
            match self.encoder.encode(frame) {
                Ok(packet) if packet.dtx => {}
                Ok(packet) => send(time, level_dbov(frame), &packet.packet),
                Err(error) => tracing::error!("audio for the far side cannot be encoded: {error}"),
            }
        }
        waiting.drain(..whole);
        self.waiting = waiting;
    }
}

/// The level of a frame in dBov, as RFC 6464 has it: 0 is the loudest, -127 silence.
fn level_dbov(samples: &[i16]) -> i8 {
    let energy: f64 = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum();
    let rms = (energy / samples.len().max(1) as f64).sqrt() / 32_768.0;
    if rms <= 0.0 { -127 } else { (20.0 * rms.log10()).clamp(-127.0, 0.0).round() as i8 }
}
