//! What is done here for each run mode: one table.

use super::Mode;

/// What is done for a mode, beside its payload, its start and the following of its result, which all modes have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModeSupport {
    /// The sandbox carries its runs out.
    pub sandbox: bool,
    /// How its calls come through here and are recorded.
    pub recorded: Option<&'static str>,
    /// By what a recorded call is tied to its run.
    pub tied_by: Option<&'static str>,
    /// Against which real peer it is tested, with the version.
    pub tried: &'static str,
}

/// The payload fits the published request, and the start and its answer are tested against a stand-in for the API.
const STARTED: ModeSupport = ModeSupport { sandbox: false, recorded: None, tied_by: None, tried: "a stand-in for the API" };
/// How calls that come through a door are tied: by [`crate::report::TiedBy`].
const DOOR_TIES: Option<&str> = Some("`X-VOCERA-RUN-ID` or `X-Run-Id`, else inferred by order and time");

impl Mode {
    /// What is done for the mode.
    #[must_use]
    pub const fn support(self) -> ModeSupport {
        match self {
            Self::Chirp => ModeSupport {
                sandbox: true,
                recorded: Some("`[doors.chirp]`"),
                tied_by: DOOR_TIES,
                tried: "`cekura` 1.6.7 and `websockets` 17.4 (Python)",
            },
            Self::Text | Self::Websocket => ModeSupport {
                sandbox: true,
                recorded: Some("`[doors.chat]`"),
                tied_by: DOOR_TIES,
                tried: "`cekura` 1.6.7 and `websockets` 17.4 (Python)",
            },
            Self::ApiChat => ModeSupport {
                sandbox: true,
                recorded: Some("fetched over REST"),
                tied_by: Some("its own address"),
                tried: "an independent agent and a stand-in of the API in Python",
            },
            Self::Spec => ModeSupport {
                sandbox: true,
                recorded: Some("as its channel: `chirp`, `text`"),
                tied_by: DOOR_TIES,
                tried: "`cekura` 1.6.7",
            },
            Self::LivekitV2 => ModeSupport {
                sandbox: true,
                recorded: Some("`serve` with `[doors.livekit]`, or `record livekit`"),
                tied_by: Some("`run_id` in the dispatch's metadata"),
                tried: "`cekura` 1.6.7, livekit-server 1.13.5 and `livekit-agents` 1.8.9 (Python)",
            },
            Self::Livekit => ModeSupport {
                sandbox: true,
                recorded: None,
                tied_by: None,
                tried: "livekit-server 1.13.5, `livekit` 1.1.21 and `livekit-agents` 1.8.9 (Python)",
            },
            Self::LivekitChat => ModeSupport {
                sandbox: true,
                recorded: None,
                tied_by: None,
                tried: "livekit-server 1.13.5 and `livekit-agents` 1.8.9 (Python)",
            },
            Self::PipecatV2 | Self::Pipecat => ModeSupport {
                sandbox: true,
                recorded: None,
                tied_by: None,
                tried: "`cekura` 1.6.7 and `pipecat-ai` 1.14.0 (Python)",
            },
            _ => STARTED,
        }
    }
}

/// Every mode's [`ModeSupport`] as a Markdown table. The README holds it; a test compares the two.
#[must_use]
pub fn mode_table() -> String {
    let mut table = "| mode | start request | payload | started, followed, reported | carried out in the sandbox | calls recorded here | tied to the run by | tested against |\n".to_owned();
    table.push_str("|---|---|---|---|---|---|---|---|\n");
    for mode in Mode::ALL {
        let ModeSupport { sandbox, recorded, tied_by, tried } = mode.support();
        let sandbox = if sandbox { "✔" } else { "✘" };
        let (recorded, tied_by) = (recorded.unwrap_or("✘"), tied_by.unwrap_or("–"));
        let endpoint = mode.endpoint();
        table.push_str(&format!("| `{mode}` | `{endpoint}` | ✔ | ✔ | {sandbox} | {recorded} | {tied_by} | {tried} |\n"));
    }
    table
}
