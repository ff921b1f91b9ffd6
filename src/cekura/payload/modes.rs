//! The fields of each mode's start request (Cekura's API reference, `run_scenarios_*`, and the modes' guide pages).
//!
//! Two families: most modes choose scenarios by id, tag or folder (the *selection block*) and name the agent `agent_id`; the
//! room and WebSocket modes take a list of entries, one object a run, and name the agent `agent`.

use super::Mode;
use super::field::{Field, Kind};

const TEXT: Kind = Kind::Text { longest: None };
const NAME: Kind = Kind::Text { longest: Some(255) };

/// The selection block. Its `scenarios` are each mode's own.
const SELECTION: &[Field] = &[
    Field::new("agent_id", Kind::Id),
    Field::new("assistant_id", TEXT),
    Field::new("tags", Kind::Texts { may_be_empty: false }),
    Field::new("folder_path", TEXT),
    Field::new("project_id", Kind::Id),
    Field::new("frequency", Kind::Count),
    Field::new("name", NAME),
    Field::nullable("personality_ids", Kind::Ids),
    Field::nullable("test_profile_ids", Kind::Ids),
    Field::new("agent_version_id", TEXT),
];
/// A list of ids, and nothing else.
const BY_ID: &[Field] = &[Field::new("scenarios", Kind::Ids)];
/// The guide pages of CHIRP, SIP and ElevenLabs show a number and `"all"` too; the OpenAPI file does not.
const BY_ID_OR_COUNT: &[Field] = &[Field::new("scenarios", Kind::Scenarios)];
/// The single forms of the overrides, which are merged into the lists.
const SINGLES: &[Field] = &[Field::nullable("personality_id", Kind::Id), Field::nullable("test_profile_id", Kind::Id)];
const LOAD: &[Field] =
    &[Field::new("concurrency_limit", Kind::Count), Field::nullable("mock_tool_names", Kind::Texts { may_be_empty: true })];
const PHONE: &[Field] = &[Field::new("outbound_phone_number", TEXT), Field::new("agent_number", TEXT)];
const PHONE_MODE: &[Field] = &[Field::new("mode", Kind::Choice(&["same_number", "different_numbers"]))];

/// What the entry modes of the second version share.
const ENTRY_RUN: &[Field] = &[
    Field::nullable("agent", Kind::Id),
    Field::new("frequency", Kind::UpTo(100)),
    Field::nullable("name", NAME),
    Field::nullable("personality_ids", Kind::Ids),
    Field::nullable("personality_id", Kind::Id),
    Field::nullable("test_profile_ids", Kind::Ids),
    Field::nullable("test_profile_id", Kind::Id),
    Field::nullable("mock_tool_names", Kind::Texts { may_be_empty: true }),
    Field::nullable("concurrency_limit", Kind::Count),
];
const DATA_ENTRY: &[Field] = &[Field::required("scenario", Kind::Id), Field::nullable("publish_data_message", Kind::AnyObject)];
const LIVEKIT_ENTRY: &[Field] = &[
    Field::required("scenario", Kind::Id),
    Field::required("livekit_room_url", Kind::RoomUrl),
    Field::required("access_token", Kind::RoomToken),
];
const LIVEKIT_CHAT_ENTRY: &[Field] = &[
    Field::required("scenario", Kind::Id),
    Field::required("livekit_room_url", Kind::RoomUrl),
    Field::required("access_token", Kind::RoomToken),
    Field::new("publish_data_message", Kind::AnyObject),
];
const PIPECAT_ENTRY: &[Field] = &[
    Field::required("scenario", Kind::Id),
    Field::required("pipecat_room_url", Kind::RoomUrl),
    Field::new("pipecat_token", Kind::Secret),
    Field::nullable("publish_data_message", Kind::AnyObject),
];

const WEBSOCKET_ENTRY: &[Field] = &[Field::required("scenario", Kind::Id), Field::new("websocket_url", Kind::WebSocketUrl)];

const CHIRP: &[Field] = &[Field::new("websocket_url", Kind::WebSocketUrl)];
const TEXT_OWN: &[Field] = &[Field::new("websocket_url", Kind::WebSocketUrl), Field::new("websocket_headers", Kind::TextMap)];
const SIP: &[Field] = &[Field::new("sip_endpoint", TEXT)];
const ELEVENLABS_DATA: &[Field] = &[Field::new("elevenlabs_base_url_override", TEXT)];
const ELEVENLABS: &[Field] =
    &[Field::new("elevenlabs_agent_id", TEXT), Field::new("elevenlabs_data", Kind::Object(ELEVENLABS_DATA))];
const VAPI: &[Field] = &[Field::new("vapi_assistant_id", TEXT)];
const RETELL: &[Field] = &[Field::new("retell_agent_id", TEXT)];
const API_CHAT: &[Field] = &[Field::nullable("timeout", Kind::UpTo(3600))];
const WEBSOCKET: &[Field] = &[
    Field::nullable("agent", Kind::Id),
    Field::required("frequency", Kind::UpTo(100)),
    Field::nullable("mock_tool_names", Kind::Texts { may_be_empty: true }),
    Field::required("scenarios", Kind::Entries(WEBSOCKET_ENTRY)),
];
const LIVEKIT: &[Field] = &[Field::required("scenarios", Kind::Entries(LIVEKIT_ENTRY))];
const LIVEKIT_CHAT: &[Field] = &[Field::new("agent", Kind::Id), Field::required("scenarios", Kind::Entries(LIVEKIT_CHAT_ENTRY))];
const LIVEKIT_DATA: &[Field] =
    &[Field::new("agent_name", TEXT), Field::new("url", Kind::RoomUrl), Field::new("config", Kind::AnyObject)];
const LIVEKIT_V2: &[Field] =
    &[Field::required("scenarios", Kind::Entries(DATA_ENTRY)), Field::nullable("livekit_data", Kind::Object(LIVEKIT_DATA))];
const PIPECAT: &[Field] = &[
    Field::new("agent", Kind::Id),
    Field::nullable("mock_tool_names", Kind::Texts { may_be_empty: true }),
    Field::required("scenarios", Kind::Entries(PIPECAT_ENTRY)),
];
const PIPECAT_DATA: &[Field] = &[
    Field::new("pipecat_agent_name", TEXT),
    Field::new("config", Kind::AnyObject),
    Field::new("room_properties", Kind::AnyObject),
];
const PIPECAT_V2: &[Field] =
    &[Field::required("scenarios", Kind::Entries(DATA_ENTRY)), Field::nullable("pipecat_data", Kind::Object(PIPECAT_DATA))];

const CHIRP_DATA: &[Field] = &[Field::new("websocket_url", Kind::WebSocketUrl)];
/// The channels of a suite: what `channel` of [`Mode::Spec`] may be.
pub const CHANNELS: &[&str] = &["voice", "text", "elevenlabs", "livekit_v2", "pipecat_v2", "chirp"];
/// Fields that only one channel of a suite has.
pub(super) const CHANNEL_DATA: [(&str, &str); 3] =
    [("livekit_data", "livekit_v2"), ("pipecat_data", "pipecat_v2"), ("chirp_data", "chirp")];
const SPEC: &[Field] = &[
    Field::new("agent_id", Kind::Id),
    Field::new("name", NAME),
    Field::new("channel", Kind::Choice(CHANNELS)),
    Field::new("frequency", Kind::Count),
    Field::new("livekit_data", Kind::Object(LIVEKIT_DATA)),
    Field::new("pipecat_data", Kind::Object(PIPECAT_DATA)),
    Field::new("chirp_data", Kind::Object(CHIRP_DATA)),
    Field::required("spec", Kind::Suite),
];

/// The groups of fields of a mode.
pub(super) const fn groups(mode: Mode) -> &'static [&'static [Field]] {
    match mode {
        Mode::Voice => &[SELECTION, BY_ID, SINGLES, LOAD, PHONE, PHONE_MODE],
        Mode::Text => &[SELECTION, BY_ID, LOAD, PHONE, TEXT_OWN],
        Mode::Chirp => &[SELECTION, BY_ID_OR_COUNT, SINGLES, LOAD, PHONE, PHONE_MODE, CHIRP],
        Mode::Sip => &[SELECTION, BY_ID_OR_COUNT, SINGLES, LOAD, PHONE, PHONE_MODE, SIP],
        Mode::Elevenlabs => &[SELECTION, BY_ID_OR_COUNT, SINGLES, LOAD, PHONE, PHONE_MODE, ELEVENLABS],
        Mode::VapiWebrtc => &[SELECTION, BY_ID, SINGLES, LOAD, VAPI],
        Mode::RetellWebrtc => &[SELECTION, BY_ID, SINGLES, LOAD, RETELL],
        Mode::ApiChat => &[SELECTION, BY_ID, API_CHAT],
        Mode::Websocket => &[WEBSOCKET],
        Mode::Livekit => &[LIVEKIT],
        Mode::LivekitChat => &[LIVEKIT_CHAT],
        Mode::LivekitV2 => &[ENTRY_RUN, LIVEKIT_V2],
        Mode::Pipecat => &[PIPECAT],
        Mode::PipecatV2 => &[ENTRY_RUN, PIPECAT_V2],
        Mode::Spec => &[SPEC, LOAD, PHONE, PHONE_MODE],
    }
}

/// Spellings that other modes, other tools and older pages use, and what to call them. The first that the mode knows counts.
pub(super) const SLIPS: &[(&str, &[&str])] = &[
    ("agent", &["agent_id"]),
    ("agent_id", &["agent"]),
    ("agentId", &["agent_id", "agent"]),
    ("freq", &["frequency"]),
    ("scenario", &["scenarios"]),
    ("scenario_id", &["scenarios"]),
    ("scenario_ids", &["scenarios"]),
    ("scenarioIds", &["scenarios"]),
    ("evaluators", &["scenarios"]),
    ("concurrency", &["concurrency_limit"]),
    ("profile_id", &["test_profile_id"]),
    ("folder", &["folder_path"]),
    ("mock_tools", &["mock_tool_names"]),
    ("chirp_data", &["websocket_url"]),
    ("chirp_websocket_url", &["websocket_url"]),
    ("url", &["websocket_url"]),
    ("ws_url", &["websocket_url"]),
    ("headers", &["websocket_headers"]),
    ("phone_number", &["outbound_phone_number"]),
    ("sip_uri", &["sip_endpoint"]),
    ("suite", &["spec"]),
];
