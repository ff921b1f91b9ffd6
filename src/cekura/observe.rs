//! A recorded call as Cekura's observability takes it (API reference, `POST /observability/v1/observe/`).

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Map, Value, json};

use super::client::{CALL_TIMEOUT, Call};
use super::{ApiError, Client, call_ended_reason};
use crate::call::{Event, LoggedEvent, Side};
use crate::http::detail;
use crate::record::{CALL_JSON, CallInfo, RecordError, TRANSCRIPT_JSON, read_events};

/// The largest recording that is sent, in bytes: some hour and a half of stereo at 48 kHz. The API publishes no limit.
pub const LARGEST_RECORDING: u64 = 1 << 30;
/// The longest call id that the API takes, in characters.
const LONGEST_CALL_ID: usize = 100;
/// The slowest upload that is waited for, in bytes a second.
const SLOWEST_UPLOAD: u64 = 32 << 10;
/// Bytes of a stereo sample, s16le.
const FRAME: u64 = 4;
/// Bytes of the shortest WAV header.
const HEADER: u64 = 44;

/// A call's folder that cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// It is not a call's folder.
    #[error("{}: not a call's folder: it has no {CALL_JSON}", folder.display())]
    NoCall {
        /// The folder.
        folder: PathBuf,
    },
    /// The call goes on, or its process was killed.
    #[error("{}: the call is not finished: {problem}", folder.display())]
    Unfinished {
        /// The folder.
        folder: PathBuf,
        /// What is missing.
        problem: String,
    },
    /// The recording's bytes are not what its header and call.json say.
    #[error("{}: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The recording is larger than what is sent.
    #[error("{}: {bytes} bytes, more than the {LARGEST_RECORDING} that are sent", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// A file cannot be read, or is none of ours.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl ObserveError {
    /// Whether `trunkline record repair` may mend it.
    #[must_use]
    pub const fn is_mendable(&self) -> bool {
        matches!(self, Self::Unfinished { .. } | Self::Damaged { .. })
    }
}

/// Whose agent it was, at Cekura.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObservedAgent {
    /// The agent's id.
    Id(u64),
    /// The provider's id of it.
    Assistant(String),
}

/// The words of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Transcript {
    /// In the API's own shape (`cekura`).
    Lines(Vec<Value>),
    /// The agent's words are not known here: the API makes the transcript from the recording (`none-mono`). A transcript with
    /// the caller's lines alone would say that the agent never spoke.
    FromRecording,
}

impl Transcript {
    /// The API's word for it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Lines(_) => "cekura",
            Self::FromRecording => "none-mono",
        }
    }
}

/// A call that is to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedCall {
    /// The call's own id: the same call sent again updates itself.
    pub call_id: String,
    /// Whose agent it was.
    pub agent: ObservedAgent,
    /// The stereo recording and its size in bytes; a chat has none.
    pub recording: Option<(PathBuf, u64)>,
    /// The words.
    pub transcript: Transcript,
    /// The form's other fields.
    pub more: Map<String, Value>,
}

impl ObservedCall {
    /// Reads a call's folder.
    ///
    /// # Errors
    /// An [`ObserveError`] that names the folder or file.
    pub fn from_folder(folder: &Path, agent: ObservedAgent) -> Result<Self, ObserveError> {
        let path = folder.join(CALL_JSON);
        if !path.is_file() {
            return Err(ObserveError::NoCall { folder: folder.to_owned() });
        }
        let json = std::fs::read(&path).map_err(|source| RecordError::Read { path: path.clone(), source })?;
        let info: CallInfo = serde_json::from_slice(&json)
            .map_err(|error| RecordError::Malformed { path: path.clone(), problem: format!("not a call.json: {error}") })?;
        if info.ids.call_id.is_empty() || info.ids.call_id.chars().count() > LONGEST_CALL_ID {
            let problem = format!("its call_id is no text of 1 to {LONGEST_CALL_ID} characters");
            return Err(RecordError::Malformed { path, problem }.into());
        }
        let unfinished = |problem: &str| ObserveError::Unfinished { folder: folder.to_owned(), problem: problem.to_owned() };
        let duration_ms = info.duration_ms.ok_or_else(|| unfinished("call.json tells no duration"))?;
        let chat = written_transcript(folder)?;
        let recording = recording(folder, &info)?;
        let events = read_events(folder)?;
        let transcript = match (chat, &recording) {
            (Some(lines), _) => Transcript::Lines(lines),
            (None, None) => return Err(unfinished("there is no stereo recording and no transcript")),
            (None, Some(_)) => spoken_transcript(&events),
        };
        let more = fields(&info, duration_ms, recording.is_some());
        Ok(Self { call_id: info.ids.call_id, agent, recording, transcript, more })
    }

    /// The form's fields beside the recording, as texts: JSON values are sent as JSON texts.
    fn fields(&self) -> Vec<(String, String)> {
        let agent = match &self.agent {
            ObservedAgent::Id(id) => ("agent".to_owned(), id.to_string()),
            ObservedAgent::Assistant(id) => ("assistant_id".to_owned(), id.clone()),
        };
        let mut fields = vec![("call_id".to_owned(), self.call_id.clone()), agent];
        fields.push(("transcript_type".to_owned(), self.transcript.kind().to_owned()));
        if let Transcript::Lines(lines) = &self.transcript {
            fields.push(("transcript_json".to_owned(), Value::from(lines.clone()).to_string()));
        }
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        fields.extend(self.more.iter().map(|(key, value)| (key.clone(), text(value))));
        fields
    }
}

impl Client {
    /// Sends a recorded call to the API's observability. It is tried again after passing errors: the call's id makes a second
    /// copy an update of the first, no agent is called, and the worst is that a call is scored twice.
    ///
    /// # Errors
    /// An [`ApiError`], after the repeats of the client's [`super::RetryPolicy`]; [`ApiError::Unreadable`] when the recording cannot be read.
    pub async fn observe(&self, call: &ObservedCall) -> Result<Value, ApiError> {
        self.again(async || self.observe_once(call).await).await
    }

    async fn observe_once(&self, observed: &ObservedCall) -> Result<Value, ApiError> {
        let mut form = observed.fields().into_iter().fold(Form::new(), |form, (name, value)| form.text(name, value));
        let mut timeout = CALL_TIMEOUT;
        if let Some((path, bytes)) = &observed.recording {
            let unreadable = |error: std::io::Error| ApiError::Unreadable { path: path.clone(), detail: error.to_string() };
            let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
            let name = format!("{}.wav", observed.call_id);
            let part = Part::stream_with_length(file, *bytes).file_name(name).mime_str("audio/wav");
            form = form.part("voice_recording", part.map_err(|error| ApiError::Setup(detail(&error)))?);
            timeout += Duration::from_secs(bytes / SLOWEST_UPLOAD);
        }
        let path = "/observability/v1/observe/";
        let call = Call { method: Method::POST, path, query: &[], body: None, timeout };
        self.send_request(&call, self.request(&call)?.multipart(form)).await?.read(Ok)
    }
}

fn fields(info: &CallInfo, duration_ms: f64, recorded: bool) -> Map<String, Value> {
    let ids = &info.ids;
    let known = [
        ("run_id", ids.run_id.clone().map(Value::from)),
        ("result_id", ids.result_id.clone().map(Value::from)),
        ("scenario_id", ids.scenario_id.clone().map(Value::from)),
        ("scenario", ids.scenario.clone().map(Value::from)),
        ("source", Some(concat!("trunkline/", env!("CARGO_PKG_VERSION")).into())),
        ("duration_ms", Some(duration_ms.into())),
        ("end", info.end.as_ref().map(|end| json!(end))),
    ];
    let metadata: Map<String, Value> = known.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
    let started = info.started_at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let mut more = Map::from_iter([("timestamp".to_owned(), started.into()), ("metadata".to_owned(), metadata.into())]);
    more.extend(info.end.as_ref().map(|end| ("call_ended_reason".to_owned(), call_ended_reason(end).into())));
    if recorded {
        // The right channel is the agent's.
        more.insert("main_agent_channel_index".to_owned(), 1.into());
    }
    more
}

/// The stereo file, when it is what call.json says; none where the call has no audio.
fn recording(folder: &Path, info: &CallInfo) -> Result<Option<(PathBuf, u64)>, ObserveError> {
    let Some(stereo) = &info.stereo else { return Ok(None) };
    let mut parts = stereo.parts.iter();
    let (Some(part), None) = (parts.next(), parts.next()) else {
        let problem = format!("the stereo recording has {} files; one can be sent", stereo.parts.len());
        return Err(RecordError::Malformed { path: folder.join(CALL_JSON), problem }.into());
    };
    let path = folder.join(&part.file);
    let damaged = |problem: String| ObserveError::Damaged { path: path.clone(), problem };
    let read = |source| RecordError::Read { path: path.clone(), source };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(damaged("call.json tells of it, and it is gone".into()));
        }
        Err(error) => return Err(read(error).into()),
    };
    let bytes = file.metadata().map_err(read)?.len();
    if bytes > LARGEST_RECORDING {
        return Err(ObserveError::TooLarge { path, bytes });
    }
    let wav = hound::WavReader::new(std::io::BufReader::new(file))
        .map_err(|error| damaged(format!("no WAV file that can be read: {error}")))?;
    let (samples, channels) = (u64::from(wav.duration()), wav.spec().channels);
    if channels != 2 || samples != part.samples || bytes < HEADER + samples * FRAME {
        let problem = format!(
            "{bytes} bytes with {channels} channels and {samples} samples by its header, where call.json tells of 2 and {}",
            part.samples
        );
        return Err(damaged(problem));
    }
    Ok(Some((path, bytes)))
}

fn written_transcript(folder: &Path) -> Result<Option<Vec<Value>>, ObserveError> {
    let path = folder.join(TRANSCRIPT_JSON);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(RecordError::Read { path, source }.into()),
    };
    let lines = serde_json::from_slice(&text)
        .map_err(|error| RecordError::Malformed { path, problem: format!("not a transcript: {error}") })?;
    Ok(Some(lines))
}

/// The transcript of a voice call's events, where they have the agent's words.
fn spoken_transcript(events: &[LoggedEvent]) -> Transcript {
    let heard = |logged: &LoggedEvent| logged.side == Some(Side::Agent) && matches!(logged.event, Event::Text { .. });
    if !events.iter().any(heard) {
        return Transcript::FromRecording;
    }
    let mut lines: Vec<Value> = Vec::new();
    for logged in events {
        let Some(side) = logged.side else { continue };
        let role = if side == Side::Caller { "Testing Agent" } else { "Main Agent" };
        let at = logged.at_ms / 1000.0;
        let line = |role: &str, content: &str| json!({"role": role, "content": content, "start_time": at, "end_time": at});
        match &logged.event {
            Event::ScriptLine { text, .. } => {
                lines.extend(Some(words(text)).filter(|text| !text.is_empty()).map(|text| line(role, &text)))
            }
            Event::Text { text } => lines.push(line(role, text)),
            Event::FunctionCall(call) => lines.push(with(line("Function Call", ""), "data", json!(call))),
            Event::FunctionResult(result) => lines.push(with(line("Function Call Result", ""), "data", json!(result))),
            Event::SpeechStopped { .. } => {
                // The line that was being said ends here.
                let last = lines.iter_mut().rev().find(|line| line["role"] == role);
                last.filter(|line| line["start_time"] == line["end_time"])
                    .into_iter()
                    .for_each(|line| line["end_time"] = at.into());
            }
            _ => {}
        }
    }
    Transcript::Lines(lines)
}

fn with(mut line: Value, key: &str, value: Value) -> Value {
    line[key] = value;
    line
}

/// How the stage directions of a script line begin, in their brackets, or what they are.
const DIRECTIONS: [&str; 10] =
    ["hangs up", "beep", "client message", "silence ", "hold ", "presses ", "plays ", "noise: ", "background: ", "function "];

/// A script line's words without its stage directions: `[hangs up]`, `[silence 2 s]`, `[presses 12#]`.
fn words(text: &str) -> String {
    let mut words = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('[') {
        let inner = rest[at + 1..].split(']').next().unwrap_or_default();
        let direction = DIRECTIONS.iter().any(|direction| inner.starts_with(direction)) || inner.ends_with(" packet loss");
        let end = at + 1 + inner.len() + usize::from(rest.len() > at + 1 + inner.len());
        words.push_str(&rest[..if direction { at } else { end }]);
        rest = &rest[end..];
    }
    words.push_str(rest);
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}
