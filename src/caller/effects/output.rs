//! What becomes of the caller's frames on their way out: background, backchannels, loss.

use std::collections::VecDeque;
use std::sync::Arc;

use super::random::Random;
use crate::audio::Rate;
use crate::call::{Effect, EffectKind, LegEvent};
use crate::caller::prepared::{Bed, PreparedBackchannel};

/// Lost frames are told once in this many: a second.
const LOSS_TOLD_EVERY: u64 = 50;

/// The caller's line, after its script.
#[derive(Debug)]
pub(crate) struct Output {
    rate: Rate,
    bed: Option<Playing>,
    backchannel: Option<(Arc<[i16]>, usize)>,
    loss: Option<Loss>,
    /// Effects begun so far: their numbers.
    begun: u32,
}

/// A background, and how far it is played.
#[derive(Debug)]
struct Playing {
    bed: Bed,
    at: usize,
    /// The number of the effect that is told; none while it is not heard.
    heard_as: Option<u32>,
}

#[derive(Debug)]
struct Loss {
    /// The effect's.
    number: u32,
    share: f64,
    random: Random,
    /// Frames since the last report, and how many of them were lost.
    frames: u64,
    lost: u64,
}

impl Output {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, bed: None, backchannel: None, loss: None, begun: 0 }
    }

    /// Tells that an effect begins at `position` of the caller's stream; gives its number.
    pub(crate) fn begin(&mut self, effect: Effect, position: u64, events: &mut VecDeque<LegEvent>) -> u32 {
        let number = self.begun;
        self.begun += 1;
        events.push_back(LegEvent::EffectStarted { number, effect, position });
        number
    }

    /// Puts a background under all that follows; none: takes it away.
    pub(crate) fn set_background(&mut self, bed: Option<Bed>, position: u64, events: &mut VecDeque<LegEvent>) {
        self.hush(position, events);
        self.bed = bed.map(|bed| Playing { bed, at: 0, heard_as: None });
    }

    /// Loses a percentage of the frames that follow.
    pub(crate) fn set_loss(&mut self, percent: f64, seed: u64, position: u64, events: &mut VecDeque<LegEvent>) {
        self.end_loss(position, events);
        if percent > 0.0 {
            let effect = Effect { kind: EffectKind::PacketLoss { percent }, seed: Some(seed) };
            let number = self.begin(effect, position, events);
            self.loss = Some(Loss { number, share: percent / 100.0, random: Random::new(seed), frames: 0, lost: 0 });
        }
    }

    /// Says something over the agent, from `position` on, whatever else is said.
    pub(crate) fn say_aside(&mut self, said: &PreparedBackchannel, position: u64, events: &mut VecDeque<LegEvent>) {
        let samples = said.samples.len() as u64;
        events.push_back(LegEvent::Backchannel { text: said.text.clone(), position, samples });
        self.backchannel = Some((Arc::clone(&said.samples), 0));
    }

    /// Whether the next frame carries a part of what is said over the agent.
    pub(crate) fn says_aside(&self) -> bool {
        self.backchannel.is_some()
    }

    /// The frame that leaves at `position`: none when it is silent. `holding`: the background is off.
    pub(crate) fn frame(
        &mut self,
        speech: Option<Vec<i16>>,
        holding: bool,
        position: u64,
        events: &mut VecDeque<LegEvent>,
    ) -> Option<Vec<i16>> {
        let mut frame = speech;
        if let Some((samples, said)) = &mut self.backchannel {
            let to = (*said + self.rate.frame_len()).min(samples.len());
            mix(&mut frame, &samples[*said..to], self.rate);
            *said = to;
            if to == samples.len() {
                self.backchannel = None;
            }
        }
        if holding {
            self.hush(position, events);
        } else {
            self.background(&mut frame, position, events);
        }
        if self.loss.as_mut().is_some_and(Loss::takes) {
            frame = None;
        }
        if self.loss.as_ref().is_some_and(|loss| loss.frames >= LOSS_TOLD_EVERY) {
            self.tell_loss(events);
        }
        frame
    }

    /// Tells what has not been told: the call is over.
    pub(crate) fn finish(&mut self, position: u64, events: &mut VecDeque<LegEvent>) {
        self.hush(position, events);
        self.end_loss(position, events);
    }

    fn background(&mut self, frame: &mut Option<Vec<i16>>, position: u64, events: &mut VecDeque<LegEvent>) {
        let Some(mut playing) = self.bed.take() else { return };
        if playing.heard_as.is_none() {
            playing.heard_as = Some(self.begin(playing.bed.effect.clone(), position, events));
        }
        let samples = &playing.bed.samples;
        let round = samples.len().max(1);
        let under: Vec<i16> = (0..self.rate.frame_len()).filter_map(|n| samples.get((playing.at + n) % round)).copied().collect();
        playing.at = (playing.at + under.len()) % round;
        mix(frame, &under, self.rate);
        self.bed = Some(playing);
    }

    /// The background is not heard from `position` on.
    fn hush(&mut self, position: u64, events: &mut VecDeque<LegEvent>) {
        if let Some(number) = self.bed.as_mut().and_then(|playing| playing.heard_as.take()) {
            events.push_back(LegEvent::EffectEnded { number, position });
        }
    }

    fn end_loss(&mut self, position: u64, events: &mut VecDeque<LegEvent>) {
        self.tell_loss(events);
        events.extend(self.loss.take().map(|loss| LegEvent::EffectEnded { number: loss.number, position }));
    }

    fn tell_loss(&mut self, events: &mut VecDeque<LegEvent>) {
        if let Some(loss) = &mut self.loss {
            if loss.lost > 0 {
                // Silence in their place conceals nothing.
                events.push_back(LegEvent::Lost { frames: loss.lost, concealed: 0 });
            }
            (loss.frames, loss.lost) = (0, 0);
        }
    }
}

impl Loss {
    /// Decides about the next frame.
    fn takes(&mut self) -> bool {
        let lost = self.random.share() < self.share;
        self.frames += 1;
        self.lost += u64::from(lost);
        lost
    }
}

/// Adds samples to a frame; what does not fit into 16 bits is cut off at full scale.
fn mix(frame: &mut Option<Vec<i16>>, samples: &[i16], rate: Rate) {
    let frame = frame.get_or_insert_with(|| vec![0; rate.frame_len()]);
    for (into, sample) in frame.iter_mut().zip(samples) {
        *into = into.saturating_add(*sample);
    }
}
