//! A chat's numbers, from its events: a message has a moment and no length.

use super::analyse::{Answer, BargeIns, ChatMeasures, Known, Latency, Measures, SideMeasures, Turn, latency_of};
use super::figure::{Figure, tidy};
use super::folder::Chat;
use crate::call::{Event, LoggedEvent, Side};

/// How far a message's time may be off: from its arrival to the event log.
const LOGGED_ERROR: &str = "the time from a message's arrival to its place in the log: below 1 ms on a machine that is not busy";
const NO_AUDIO: &str = "a chat has no audio";

pub(super) fn analyse(chat: Chat) -> Measures {
    let turns = turns(&chat.events);
    let duration = chat.info.duration_ms.or_else(|| chat.events.last().map(|event| event.at_ms));
    let first = turns.iter().find(|turn| turn.side == Side::Agent).map(|turn| turn.start_ms);
    let not_read = |side: Side| {
        let of_side = chat.events.iter().filter(|logged| logged.side == Some(side));
        of_side.map(|logged| if let Event::NotRead { frames } = logged.event { frames } else { 0 }).sum::<u64>()
    };
    Measures {
        version: 1,
        ids: chat.info.ids,
        duration: Figure::new(duration, "ms", "from the first event to the end", LOGGED_ERROR),
        response_latency: latency(&turns),
        first_agent_audio: Figure::new(first, "ms", "from the call's start to the agent's first message", LOGGED_ERROR),
        barge_in: BargeIns {
            events: Vec::new(),
            false_stops: none("count"),
            method: NO_AUDIO.to_owned(),
            error: NO_AUDIO.to_owned(),
        },
        overlap: none("ms"),
        dead_air: none("ms"),
        caller: side(not_read(Side::Caller)),
        agent: side(not_read(Side::Agent)),
        pacing_slip: Figure::exact(0.0, "ms", "a chat is not paced"),
        chat: Some(counts(&chat.events, &turns)),
        turns,
        notes: chat.notes,
    }
}

/// Messages of one side with none of the other between are one turn.
fn turns(events: &[LoggedEvent]) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::new();
    for logged in events {
        let (Event::Text { .. }, Some(side)) = (&logged.event, logged.side) else { continue };
        let at = tidy(logged.at_ms);
        match turns.last_mut().filter(|turn| turn.side == side) {
            Some(turn) => turn.end_ms = at,
            None => turns.push(Turn { side, start_ms: at, end_ms: at, known: Known::Logged }),
        }
    }
    turns
}

fn latency(turns: &[Turn]) -> Latency {
    let answers = turns.windows(2).filter(|pair| pair[0].side == Side::Caller).map(|pair| Answer {
        caller_end_ms: pair[0].end_ms,
        agent_onset_ms: pair[1].start_ms,
        latency_ms: tidy(pair[1].start_ms - pair[0].end_ms),
        known: Known::Logged,
    });
    latency_of(answers.collect(), "from the caller's last message to the agent's next content", LOGGED_ERROR)
}

fn counts(events: &[LoggedEvent], turns: &[Turn]) -> ChatMeasures {
    let count = |what: &dyn Fn(&LoggedEvent) -> bool| {
        Figure::exact(events.iter().filter(|event| what(event)).count() as f64, "count", "counted from the events")
    };
    let said = |side: Side| move |logged: &LoggedEvent| logged.side == Some(side) && matches!(logged.event, Event::Text { .. });
    let unanswered = f64::from(u8::from(turns.last().is_some_and(|turn| turn.side == Side::Caller)));
    ChatMeasures {
        caller_messages: count(&said(Side::Caller)),
        agent_messages: count(&said(Side::Agent)),
        function_calls: count(&|logged| logged.side == Some(Side::Agent) && matches!(logged.event, Event::FunctionCall(_))),
        unanswered: Figure::exact(unanswered, "count", "the last turn is the caller's"),
    }
}

fn side(not_read: u64) -> SideMeasures {
    SideMeasures {
        talk_ratio: none("ratio"),
        level: none("dBFS"),
        peak: none("dBFS"),
        clipped: none("count"),
        frames_late: none("count"),
        frames_concealed: none("count"),
        frames_lost: none("count"),
        frames_not_read: Figure::exact(not_read as f64, "count", "messages for it, counted from the events"),
        received_rate: none("ratio"),
        line: None,
    }
}

fn none(unit: &str) -> Figure {
    Figure::new(None, unit, NO_AUDIO, NO_AUDIO)
}
