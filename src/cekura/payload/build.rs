//! Builds a start request's body from typed options.

use serde_json::{Map, Value, json};

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

/// What to run and how. Whatever the mode does not have is a misfit, not left out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RunOptions {
    /// The agent at Cekura: `agent_id` or `agent`, as the mode calls it.
    pub agent_id: Option<u64>,
    /// Which scenarios; none is a misfit. The entry modes take ids alone.
    pub selection: Option<Selection>,
    /// Where Cekura dials the agent, in place of the agent's own address: of the body or of each entry, as the mode has it.
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
    /// More fields of the body, each of some modes only.
    pub more: Map<String, Value>,
    /// More members of each entry: one for all entries, or one for each in turn.
    pub entries: Vec<Map<String, Value>>,
}

impl RunOptions {
    /// The body of `mode`'s start request.
    ///
    /// # Errors
    /// Every [`Misfit`] of the body, as [`check`] finds them.
    pub fn build(&self, mode: Mode) -> Result<Value, Vec<Misfit>> {
        let body = self.body(mode);
        let misfits = check(mode, &body);
        if misfits.is_empty() { Ok(body) } else { Err(misfits) }
    }

    fn body(&self, mode: Mode) -> Value {
        let mut body = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(key.to_owned(), value);
            }
        };
        let list = |ids: &Vec<u64>| (!ids.is_empty()).then(|| ids.clone().into());
        put(if mode.entry().is_some() { "agent" } else { "agent_id" }, self.agent_id.map(Value::from));
        match &self.selection {
            None => {}
            Some(Selection::Ids(ids)) if mode.entry().is_some() => put("scenarios", Some(self.entries_of(mode, ids))),
            Some(Selection::Ids(ids)) => put("scenarios", Some(ids.clone().into())),
            Some(Selection::First(count)) => put("scenarios", Some((*count).into())),
            Some(Selection::All) => put("scenarios", Some("all".into())),
            Some(Selection::Tags(tags)) => put("tags", Some(tags.clone().into())),
            Some(Selection::Folder { path, project_id }) => {
                put("folder_path", Some(path.clone().into()));
                put("project_id", Some((*project_id).into()));
            }
        }
        let in_entries = mode.entry().is_some_and(|members| members.iter().any(|member| member.name == "websocket_url"));
        let url = self.websocket_url.clone().filter(|_| !in_entries);
        match mode {
            Mode::Spec => put("chirp_data", url.map(|url| json!({"websocket_url": url}))),
            _ => put("websocket_url", url.map(Value::from)),
        }
        put("name", self.name.clone().map(Value::from));
        // The one mode that wants it said has no default of its own.
        let once = mode.field("frequency").is_some_and(|field| field.required).then_some(1);
        put("frequency", self.frequency.or(once).map(Value::from));
        put("personality_ids", list(&self.personality_ids));
        put("test_profile_ids", list(&self.test_profile_ids));
        put("concurrency_limit", self.concurrency_limit.map(Value::from));
        put("mock_tool_names", self.mock_tool_names.clone().map(Value::from));
        put("agent_version_id", self.agent_version_id.clone().map(Value::from));
        body.extend(self.more.clone());
        Value::Object(body)
    }

    fn entries_of(&self, mode: Mode, ids: &[u64]) -> Value {
        let has = |name: &str| mode.entry().into_iter().flatten().any(|member| member.name == name);
        let entry = |(at, id): (usize, &u64)| {
            let mut entry = Map::from_iter([("scenario".to_owned(), Value::from(*id))]);
            if let Some(url) = self.websocket_url.as_ref().filter(|_| has("websocket_url")) {
                entry.insert("websocket_url".into(), url.clone().into());
            }
            let more = if self.entries.len() == 1 { self.entries.first() } else { self.entries.get(at) };
            entry.extend(more.cloned().unwrap_or_default());
            Value::Object(entry)
        };
        ids.iter().enumerate().map(entry).collect()
    }
}
