//! The fields of `run_scenarios_chirp` (Cekura's API reference, "Run scenarios (CHIRP)").

use super::check::{Field, Kind};

/// The selection block that the voice modes share, the voice fields, and `websocket_url`.
pub(super) const FIELDS: &[Field] = &[
    Field::new("agent_id", Kind::Id),
    Field::new("assistant_id", Kind::Text { longest: None }),
    Field::new("scenarios", Kind::Scenarios),
    Field::new("tags", Kind::Texts { may_be_empty: false }),
    Field::new("folder_path", Kind::Text { longest: None }),
    Field::new("project_id", Kind::Id),
    Field::new("frequency", Kind::Count),
    Field::new("name", Kind::Text { longest: Some(255) }),
    Field::nullable("personality_ids", Kind::Ids),
    Field::nullable("test_profile_ids", Kind::Ids),
    Field::nullable("personality_id", Kind::Id),
    Field::nullable("test_profile_id", Kind::Id),
    Field::new("concurrency_limit", Kind::Count),
    Field::nullable("mock_tool_names", Kind::Texts { may_be_empty: true }),
    Field::new("agent_version_id", Kind::Text { longest: None }),
    Field::new("outbound_phone_number", Kind::Text { longest: None }),
    Field::new("agent_number", Kind::Text { longest: None }),
    Field::new("mode", Kind::Choice(&["same_number", "different_numbers"])),
    Field::new("websocket_url", Kind::WebSocketUrl),
];

/// Spellings that other modes, other tools and older pages use, and what this mode calls them.
pub(super) const SLIPS: &[(&str, &str)] = &[
    ("agent", "agent_id"),
    ("agentId", "agent_id"),
    ("freq", "frequency"),
    ("scenario", "scenarios"),
    ("scenario_id", "scenarios"),
    ("scenario_ids", "scenarios"),
    ("scenarioIds", "scenarios"),
    ("evaluators", "scenarios"),
    ("concurrency", "concurrency_limit"),
    ("profile_id", "test_profile_id"),
    ("folder", "folder_path"),
    ("mock_tools", "mock_tool_names"),
    ("chirp_data", "websocket_url"),
    ("chirp_websocket_url", "websocket_url"),
    ("url", "websocket_url"),
    ("ws_url", "websocket_url"),
    ("phone_number", "outbound_phone_number"),
];
