//! What each wire can do: one table, from the constants that the legs themselves use.

use super::livekit::{self, console};
use super::{chat, chirp, pipecat, process, telephony_ws};
use crate::call::Abilities;

/// What a wire can do.
#[derive(Debug, Clone, Copy)]
pub struct Capability {
    /// Its name.
    pub wire: &'static str,
    /// How calls come in over it.
    pub way_in: Option<&'static str>,
    /// How an agent is reached over it.
    pub way_out: Option<&'static str>,
    /// Its rates and coding.
    pub audio: &'static str,
    /// What it carries beside audio.
    pub abilities: Abilities,
    /// Against which real peer it is tested, with the version.
    pub tried: &'static str,
}

/// Every wire.
pub const CAPABILITIES: [Capability; 17] = [
    chirp::CAPABILITY,
    process::CAPABILITY,
    livekit::CAPABILITY,
    console::CAPABILITY,
    livekit::chat::CAPABILITY,
    pipecat::web_socket::CAPABILITY,
    pipecat::web_rtc::CAPABILITY,
    telephony_ws::CAPABILITIES[0],
    telephony_ws::CAPABILITIES[1],
    telephony_ws::CAPABILITIES[2],
    telephony_ws::CAPABILITIES[3],
    telephony_ws::CAPABILITIES[4],
    telephony_ws::CAPABILITIES[5],
    chat::WEB_SOCKET,
    chat::CHILD,
    chat::OPENAI,
    chat::REST,
];

/// [`CAPABILITIES`] as a Markdown table. The README holds it; a test compares the two.
#[must_use]
pub fn capability_table() -> String {
    let mut table =
        "| wire | calls in | agents out | audio | speech start and stop | keypad | text | tested against |\n".to_owned();
    table.push_str("|---|---|---|---|---|---|---|---|\n");
    let tick = |can: bool| if can { "✔" } else { "✘" };
    for Capability { wire, way_in, way_out, audio, abilities, tried } in CAPABILITIES {
        let (way_in, way_out) = (way_in.unwrap_or("✘"), way_out.unwrap_or("✘"));
        let (marks, dtmf, text) = (tick(abilities.speech_marks), tick(abilities.dtmf), tick(abilities.text));
        table.push_str(&format!("| {wire} | {way_in} | {way_out} | {audio} | {marks} | {dtmf} | {text} | {tried} |\n"));
    }
    table
}
