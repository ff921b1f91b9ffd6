//! Mending what a crash left, by the files' bytes and not by what their headers say.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::RecordError;
use super::finish::{finish_folder, read_events};
use super::layout::{CallInfo, NamedTrack, Part, TrackInfo, part_name};
use super::track::{HEADER, LONGEST_PART, header};
use crate::audio::Rate;
use crate::call::{Event, LoggedEvent};

/// What a repair did to one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mended {
    /// The file.
    pub path: PathBuf,
    /// Samples a channel that its header told of before.
    pub samples_before: u64,
    /// Samples a channel that it holds.
    pub samples: u64,
}

/// The layout of a WAV file's bytes.
struct Shape {
    rate: Rate,
    channels: u16,
    data_at: u64,
    header_bytes: u64,
}

/// Mends a call's folder: every track's header, then all the files that are made at a call's end. A chat lasted to its last event.
///
/// # Errors
/// A [`RecordError`] that names the file that cannot be read, mended or written.
pub fn repair_folder(folder: &Path) -> Result<(CallInfo, Vec<Mended>), RecordError> {
    let mut info = CallInfo::read(folder)?;
    let mut mended = Vec::new();
    for (name, track) in [("caller", &mut info.caller), ("agent", &mut info.agent)] {
        if let Some(track) = track {
            *track = repair_track(folder, name, track.rate, &mut mended)?;
        }
    }
    for NamedTrack { name, track } in &mut info.more_tracks {
        // The process was killed before it could make the file.
        if folder.join(part_name(name, 1)).exists() {
            *track = repair_track(folder, name, track.rate, &mut mended)?;
        }
    }
    if info.end.is_none() {
        for LoggedEvent { at_ms, event, .. } in read_events(folder)? {
            info.duration_ms = Some(at_ms);
            match event {
                Event::Started { wall } => info.started_at = wall,
                Event::Ended(end) => info.end = Some(end),
                _ => {}
            }
        }
        info.repaired = true;
    }
    Ok((finish_folder(folder, info, LONGEST_PART)?, mended))
}

/// Mends the header of one WAV file. `rate` is for a file whose header was never written; a readable header's own counts.
///
/// # Errors
/// A [`RecordError`] that names the file, when it is no WAV file or its rate is not known.
pub fn repair_file(path: &Path, rate: Option<Rate>) -> Result<Mended, RecordError> {
    let io = |source| RecordError::Read { path: path.to_owned(), source };
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let mut start = vec![0; length.min(4096) as usize];
    file.read_exact_at(&mut start, 0).map_err(io)?;
    let shape = shape_of(path, &start, rate)?;
    let frame = u64::from(shape.channels) * 2;
    let samples = length.saturating_sub(shape.data_at) / frame;
    let bytes = samples * frame;
    let write = |source| RecordError::Write { path: path.to_owned(), source };
    if u32::try_from(shape.data_at + bytes).is_err() {
        let problem = "more than 4 GiB of audio: no WAV header can tell of it".to_owned();
        return Err(RecordError::Malformed { path: path.to_owned(), problem });
    }
    if shape.data_at == HEADER {
        file.write_all_at(&header(shape.rate, shape.channels, bytes), 0).map_err(write)?;
    } else {
        let riff = (shape.data_at + bytes - 8) as u32;
        file.write_all_at(&riff.to_le_bytes(), 4).map_err(write)?;
        file.write_all_at(&(bytes as u32).to_le_bytes(), shape.data_at - 4).map_err(write)?;
    }
    // Half a sample at the end belongs to nothing; a file shorter than its header grows to it.
    file.set_len(shape.data_at + bytes).map_err(write)?;
    Ok(Mended { path: path.to_owned(), samples_before: shape.header_bytes / frame, samples })
}

fn repair_track(folder: &Path, name: &str, rate: Rate, mended: &mut Vec<Mended>) -> Result<TrackInfo, RecordError> {
    let mut track = TrackInfo { rate, samples: 0, parts: Vec::new() };
    for number in 1.. {
        let file = part_name(name, number);
        let path = folder.join(&file);
        if number > 1 && !path.exists() {
            break;
        }
        let result = repair_file(&path, Some(rate))?;
        track.parts.push(Part { file, first_sample: track.samples, samples: result.samples });
        track.samples += result.samples;
        mended.push(result);
    }
    Ok(track)
}

/// Finds the audio in a file's first bytes: chunk by chunk, or, where no header was written, after the room that it takes.
fn shape_of(path: &Path, start: &[u8], rate: Option<Rate>) -> Result<Shape, RecordError> {
    let malformed = |problem: &str| RecordError::Malformed { path: path.to_owned(), problem: problem.to_owned() };
    if start.iter().take(HEADER as usize).all(|byte| *byte == 0) {
        let rate = rate.ok_or_else(|| malformed("its header was never written, and nothing tells its rate: give --rate"))?;
        return Ok(Shape { rate, channels: 1, data_at: HEADER, header_bytes: 0 });
    }
    if start.len() < 12 || &start[..4] != b"RIFF" || &start[8..12] != b"WAVE" {
        return Err(malformed("not a WAV file"));
    }
    let u16_at = |at: usize| start.get(at..at + 2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    let u32_at = |at: usize| start.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let mut format = None;
    let mut at = 12;
    while let (Some(id), Some(size)) = (start.get(at..at + 4), u32_at(at + 4)) {
        if id == b"fmt " {
            let (tag, channels) = (u16_at(at + 8), u16_at(at + 10));
            let (hz, bits) = (u32_at(at + 12), u16_at(at + 22));
            // 0xFFFE is WAVE_FORMAT_EXTENSIBLE, which wraps PCM too.
            let (Some(1 | 0xFFFE), Some(channels @ 1..), Some(hz), Some(16)) = (tag, channels, hz, bits) else {
                return Err(malformed("not 16-bit PCM"));
            };
            format = Some((Rate::try_from(hz).map_err(|error| malformed(&error.to_string()))?, channels));
        } else if id == b"data" {
            let (rate, channels) = format.ok_or_else(|| malformed("its data comes before its format"))?;
            return Ok(Shape { rate, channels, data_at: at as u64 + 8, header_bytes: size.into() });
        }
        at = at.saturating_add(8).saturating_add(size as usize).saturating_add(size as usize % 2);
    }
    Err(malformed("no audio found in its first 4 KiB"))
}
