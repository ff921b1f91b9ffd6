//! One track on disk: WAV files whose headers are right after every flush, one after the other when one grows too long.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::RecordError;
use super::layout::{Part, TrackInfo, part_name};
use crate::audio::{Rate, to_s16le};
use crate::call::SampleIndex;

/// The length of the canonical WAV header: RIFF, `fmt ` of 16 bytes, `data`.
pub(super) const HEADER: u64 = 44;
/// The data that a part may hold: below 2 GiB, which every reader takes for granted (a RIFF size is 32 bits, some read it signed).
pub const LONGEST_PART: u64 = (1 << 31) - (1 << 16);
const ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];

/// Writes a track.
#[derive(Debug)]
pub(super) struct TrackWriter {
    folder: PathBuf,
    name: String,
    rate: Rate,
    channels: u16,
    longest_part: u64,
    file: File,
    parts: Vec<Part>,
    written: u64,
    dirty: bool,
}

impl TrackWriter {
    /// Creates the first part. `longest_part` is in bytes of audio.
    pub(super) fn create(folder: &Path, name: &str, rate: Rate, channels: u16, longest_part: u64) -> Result<Self, RecordError> {
        let (file, part) = new_part(folder, name, 1, 0, rate, channels)?;
        let (folder, name) = (folder.to_owned(), name.to_owned());
        Ok(Self { folder, name, rate, channels, longest_part, file, parts: vec![part], written: 0, dirty: false })
    }

    /// Samples a second.
    pub(super) fn rate(&self) -> Rate {
        self.rate
    }

    /// Samples a channel so far.
    pub(super) fn samples(&self) -> u64 {
        self.written
    }

    /// Puts s16le `bytes` at `at`: what lies between is silence, what is already written stays.
    pub(super) fn put(&mut self, at: SampleIndex, bytes: &[u8]) -> Result<(), RecordError> {
        self.pad_to(at)?;
        let overlap = (self.written - at.get()) * self.frame_bytes();
        self.append(bytes.get(overlap as usize..).unwrap_or_default())
    }

    /// Silence up to `at`.
    pub(super) fn pad_to(&mut self, at: SampleIndex) -> Result<(), RecordError> {
        let mut missing = (at - SampleIndex::new(self.written)) * self.frame_bytes();
        while missing > 0 {
            let chunk = missing.min(ZEROS.len() as u64);
            self.append(&ZEROS[..chunk as usize])?;
            missing -= chunk;
        }
        Ok(())
    }

    /// Writes the header anew, so that any reader sees all that was put.
    pub(super) fn flush(&mut self) -> Result<(), RecordError> {
        if self.dirty {
            let part = self.part();
            let bytes = part.samples * self.frame_bytes();
            let path = self.folder.join(&part.file);
            let header = header(self.rate, self.channels, bytes);
            self.file.write_all_at(&header, 0).map_err(|source| RecordError::Write { path, source })?;
            self.dirty = false;
        }
        Ok(())
    }

    /// What is on disk.
    pub(super) fn info(&self) -> TrackInfo {
        TrackInfo { rate: self.rate, samples: self.written, parts: self.parts.clone() }
    }

    fn append(&mut self, mut bytes: &[u8]) -> Result<(), RecordError> {
        while !bytes.is_empty() {
            let frame = self.frame_bytes();
            let room = (self.longest_part / frame).saturating_sub(self.part().samples) * frame;
            if room == 0 {
                self.next_part()?;
                continue;
            }
            let take = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            let path = self.folder.join(&self.part().file);
            self.file.write_all(&bytes[..take]).map_err(|source| RecordError::Write { path, source })?;
            let samples = take as u64 / frame;
            self.written += samples;
            self.parts.last_mut().expect("a track has a part from the start").samples += samples;
            self.dirty = true;
            bytes = &bytes[take..];
        }
        Ok(())
    }

    fn next_part(&mut self) -> Result<(), RecordError> {
        self.flush()?;
        let number = self.parts.len() + 1;
        let (file, part) = new_part(&self.folder, &self.name, number, self.written, self.rate, self.channels)?;
        self.file = file;
        self.parts.push(part);
        Ok(())
    }

    fn part(&self) -> &Part {
        self.parts.last().expect("a track has a part from the start")
    }

    fn frame_bytes(&self) -> u64 {
        u64::from(self.channels) * 2
    }
}

fn new_part(
    folder: &Path,
    name: &str,
    number: usize,
    first_sample: u64,
    rate: Rate,
    channels: u16,
) -> Result<(File, Part), RecordError> {
    let file_name = part_name(name, number);
    let path = folder.join(&file_name);
    let create = || -> io::Result<File> {
        let mut file = File::create(&path)?;
        file.write_all(&header(rate, channels, 0))?;
        Ok(file)
    };
    let file = create().map_err(|source| RecordError::Create { path: path.clone(), source })?;
    Ok((file, Part { file: file_name, first_sample, samples: 0 }))
}

/// A canonical PCM WAV header for `bytes` of audio (RIFF WAVE, format tag 1, 16 bits).
pub(super) fn header(rate: Rate, channels: u16, bytes: u64) -> [u8; HEADER as usize] {
    let bytes = bytes as u32;
    let frame = channels * 2;
    let mut header = [0; HEADER as usize];
    let mut at = 0;
    let mut put = |field: &[u8]| {
        header[at..at + field.len()].copy_from_slice(field);
        at += field.len();
    };
    put(b"RIFF");
    put(&(bytes + 36).to_le_bytes());
    put(b"WAVEfmt ");
    put(&16_u32.to_le_bytes());
    put(&1_u16.to_le_bytes());
    put(&channels.to_le_bytes());
    put(&rate.hz().to_le_bytes());
    put(&(rate.hz() * u32::from(frame)).to_le_bytes());
    put(&frame.to_le_bytes());
    put(&16_u16.to_le_bytes());
    put(b"data");
    put(&bytes.to_le_bytes());
    header
}

/// Reads a mono track, part by part.
pub(super) struct TrackReader {
    folder: PathBuf,
    parts: std::vec::IntoIter<Part>,
    current: Option<(PathBuf, hound::WavIntoSamples<io::BufReader<File>, i16>)>,
}

impl TrackReader {
    pub(super) fn open(folder: &Path, track: &TrackInfo) -> Self {
        Self { folder: folder.to_owned(), parts: track.parts.clone().into_iter(), current: None }
    }

    /// Up to `most` samples more; empty at the end.
    pub(super) fn read(&mut self, most: usize) -> Result<Vec<i16>, RecordError> {
        let mut out = Vec::with_capacity(most);
        while out.len() < most {
            if self.current.is_none() {
                let Some(part) = self.parts.next() else { break };
                let path = self.folder.join(&part.file);
                let reader = hound::WavReader::open(&path).map_err(|source| RecordError::read(&path, source))?;
                self.current = Some((path, reader.into_samples()));
            }
            if let Some((path, samples)) = &mut self.current {
                match samples.next() {
                    Some(sample) => out.push(sample.map_err(|source| RecordError::read(path, source))?),
                    None => self.current = None,
                }
            }
        }
        Ok(out)
    }
}

/// Writes the stereo file of two mono tracks at the higher of their rates: left caller, right agent.
pub(super) fn write_stereo(
    folder: &Path,
    caller: &TrackInfo,
    agent: &TrackInfo,
    longest_part: u64,
) -> Result<TrackInfo, RecordError> {
    let rate = caller.rate.max(agent.rate);
    let mut left = Channel::open(folder, caller, rate);
    let mut right = Channel::open(folder, agent, rate);
    let mut out = TrackWriter::create(folder, "stereo", rate, 2, longest_part)?;
    loop {
        left.fill()?;
        right.fill()?;
        if left.ready.is_empty() && right.ready.is_empty() {
            break;
        }
        let both = match (left.done, right.done) {
            (true, true) => left.ready.len().max(right.ready.len()),
            (true, false) => right.ready.len(),
            (false, true) => left.ready.len(),
            (false, false) => left.ready.len().min(right.ready.len()),
        };
        let sample = |channel: &Channel, at: usize| channel.ready.get(at).copied().unwrap_or(0);
        let interleaved: Vec<i16> = (0..both).flat_map(|at| [sample(&left, at), sample(&right, at)]).collect();
        left.take(both);
        right.take(both);
        let at = SampleIndex::new(out.samples());
        out.put(at, &to_s16le(&interleaved))?;
    }
    out.flush()?;
    Ok(out.info())
}

/// One channel of the stereo file on its way there.
struct Channel {
    reader: TrackReader,
    resampler: Option<crate::audio::Resampler>,
    ready: Vec<i16>,
    done: bool,
}

impl Channel {
    fn open(folder: &Path, track: &TrackInfo, rate: Rate) -> Self {
        let resampler = (track.rate != rate).then(|| crate::audio::Resampler::new(track.rate, rate));
        Self { reader: TrackReader::open(folder, track), resampler, ready: Vec::new(), done: false }
    }

    fn fill(&mut self) -> Result<(), RecordError> {
        const AT_ONCE: usize = 16 * 1024;
        while self.ready.len() < AT_ONCE && !self.done {
            let samples = self.reader.read(AT_ONCE)?;
            self.done = samples.is_empty();
            match &mut self.resampler {
                None => self.ready.extend(samples),
                Some(resampler) if self.done => resampler.flush(&mut self.ready),
                Some(resampler) => resampler.push(&samples, &mut self.ready),
            }
        }
        Ok(())
    }

    fn take(&mut self, samples: usize) {
        self.ready.drain(..samples.min(self.ready.len()));
    }
}
