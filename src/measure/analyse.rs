//! From tracks and events to numbers.

use serde::{Deserialize, Serialize};

use super::decibel::dbfs_of;
use super::figure::{Figure, percentile, tidy};
use super::folder::Folder;
use super::onset::Stretch;
use crate::call::{CallIds, Event, LineCounts, LoggedEvent, MarkSource, Side};

/// Two stretches of the same side with less than this between them, and nobody else speaking, are one turn, in ms.
const TURN_PAUSE_MS: f64 = 700.0;
/// Both silent for longer than this is dead air, in ms.
const DEAD_AIR_MS: f64 = 2000.0;
/// The agent is spoken over when it has been speaking for this long, in ms: less is two who begin together.
const ALREADY_MS: f64 = 100.0;
/// An agent that is silent within this time of the caller's onset has given way, in ms.
const YIELD_MS: f64 = 2000.0;
/// An agent's speech that is cut with the caller silent for this long before was cut for nothing, in ms.
const FALSE_STOP_MS: f64 = 1000.0;

const DETECTED: &str = "energy detector on the track, 1 ms grid (see `cargo run --release --example onset_truth`)";
const DETECTED_ERROR: &str = "p95 within 10 ms at 20 dB SNR and better; at 10 dB the softest consonants are found up to 90 ms late";

/// All numbers of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    /// The layout's version: 1.
    pub version: u32,
    /// Which call.
    #[serde(flatten)]
    pub ids: CallIds,
    /// How long the recording is.
    pub duration: Figure,
    /// Who spoke when, in order.
    pub turns: Vec<Turn>,
    /// From the end of the caller's speech to the agent's onset.
    pub response_latency: Latency,
    /// From the call's start to the agent's first onset.
    pub first_agent_audio: Figure,
    /// The caller spoke over the agent.
    pub barge_in: BargeIns,
    /// Both spoke.
    pub overlap: Figure,
    /// Neither spoke for more than two seconds.
    pub dead_air: Figure,
    /// What is told of each side alone.
    pub caller: SideMeasures,
    /// As [`Self::caller`].
    pub agent: SideMeasures,
    /// The worst slip of Trunkline's own pacing.
    pub pacing_slip: Figure,
    /// What is told of a chat alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<ChatMeasures>,
    /// What was odd about the files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A chat, counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatMeasures {
    /// Messages of the caller.
    pub caller_messages: Figure,
    /// Messages of the agent.
    pub agent_messages: Figure,
    /// Functions that the agent called.
    pub function_calls: Figure,
    /// Turns of the caller that the agent has not answered.
    pub unanswered: Figure,
}

/// A turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// Whose.
    pub side: Side,
    /// Its first sample, in ms from the call's start.
    pub start_ms: f64,
    /// The first sample after it, in ms.
    pub end_ms: f64,
    /// How the boundaries are known.
    pub known: Known,
}

/// How a boundary is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// The script says so, to the sample.
    Script,
    /// The energy detector found it.
    Detected,
    /// A message of a chat: the event log has its time.
    Logged,
}

/// The agent's answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Each answer.
    pub answers: Vec<Answer>,
    /// Their median.
    pub p50: Figure,
    /// Their 95th percentile.
    pub p95: Figure,
    /// The longest.
    pub max: Figure,
}

/// One answer of the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// When the caller stopped, ms.
    pub caller_end_ms: f64,
    /// When the agent began, ms.
    pub agent_onset_ms: f64,
    /// The time between; below zero when the agent began before the caller had stopped.
    pub latency_ms: f64,
    /// How the caller's end is known.
    pub known: Known,
}

/// What happened when the caller spoke over the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BargeIns {
    /// Each time.
    pub events: Vec<BargeIn>,
    /// Times that the agent's speech was cut although the caller had not spoken.
    pub false_stops: Figure,
    /// How they were found.
    pub method: String,
    /// How far the times may be off.
    pub error: String,
}

/// One interruption.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BargeIn {
    /// When the caller began, ms.
    pub caller_onset_ms: f64,
    /// From there to the moment at which the caller hears the agent no more.
    pub stopped_after_ms: f64,
    /// Audio of the agent that was thrown away.
    pub discarded_ms: f64,
    /// The agent gave way, instead of talking on.
    pub yielded: bool,
    /// The script asked for it.
    pub scripted: bool,
}

/// One side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SideMeasures {
    /// Share of the call's time that it spoke.
    pub talk_ratio: Figure,
    /// Mean level of its speech.
    pub level: Figure,
    /// Its loudest sample.
    pub peak: Figure,
    /// Samples at full scale in runs of three and more.
    pub clipped: Figure,
    /// Frames that came late.
    pub frames_late: Figure,
    /// Frames that were made up for lost ones.
    pub frames_concealed: Figure,
    /// Frames that never came.
    pub frames_lost: Figure,
    /// Frames for it that it did not read.
    pub frames_not_read: Figure,
    /// Seconds of its audio that came in a second in which it spoke, where that was the least: below one it was overloaded.
    #[serde(default = "Figure::unknown")]
    pub received_rate: Figure,
    /// What the line did to its packets, as the receiving jitter buffer counts it; none where the wire has no such buffer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<LineCounts>,
}

/// A stretch of speech and how it is known.
#[derive(Debug, Clone, Copy)]
struct Spoken {
    at: Stretch,
    known: Known,
}

pub(super) fn analyse(folder: Folder) -> Measures {
    let caller = spoken(&folder, Side::Caller);
    let agent = spoken(&folder, Side::Agent);
    let duration_ms = folder.caller.duration_ms.max(folder.agent.duration_ms);
    let latency = latency(&caller, &agent);
    let first = agent.first().map(|speech| speech.at.start_ms);
    let slip = folder.events.iter().filter_map(|event| match event.event {
        Event::PacingSlipped { slipped_ms } => Some(slipped_ms),
        _ => None,
    });
    let slip = slip.fold(0.0, f64::max);
    Measures {
        version: 1,
        ids: folder.info.ids.clone(),
        duration: Figure::new(Some(duration_ms), "ms", "samples of the longer track", "one sample"),
        turns: turns(&caller, &agent),
        response_latency: latency,
        first_agent_audio: Figure::new(first, "ms", DETECTED, DETECTED_ERROR),
        barge_in: barge_ins(&folder, &caller, &agent),
        overlap: overlap(&caller, &agent),
        dead_air: dead_air(&caller, &agent),
        caller: side(&folder, Side::Caller, &caller, duration_ms),
        agent: side(&folder, Side::Agent, &agent, duration_ms),
        pacing_slip: Figure::exact(slip, "ms", "the scripted caller's own clock, from the events"),
        chat: None,
        notes: folder.notes,
    }
}

/// A side's speech: the script's own marks where the caller has them, else what the detector finds.
fn spoken(folder: &Folder, side: Side) -> Vec<Spoken> {
    let track = folder.track(side);
    let mut marked = Vec::new();
    let mut open = None;
    for logged in folder.events.iter().filter(|logged| side == Side::Caller && logged.side == Some(side)) {
        match logged.event {
            Event::SpeechStarted { source: MarkSource::Script, sample, .. } => open = Some(track.rate.millis_of(sample)),
            Event::SpeechStopped { source: MarkSource::Script, sample, .. } => {
                let end_ms = track.rate.millis_of(sample);
                marked.extend(open.take().map(|start_ms| Stretch { start_ms, end_ms }));
            }
            _ => {}
        }
    }
    marked.extend(open.map(|start_ms| Stretch { start_ms, end_ms: track.duration_ms }));
    // What else a script puts on the line is no speech, even where it says nothing.
    let scripted = |logged: &LoggedEvent| {
        let event = &logged.event;
        logged.side == Some(side)
            && matches!(event, Event::ScriptLine { .. } | Event::Backchannel { .. } | Event::EffectStarted { .. })
    };
    let detected = marked.is_empty() && !(side == Side::Caller && folder.events.iter().any(scripted));
    let known = if detected { Known::Detected } else { Known::Script };
    let speech = if detected { track.speech.clone() } else { marked };
    speech.into_iter().map(|at| Spoken { at, known }).collect()
}

fn turns(caller: &[Spoken], agent: &[Spoken]) -> Vec<Turn> {
    let mut all: Vec<(Side, Spoken)> = caller.iter().map(|speech| (Side::Caller, *speech)).collect();
    all.extend(agent.iter().map(|speech| (Side::Agent, *speech)));
    all.sort_by(|a, b| a.1.at.start_ms.total_cmp(&b.1.at.start_ms));
    let mut turns: Vec<Turn> = Vec::new();
    for (side, Spoken { at, known }) in all {
        match turns.last_mut() {
            Some(last) if last.side == side && at.start_ms - last.end_ms < TURN_PAUSE_MS => {
                last.end_ms = tidy(last.end_ms.max(at.end_ms));
            }
            _ => turns.push(Turn { side, start_ms: tidy(at.start_ms), end_ms: tidy(at.end_ms), known }),
        }
    }
    turns
}

/// An answer belongs to the caller's last speech before it; speech of the caller that the caller itself goes on from, with
/// no answer between, has none.
fn latency(caller: &[Spoken], agent: &[Spoken]) -> Latency {
    let mut answers = Vec::new();
    for (at, speech) in caller.iter().enumerate() {
        let next = caller.get(at + 1).map_or(f64::INFINITY, |next| next.at.start_ms);
        let (start, end) = (speech.at.start_ms, speech.at.end_ms);
        // An agent that begins within the caller's speech and outlasts it has answered early.
        let answers_it = |reply: &&Spoken| reply.at.start_ms > start && reply.at.start_ms < next && reply.at.end_ms > end;
        if let Some(reply) = agent.iter().find(answers_it) {
            answers.push(Answer {
                caller_end_ms: tidy(end),
                agent_onset_ms: tidy(reply.at.start_ms),
                latency_ms: tidy(reply.at.start_ms - end),
                known: speech.known,
            });
        }
    }
    let scripted = answers.iter().all(|answer| answer.known == Known::Script);
    let from = if scripted { "the script's end of the caller's speech" } else { "the detected end of the caller's speech" };
    let span = format!("from {from} to the agent's detected onset");
    latency_of(answers, &span, DETECTED_ERROR)
}

/// The figures of these answers; `span` says from where to where each is measured.
pub(super) fn latency_of(answers: Vec<Answer>, span: &str, error: &str) -> Latency {
    let mut sorted: Vec<f64> = answers.iter().map(|answer| answer.latency_ms).collect();
    sorted.sort_by(f64::total_cmp);
    let figure = |share: f64, name: &str| {
        let method = format!("{name} of {} answers, each {span}", sorted.len());
        Figure::new(percentile(&sorted, share), "ms", &method, error)
    };
    let p95 = figure(0.95, "95th percentile (linear between ranks)");
    Latency { p50: figure(0.5, "median"), p95, max: figure(1.0, "maximum"), answers }
}

fn barge_ins(folder: &Folder, caller: &[Spoken], agent: &[Spoken]) -> BargeIns {
    let agent_rate = folder.agent.rate;
    let discards: Vec<(f64, f64)> = folder
        .events
        .iter()
        .filter(|logged| logged.side == Some(Side::Agent))
        .filter_map(|logged| match logged.event {
            Event::Discarded { discarded_ms, sample } => Some((agent_rate.millis_of(sample), discarded_ms)),
            _ => None,
        })
        .collect();
    let caller_rate = folder.caller.rate;
    let scripted: Vec<f64> = folder
        .events
        .iter()
        .filter(|logged| logged.side == Some(Side::Caller))
        .filter_map(|logged| match logged.event {
            Event::SpeechStarted { sample, interruption: Some(_), .. } => Some(caller_rate.millis_of(sample)),
            _ => None,
        })
        .collect();
    let mut events = Vec::new();
    for speech in caller {
        let onset = speech.at.start_ms;
        let near = |(at, _): &&(f64, f64)| (onset - TURN_PAUSE_MS..onset + YIELD_MS).contains(at);
        let discarded_ms = discards.iter().filter(near).fold(0.0, |sum, (_, ms)| sum + ms);
        let Some(agent_end) = spoken_over(&speech.at, agent, discarded_ms > 0.0) else { continue };
        let stopped_after_ms = (agent_end - onset).max(0.0);
        events.push(BargeIn {
            caller_onset_ms: tidy(onset),
            stopped_after_ms: tidy(stopped_after_ms),
            discarded_ms: tidy(discarded_ms),
            yielded: stopped_after_ms <= YIELD_MS,
            // Where the caller's marks are its script's, they are the same number.
            scripted: scripted.iter().any(|at| (at - onset).abs() < 1.0),
        });
    }
    let spoke_before = |at: f64| caller.iter().any(|speech| speech.at.start_ms <= at && speech.at.end_ms > at - FALSE_STOP_MS);
    let false_stops = discards.iter().filter(|(at, _)| !spoke_before(*at)).count();
    BargeIns {
        events,
        false_stops: Figure::new(
            Some(false_stops as f64),
            "count",
            "audio of the agent was discarded though the caller had not spoken within the last second",
            "none: counted from the events",
        ),
        method: "from the caller's onset, where the agent had spoken for 100 ms or more and had not been silent for 700 ms, to \
                 the end of that speech in the agent's track, pauses of less than 700 ms included as long as the caller speaks; \
                 it yielded when that took at most 2 s"
            .to_owned(),
        error: DETECTED_ERROR.to_owned(),
    }
}

/// Where the agent's speech ends that the caller's speech begins over; none where it begins over nothing. A pause of the agent
/// is over when it goes on while the caller speaks; one that it never ends was cut if there was more to say.
fn spoken_over(caller: &Stretch, agent: &[Spoken], cut: bool) -> Option<f64> {
    let onset = caller.start_ms;
    let before = agent.iter().rposition(|speech| speech.at.start_ms + ALREADY_MS <= onset)?;
    let mut end = agent[before].at.end_ms;
    let in_pause = end <= onset;
    if in_pause && onset - end >= TURN_PAUSE_MS {
        return None;
    }
    let mut goes_on = false;
    for speech in &agent[before + 1..] {
        if speech.at.start_ms >= caller.end_ms || speech.at.start_ms - end >= TURN_PAUSE_MS {
            break;
        }
        (end, goes_on) = (speech.at.end_ms, true);
    }
    (!in_pause || goes_on || cut).then_some(end)
}

fn overlap(caller: &[Spoken], agent: &[Spoken]) -> Figure {
    let both = |a: &Spoken, b: &Spoken| (a.at.end_ms.min(b.at.end_ms) - a.at.start_ms.max(b.at.start_ms)).max(0.0);
    let total = caller.iter().flat_map(|a| agent.iter().map(move |b| both(a, b))).sum();
    Figure::new(Some(total), "ms", "time in which both sides speak", DETECTED_ERROR)
}

fn dead_air(caller: &[Spoken], agent: &[Spoken]) -> Figure {
    let mut all: Vec<Stretch> = caller.iter().chain(agent).map(|speech| speech.at).collect();
    all.sort_by(|a, b| a.start_ms.total_cmp(&b.start_ms));
    let mut total = 0.0;
    let mut heard_to = all.first().map_or(0.0, |first| first.start_ms);
    for stretch in &all {
        let gap = stretch.start_ms - heard_to;
        if gap > DEAD_AIR_MS {
            total += gap;
        }
        heard_to = heard_to.max(stretch.end_ms);
    }
    let method = "pauses of more than 2 s in which neither side speaks, between the first speech and the last";
    Figure::new(Some(total), "ms", method, DETECTED_ERROR)
}

fn side(folder: &Folder, side: Side, speech: &[Spoken], duration_ms: f64) -> SideMeasures {
    let track = folder.track(side);
    let spoken_ms: f64 = speech.iter().map(|speech| speech.at.end_ms - speech.at.start_ms).sum();
    let ratio = (duration_ms > 0.0).then(|| spoken_ms / duration_ms);
    let mut powers: Vec<f32> = Vec::new();
    for Spoken { at, .. } in speech {
        let (from, to) = ((at.start_ms / 10.0) as usize, (at.end_ms / 10.0) as usize);
        powers.extend(track.powers.get(from..to.min(track.powers.len())).unwrap_or_default());
    }
    let power = powers.iter().map(|power| f64::from(*power)).sum::<f64>() / powers.len().max(1) as f64;
    let level = (power > 0.0).then(|| dbfs_of(power));
    let peak = (track.peak > 0).then(|| 20.0 * (f64::from(track.peak) / 32_768.0).log10());
    let of_side = |pick: &dyn Fn(&Event) -> u64| {
        let events = folder.events.iter().filter(|logged| logged.side == Some(side));
        Figure::exact(events.map(|logged| pick(&logged.event)).sum::<u64>() as f64, "count", "counted from the events")
    };
    SideMeasures {
        talk_ratio: Figure::new(ratio, "ratio", "time of speech over the call's duration", "that of the boundaries"),
        level: Figure::new(level, "dBFS", "RMS of all 10 ms blocks of speech; a full-scale sine is -3.01", "0.1 dB"),
        peak: Figure::new(peak, "dBFS", "the largest sample", "none: counted"),
        clipped: Figure::exact(track.clipped as f64, "count", "samples at full scale in runs of three and more"),
        frames_late: of_side(&|event| match event {
            Event::Late { frames, .. } => *frames,
            _ => 0,
        }),
        frames_concealed: of_side(&|event| match event {
            Event::Lost { concealed, .. } => *concealed,
            _ => 0,
        }),
        frames_lost: of_side(&|event| match event {
            Event::Lost { frames, .. } => *frames,
            _ => 0,
        }),
        frames_not_read: of_side(&|event| match event {
            Event::NotRead { frames } => *frames,
            _ => 0,
        }),
        received_rate: received_rate(folder, side),
        line: folder.events.iter().rev().find_map(|logged| match &logged.event {
            Event::Line(counts) if logged.side == Some(side) => Some(*counts),
            _ => None,
        }),
    }
}

/// How fast the side's audio came, where it was slowest.
fn received_rate(folder: &Folder, side: Side) -> Figure {
    let rates = folder.events.iter().filter(|logged| logged.side == Some(side)).filter_map(|logged| match logged.event {
        Event::Starved { missing_ms, audio_ms, .. } => Some(audio_ms / (audio_ms + missing_ms)),
        _ => None,
    });
    let method = "audio over the time that it took to come, pauses of more than 250 ms left out, in the slowest 2 s of audio; 1 where \
                  no holes were told of. From the events";
    Figure::exact(rates.fold(1.0, f64::min), "ratio", method)
}
