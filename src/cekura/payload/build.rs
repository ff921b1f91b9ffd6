//! Builds a start request's body from typed options.

use serde_json::Value;

use super::{Misfit, Mode, check};

/// Which scenarios to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// These ids.
    Ids(Vec<u64>),
    /// The first so many of the agent's; needs an agent id.
    First(u64),
    /// All of the agent's; needs an agent id.
    All,
    /// Those with any of these tags.
    Tags(Vec<String>),
    /// Those in a folder (dotted path) of a project.
    Folder {
        /// The dotted path.
        path: String,
        /// The project that the folder is in.
        project_id: u64,
    },
}

/// What to run and how: the selection block that the voice modes share, and their ways to reach the agent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunOptions {
    /// The agent at Cekura.
    pub agent_id: Option<u64>,
    /// Which scenarios; none is a misfit.
    pub selection: Option<Selection>,
    /// Where Cekura dials the agent: a `ws://` or `wss://` address in place of the agent's own.
    pub websocket_url: Option<String>,
    /// The result's label, at most 255 characters.
    pub name: Option<String>,
    /// How often each scenario is run.
    pub frequency: Option<u64>,
    /// Personalities in place of the scenarios' own; each multiplies the runs.
    pub personality_ids: Vec<u64>,
    /// Test profiles in place of the scenarios' own; each multiplies the runs.
    pub test_profile_ids: Vec<u64>,
    /// The most runs at the same time.
    pub concurrency_limit: Option<u64>,
    /// Tools to mock: none for all of them, an empty list for no tool.
    pub mock_tool_names: Option<Vec<String>>,
    /// Which version of the agent.
    pub agent_version_id: Option<String>,
}

impl RunOptions {
    /// The body of `mode`'s start request.
    ///
    /// # Errors
    /// Every [`Misfit`] of the body, as [`check`] finds them.
    pub fn build(&self, mode: Mode) -> Result<Value, Vec<Misfit>> {
        let body = self.body();
        let misfits = check(mode, &body);
        if misfits.is_empty() { Ok(body) } else { Err(misfits) }
    }

    fn body(&self) -> Value {
        let mut body = serde_json::Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(key.to_owned(), value);
            }
        };
        let list = |ids: &Vec<u64>| (!ids.is_empty()).then(|| ids.clone().into());
        put("agent_id", self.agent_id.map(Value::from));
        match &self.selection {
            None => {}
            Some(Selection::Ids(ids)) => put("scenarios", Some(ids.clone().into())),
            Some(Selection::First(count)) => put("scenarios", Some((*count).into())),
            Some(Selection::All) => put("scenarios", Some("all".into())),
            Some(Selection::Tags(tags)) => put("tags", Some(tags.clone().into())),
            Some(Selection::Folder { path, project_id }) => {
                put("folder_path", Some(path.clone().into()));
                put("project_id", Some((*project_id).into()));
            }
        }
        put("websocket_url", self.websocket_url.clone().map(Value::from));
        put("name", self.name.clone().map(Value::from));
        put("frequency", self.frequency.map(Value::from));
        put("personality_ids", list(&self.personality_ids));
        put("test_profile_ids", list(&self.test_profile_ids));
        put("concurrency_limit", self.concurrency_limit.map(Value::from));
        put("mock_tool_names", self.mock_tool_names.clone().map(Value::from));
        put("agent_version_id", self.agent_version_id.clone().map(Value::from));
        Value::Object(body)
    }
}
