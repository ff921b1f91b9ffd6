//! What is made when a call is over: the stereo file, the labels and the whole `call.json`.

use std::io::Write;
use std::path::Path;

use super::RecordError;
use super::layout::{AppliedEffect, CALL_JSON, CallInfo, LABELS_TXT, TRANSCRIPT_JSON, read_log};
use super::track::write_stereo;
use super::transcript::transcript;
use crate::call::{Event, LoggedEvent, Side};
use crate::files;

/// Writes `call.json` whole or not at all.
pub(super) fn write_call_json(folder: &Path, info: &CallInfo) -> Result<(), RecordError> {
    let mut json = serde_json::to_vec_pretty(info).expect("call.json is plain data with string keys");
    json.push(b'\n');
    write_whole(&folder.join(CALL_JSON), &json)
}

/// Makes stereo.wav, labels.txt and call.json from the tracks that `info` lists and the events on disk; of a chat
/// transcript.json and call.json.
pub(super) fn finish_folder(folder: &Path, mut info: CallInfo, longest_part: u64) -> Result<CallInfo, RecordError> {
    if let Some([caller, agent]) = info.tracks() {
        let longer_ms = [caller, agent].map(|track| track.rate.millis_of(track.samples)).into_iter().fold(0.0, f64::max);
        info.stereo = Some(write_stereo(folder, caller, agent, longest_part)?);
        info.duration_ms = Some(longer_ms);
        info.effects = effects(&read_events(folder)?);
        write_labels(folder, &info, &[])?;
    } else {
        let mut json = serde_json::to_vec_pretty(&transcript(&read_events(folder)?)).expect("a transcript is plain data");
        json.push(b'\n');
        write_whole(&folder.join(TRANSCRIPT_JSON), &json)?;
    }
    write_call_json(folder, &info)?;
    Ok(info)
}

/// Writes a file beside its place and moves it there: a reader sees the old one or the new one.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), RecordError> {
    files::write_whole(path, 0o644, |file| file.write_all(bytes))
        .map_err(|source| RecordError::Write { path: path.to_owned(), source })
}

/// The events of a call's folder, without one that a crash tore off.
pub(crate) fn read_events(folder: &Path) -> Result<Vec<LoggedEvent>, RecordError> {
    Ok(read_log(folder)?.0)
}

/// The caller's effects with their ends.
fn effects(events: &[LoggedEvent]) -> Vec<AppliedEffect> {
    let mut numbered: Vec<(u32, AppliedEffect)> = Vec::new();
    for logged in events.iter().filter(|logged| logged.side == Some(Side::Caller)) {
        match &logged.event {
            Event::EffectStarted { effect, what, sample } => {
                numbered.push((*effect, AppliedEffect { effect: what.clone(), from_sample: *sample, to_sample: None }));
            }
            Event::EffectEnded { effect, sample } => {
                if let Some((_, applied)) = numbered.iter_mut().rev().find(|(number, _)| number == effect) {
                    applied.to_sample = Some(*sample);
                }
            }
            _ => {}
        }
    }
    numbered.into_iter().map(|(_, applied)| applied).collect()
}

/// Writes labels.txt: Audacity labels (start and end in seconds, a tab between, then the text) of the call's events and of
/// `more`, for example of what was measured. A chat has no audio to label, and gets none.
///
/// # Errors
/// [`RecordError`], naming the file that cannot be read or written.
pub fn write_labels(folder: &Path, info: &CallInfo, more: &[(f64, f64, String)]) -> Result<(), RecordError> {
    let Some([caller_track, agent_track]) = info.tracks() else { return Ok(()) };
    let mut labels = more.to_vec();
    let in_caller = |sample: u64| caller_track.rate.millis_of(sample) / 1000.0;
    for AppliedEffect { effect, from_sample, to_sample } in &info.effects {
        let to = to_sample.unwrap_or(caller_track.samples);
        labels.push((in_caller(*from_sample), in_caller(to), format!("caller: {}", effect.kind.name())));
    }
    let mut open: [Option<f64>; 2] = [None, None];
    let end = info.duration_ms.unwrap_or_default() / 1000.0;
    for LoggedEvent { at_ms, side, event } in read_events(folder)? {
        let rate = match side {
            Some(Side::Agent) => agent_track.rate,
            _ => caller_track.rate,
        };
        let in_track = |sample: u64| rate.millis_of(sample) / 1000.0;
        let slot = usize::from(side == Some(Side::Agent));
        let who = side.map_or("call", Side::name);
        match event {
            Event::SpeechStarted { sample, interruption, .. } => {
                let at = in_track(sample);
                open[slot] = Some(at);
                labels.extend(interruption.map(|condition| (at, at, format!("{who} interrupts: line {condition}"))));
            }
            Event::SpeechStopped { sample, interrupted, .. } => {
                let to = in_track(sample);
                let note = if interrupted { " speaks, is interrupted" } else { " speaks" };
                labels.push((open[slot].take().unwrap_or(to), to, format!("{who}{note}")));
            }
            Event::Discarded { discarded_ms, sample } => {
                let at = in_track(sample);
                labels.push((at, at, format!("{who}: {discarded_ms:.0} ms discarded")));
            }
            Event::Backchannel { text, sample, end_sample } => {
                labels.push((
                    in_track(sample),
                    in_track(end_sample),
                    format!("{who} says aside: {}", text.replace(['\t', '\n', '\r'], " ")),
                ));
            }
            Event::ScriptLine { condition, text } => {
                let at = at_ms / 1000.0;
                labels.push((at, at, format!("line {condition}: {}", text.replace(['\t', '\n', '\r'], " "))));
            }
            Event::Ended(call_end) => {
                let reason = serde_json::to_value(call_end.reason).expect("a reason is a plain name");
                labels.push((at_ms / 1000.0, at_ms / 1000.0, format!("end: {}", reason.as_str().unwrap_or_default())));
            }
            _ => {}
        }
    }
    for (slot, start) in open.into_iter().enumerate() {
        labels.extend(start.map(|from| (from, end.max(from), format!("{} speaks", Side::BOTH[slot].name()))));
    }
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let text: String = labels.iter().map(|(from, to, label)| format!("{from:.6}\t{to:.6}\t{label}\n")).collect();
    write_whole(&folder.join(LABELS_TXT), text.as_bytes())
}
