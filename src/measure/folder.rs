//! Reads a call's folder: what was recorded, and what was logged.

use std::path::Path;

use super::onset::{OnsetDetector, Stretch};
use crate::audio::Rate;
use crate::call::{LoggedEvent, Side};
use crate::error::FileError;
use crate::record::{CallInfo, part_name, read_log};

/// What was recorded: a call with audio, or a chat.
#[derive(Debug)]
pub(super) enum Recorded {
    Call(Folder),
    Chat(Chat),
}

/// A chat as its files tell it.
#[derive(Debug)]
pub(super) struct Chat {
    pub(super) info: CallInfo,
    pub(super) events: Vec<LoggedEvent>,
    /// What was odd about the files.
    pub(super) notes: Vec<String>,
}

/// A call as its files tell it.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) info: CallInfo,
    pub(super) events: Vec<LoggedEvent>,
    pub(super) caller: Track,
    pub(super) agent: Track,
    /// What was odd about the files.
    pub(super) notes: Vec<String>,
}

/// What a track's samples tell.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) rate: Rate,
    pub(super) duration_ms: f64,
    pub(super) speech: Vec<Stretch>,
    /// Mean power of every 10 ms.
    pub(super) powers: Vec<f32>,
    pub(super) peak: u16,
    /// Samples at full scale, in runs of at least three.
    pub(super) clipped: u64,
}

impl Recorded {
    pub(super) fn read(folder: &Path) -> Result<Self, FileError> {
        let info = CallInfo::read(folder)?;
        let (events, torn) = read_log(folder)?;
        let mut notes = Vec::new();
        if torn {
            notes.push("the last event was torn off".to_owned());
        }
        if info.end.is_none() {
            notes.push("the call was not recorded to its end".to_owned());
        }
        let Some([caller, agent]) = info.tracks().map(|tracks| tracks.map(|track| track.rate)) else {
            return Ok(Self::Chat(Chat { info, events, notes }));
        };
        let caller = read_track(folder, "caller", caller, &mut notes)?;
        let agent = read_track(folder, "agent", agent, &mut notes)?;
        Ok(Self::Call(Folder { info, events, caller, agent, notes }))
    }
}

impl Folder {
    pub(super) fn track(&self, side: Side) -> &Track {
        match side {
            Side::Caller => &self.caller,
            Side::Agent => &self.agent,
        }
    }
}

fn read_track(folder: &Path, name: &str, rate: Rate, notes: &mut Vec<String>) -> Result<Track, FileError> {
    let mut gauge = Gauge::new(rate);
    for number in 1.. {
        let path = folder.join(part_name(name, number));
        if number > 1 && !path.exists() {
            break;
        }
        let malformed = |problem: String| FileError::malformed(&path, problem);
        let mut reader = match hound::WavReader::open(&path) {
            Ok(reader) => reader,
            Err(hound::Error::IoError(source)) => return Err(FileError::read(&path, source)),
            Err(error) => return Err(malformed(format!("not a WAV file that can be read: {error}"))),
        };
        let spec = reader.spec();
        if (spec.channels, spec.sample_rate, spec.bits_per_sample) != (1, rate.hz(), 16) {
            let problem = format!("{} channels at {} Hz; call.json says 1 at {rate}", spec.channels, spec.sample_rate);
            return Err(malformed(problem));
        }
        let mut piece = Vec::with_capacity(16 * 1024);
        for sample in reader.samples::<i16>() {
            let Ok(sample) = sample else {
                notes.push(format!("{} ends before its header says so", part_name(name, number)));
                break;
            };
            piece.push(sample);
            if piece.len() == piece.capacity() {
                gauge.push(&piece);
                piece.clear();
            }
        }
        gauge.push(&piece);
    }
    Ok(gauge.finish())
}

/// Takes a track's samples in.
struct Gauge {
    rate: Rate,
    detector: OnsetDetector,
    samples: u64,
    powers: Vec<f32>,
    sum: f64,
    count: usize,
    peak: u16,
    run: u64,
    clipped: u64,
}

impl Gauge {
    fn new(rate: Rate) -> Self {
        let detector = OnsetDetector::new(rate);
        Self { rate, detector, samples: 0, powers: Vec::new(), sum: 0.0, count: 0, peak: 0, run: 0, clipped: 0 }
    }

    fn push(&mut self, samples: &[i16]) {
        self.detector.push(samples);
        self.samples += samples.len() as u64;
        let ten_ms = self.rate.hz() as usize / 100;
        for sample in samples {
            self.peak = self.peak.max(sample.unsigned_abs());
            self.sum += f64::from(*sample).powi(2);
            self.count += 1;
            if self.count == ten_ms {
                self.powers.push((self.sum / ten_ms as f64) as f32);
                (self.sum, self.count) = (0.0, 0);
            }
            if sample.unsigned_abs() >= 32_767 {
                self.run += 1;
            } else {
                self.end_run();
            }
        }
    }

    fn end_run(&mut self) {
        if self.run >= 3 {
            self.clipped += self.run;
        }
        self.run = 0;
    }

    fn finish(mut self) -> Track {
        self.end_run();
        Track {
            rate: self.rate,
            duration_ms: self.rate.millis_of(self.samples),
            speech: self.detector.finish(),
            powers: self.powers,
            peak: self.peak,
            clipped: self.clipped,
        }
    }
}
