//! The packets of one track that wait, brought into their order, and what became of those that have no place in it.

use std::collections::VecDeque;
use std::time::Instant;

use super::delay::{Delay, signed_ticks};
use super::stream::{Admitted, Reception};
use crate::audio::opus::packet_ticks;
use crate::transport::webrtc::{RtpAudio, RtpTime};

/// What became of packets, as their order and their payloads tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PacketCounts {
    /// Packets that came.
    pub received: u64,
    /// Packets that came again.
    pub duplicate: u64,
    /// Packets that came when the ones after them had been taken, or their time filled.
    pub late: u64,
    /// Packets that had not come when the ones after them were taken. One that comes after all is late and no longer lost.
    pub lost: u64,
    /// Packets whose payload is not Opus.
    pub malformed: u64,
    /// Packets of a stream that ended, or more than can wait.
    pub discarded: u64,
    /// Streams that began after the first.
    pub resyncs: u64,
}

/// A packet that waits.
#[derive(Debug)]
pub(super) struct Queued {
    /// Its stream, as [`Reception::epoch`] numbers them.
    epoch: u64,
    sequence: u64,
    pub(super) time: RtpTime,
    /// The length of its audio; 0: it has no payload.
    pub(super) ticks: i64,
    pub(super) arrival: Instant,
    pub(super) payload: Vec<u8>,
}

/// Sorts the packets of a track by stream and sequence number.
#[derive(Debug)]
pub(super) struct ReorderQueue {
    start: Instant,
    /// Packets that may wait.
    most: usize,
    reception: Reception,
    waiting: VecDeque<Queued>,
    taken: Option<Taken>,
    pub(super) counts: PacketCounts,
}

/// How far the packets of a stream have been taken.
#[derive(Debug)]
struct Taken {
    epoch: u64,
    /// The one that the stream began with.
    first: u64,
    last: Option<u64>,
    /// Packets after the last that were counted as late or discarded: they are not lost.
    accounted: u64,
}

impl ReorderQueue {
    /// A queue of at most `most` packets. Delays are counted from `start`.
    pub(super) fn new(start: Instant, most: usize) -> Self {
        let (reception, waiting) = (Reception::new(), VecDeque::new());
        Self { start, most, reception, waiting, taken: None, counts: PacketCounts::default() }
    }

    /// Takes a packet that came at `arrival`. What lies before `filled`, on the clock of the stream that is being taken, has been
    /// filled already. True: another stream begins with it.
    pub(super) fn push(&mut self, arrival: Instant, packet: RtpAudio, filled: Option<RtpTime>) -> bool {
        self.counts.received += 1;
        let ticks = match packet_ticks(&packet.payload) {
            Ok(ticks) => i64::from(ticks),
            Err(_) if packet.payload.is_empty() => 0,
            Err(_) => {
                self.counts.malformed += 1;
                return false;
            }
        };
        let admitted = self.reception.admit(arrival, signed_ticks(self.start, arrival), &packet, ticks > 0);
        match admitted {
            Admitted::Fresh => {}
            Admitted::Restart => self.counts.resyncs += 1,
            Admitted::Duplicate => self.counts.duplicate += 1,
            Admitted::Stray => self.counts.discarded += 1,
        }
        if matches!(admitted, Admitted::Fresh | Admitted::Restart) && !self.is_late(&packet, ticks, filled) {
            self.sort_in(arrival, packet, ticks);
        }
        admitted == Admitted::Restart
    }

    /// Whether the packet's time has been filled with something else; counts it then.
    fn is_late(&mut self, packet: &RtpAudio, ticks: i64, filled: Option<RtpTime>) -> bool {
        let epoch = self.reception.epoch();
        let Some(taken) = self.taken.as_mut().filter(|taken| taken.epoch == epoch) else { return false };
        if taken.last.is_some_and(|last| packet.sequence <= last) {
            if packet.sequence > taken.first {
                self.counts.lost = self.counts.lost.saturating_sub(1);
            }
        } else if ticks > 0 && filled.is_some_and(|filled| packet.time.plus(ticks).since(filled) <= 0) {
            taken.accounted += 1;
        } else {
            return false;
        }
        self.counts.late += 1;
        true
    }

    fn sort_in(&mut self, arrival: Instant, packet: RtpAudio, ticks: i64) {
        if self.waiting.len() == self.most {
            self.waiting.pop_front();
            self.counts.discarded += 1;
            if let Some(taken) = &mut self.taken {
                taken.accounted += 1;
            }
        }
        let epoch = self.reception.epoch();
        let RtpAudio { sequence, time, payload, .. } = packet;
        let behind = self.waiting.iter().rev().take_while(|other| (other.epoch, other.sequence) > (epoch, sequence)).count();
        self.waiting.insert(self.waiting.len() - behind, Queued { epoch, sequence, time, ticks, arrival, payload });
    }

    /// Packets that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The first packet that waits.
    pub(super) fn front(&self) -> Option<&Queued> {
        self.waiting.front()
    }

    /// The first packet that waits is of another stream than those that were taken: [`Self::begin`] it before it is taken.
    pub(super) fn is_at_start(&self) -> bool {
        self.front().is_some_and(|front| self.taken.as_ref().is_none_or(|taken| taken.epoch != front.epoch))
    }

    /// The stream of the first packet that waits begins with it.
    pub(super) fn begin(&mut self) {
        if let Some(front) = self.waiting.front() {
            self.taken = Some(Taken { epoch: front.epoch, first: front.sequence, last: None, accounted: 0 });
        }
    }

    /// The first packet that waits follows the one that was taken last.
    pub(super) fn is_next(&self) -> bool {
        let (Some(front), Some(taken)) = (self.front(), &self.taken) else { return false };
        taken.epoch == front.epoch && taken.last.is_some_and(|last| front.sequence == last.wrapping_add(1))
    }

    /// Packets that are missing between the one that was taken last and the first that waits.
    pub(super) fn missing(&self) -> u64 {
        let (Some(front), Some(taken)) = (self.front(), &self.taken) else { return 0 };
        let between = taken.last.map_or(0, |last| front.sequence.wrapping_sub(last).wrapping_sub(1));
        between.saturating_sub(taken.accounted)
    }

    /// The first packet that waits. Those that are missing before it are lost.
    pub(super) fn take(&mut self) -> Option<Queued> {
        self.counts.lost += self.missing();
        let packet = self.waiting.pop_front()?;
        if let Some(taken) = &mut self.taken {
            (taken.last, taken.accounted) = (Some(packet.sequence), 0);
        }
        Some(packet)
    }

    /// The stream that is being taken is the one whose packets come: the delays are its own.
    pub(super) fn is_current(&self) -> bool {
        self.taken.as_ref().is_some_and(|taken| taken.epoch == self.reception.epoch())
    }

    /// The delays of the stream whose packets come.
    pub(super) const fn delay(&self) -> &Delay {
        &self.reception.delay
    }

    /// The source of the stream whose packets come.
    pub(super) fn ssrc(&self) -> Option<u32> {
        self.reception.ssrc()
    }
}
