//! A way out: how a call reaches an agent. One string everywhere, parsed here into one type.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use url::Url;

use super::chat::{self, ChatProcess, OpenAi, OpenAiError, OpenAiLeg};
use super::chirp::{self, Credentials, DialOptions};
use super::livekit::console::{self, ConsoleCommand, ConsoleError};
use super::livekit::{self, RoomAddress, RoomCallError, Server};
use super::pipecat::{self, CallError, CallOptions, IceServers, PipecatAddress, PipecatError};
use super::process::{self, ProcessError, ProcessLeg};
use super::telephony_ws::{self, TelephonyAddress, TelephonyError};
use super::web_socket::{DialError, RESULT_ID_HEADER, RUN_ID_HEADER, SCENARIO_ID_HEADER, spelled};
use super::{Capability, Secret, SetUp, Stage};
use crate::audio::Rate;
use crate::call::{CallIds, Leg};

/// How to reach an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WayOut {
    /// `chirp://HOST:PORT/PATH`, or `chirps://…` over TLS.
    Chirp(Url),
    /// `process:COMMAND ARGS`: a command, split into words like a shell does, but never run by one.
    Process(Vec<String>),
    /// `livekit-console:COMMAND ARGS`: a command that starts a LiveKit agent, which dials us; no LiveKit server.
    LiveKitConsole(ConsoleCommand),
    /// `livekit://ROOM?agent=NAME`: a room of a LiveKit server, into which the agent is asked; `livekit-chat://…`: the agent is
    /// written to there.
    LiveKit(RoomAddress),
    /// `pipecat-ws://HOST:PORT/PATH`, or `pipecat-wss://…` over TLS: a Pipecat bot's WebSocket server.
    Pipecat(Url),
    /// `pipecat+http://HOST:PORT/api/offer`, or `pipecat+https://…`: a Pipecat bot over WebRTC; with the path `/start`, a runner that
    /// starts a session first.
    PipecatWebRtc(PipecatAddress),
    /// `twilio+ws://HOST:PORT/PATH` and the like: a bot's WebSocket server for a telephony provider, which we play.
    Telephony(TelephonyAddress),
    /// `chat://HOST:PORT/PATH`, or `chats://…` over TLS: Cekura's chat WebSocket, we being the client as Cekura is.
    Chat(Url),
    /// `chat-process:COMMAND ARGS`: a command that chats, one JSON frame a line.
    ChatProcess(Vec<String>),
    /// `openai:http://HOST:PORT/v1?model=NAME`: chat completions, whole or streamed.
    OpenAi(OpenAi),
}

/// The header of a call's metadata. Its value is JSON in ASCII.
pub const METADATA_HEADER: &str = "X-TRUNKLINE-METADATA";
/// The longest metadata that a header carries, in bytes: common servers take 8 KiB in one line.
const LONGEST_METADATA: usize = 7 << 10;

/// Every way, as messages name them.
const WAYS: &str = "chirp://HOST:PORT/PATH, chirps://…, process:COMMAND, livekit://ROOM?agent=NAME, livekit-chat://ROOM?agent=NAME, livekit-console:COMMAND, \
                    pipecat-ws://HOST:PORT/PATH, pipecat-wss://…, pipecat+http://HOST:PORT/api/offer, pipecat+http://HOST:PORT/start, \
                    pipecat+https://…, twilio+ws://HOST:PORT/PATH, twilio+wss://… (or telnyx, plivo, exotel, vonage, genesys), \
                    chat://HOST:PORT/PATH, chats://…, chat-process:COMMAND or openai:URL?model=NAME";

/// A string that is no way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no way to reach an agent: {problem}")]
pub struct BadWayOut {
    text: String,
    problem: String,
}

/// What the way itself does not say.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// The rate of a process, and that at which a Pipecat bot takes audio.
    pub rate: Rate,
    /// For an agent that asks for HTTP Basic authentication.
    pub credentials: Option<Credentials>,
    /// Sent to a chat agent as `X-VOCERA-SECRET`.
    pub chat_secret: Option<Secret>,
    /// The key of an OpenAI-compatible server.
    pub openai_key: Option<Secret>,
    /// The key of a runner that starts Pipecat's bots.
    pub pipecat_key: Option<Secret>,
    /// STUN and TURN servers for a Pipecat bot over WebRTC.
    pub pipecat_ice: IceServers,
    /// The agent is to say the first word: an OpenAI-compatible server is asked for it.
    pub agent_speaks_first: bool,
    /// What the caller's side says of the call ([`Arrival::metadata`](super::Arrival::metadata)): a process finds it in
    /// `TRUNKLINE_METADATA`, a WebSocket in the header [`METADATA_HEADER`], an agent in a LiveKit room as its job's metadata.
    pub metadata: Option<String>,
    /// The LiveKit server, for an agent in a room.
    pub livekit: Option<Server>,
    /// How long a LiveKit agent that is started may take to dial us and to begin its session, and how long each step may take
    /// until an agent is heard in a room.
    pub dial_time: Duration,
    /// An agent that cannot be reached is not tried again.
    pub once: bool,
}

impl Default for ConnectOptions {
    /// 16 kHz, no credentials; the caller speaks first; 20 s to dial.
    fn default() -> Self {
        let (credentials, chat_secret, openai_key) = (None, None, None);
        Self {
            rate: Rate::HZ_16000,
            credentials,
            chat_secret,
            openai_key,
            pipecat_key: None,
            pipecat_ice: IceServers::default(),
            agent_speaks_first: false,
            metadata: None,
            livekit: None,
            dial_time: console::DIAL_TIME,
            once: false,
        }
    }
}

/// An agent that cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Over a WebSocket.
    #[error(transparent)]
    WebSocket(#[from] DialError),
    /// As a process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// As a LiveKit agent that dials us.
    #[error(transparent)]
    LiveKitConsole(#[from] ConsoleError),
    /// In a LiveKit room.
    #[error(transparent)]
    LiveKit(#[from] RoomCallError),
    /// No LiveKit server is known.
    #[error("{0} needs a LiveKit server: set LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET")]
    NoLiveKit(String),
    /// As a Pipecat bot, over its WebSocket.
    #[error(transparent)]
    Pipecat(#[from] PipecatError),
    /// As a Pipecat bot, by HTTP.
    #[error(transparent)]
    PipecatWebRtc(#[from] CallError),
    /// As a bot behind a telephony provider.
    #[error(transparent)]
    Telephony(#[from] TelephonyError),
    /// Over HTTP.
    #[error(transparent)]
    OpenAi(#[from] OpenAiError),
}

impl WayOut {
    /// The agent there chats: it takes no audio.
    #[must_use]
    pub const fn is_text_only(&self) -> bool {
        self.capability().abilities.text_only
    }

    /// The agent there is a Pipecat bot, or a runner that starts one.
    #[must_use]
    pub const fn is_pipecat(&self) -> bool {
        matches!(self, Self::Pipecat(_) | Self::PipecatWebRtc(_))
    }

    /// What the wire can do.
    #[must_use]
    pub const fn capability(&self) -> Capability {
        match self {
            Self::Chirp(_) => chirp::CAPABILITY,
            Self::Process(_) => process::CAPABILITY,
            Self::LiveKitConsole(_) => console::CAPABILITY,
            Self::LiveKit(address) if address.is_chat() => livekit::chat::CAPABILITY,
            Self::LiveKit(_) => livekit::CAPABILITY,
            Self::Pipecat(_) => pipecat::web_socket::CAPABILITY,
            Self::PipecatWebRtc(_) => pipecat::web_rtc::CAPABILITY,
            Self::Telephony(address) => address.capability(),
            Self::Chat(_) => chat::WEB_SOCKET,
            Self::ChatProcess(_) => chat::CHILD,
            Self::OpenAi(_) => chat::OPENAI,
        }
    }

    /// Places a call to the agent. Its stages go into `set_up`, also of a call that fails.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(&self, options: &ConnectOptions, ids: &CallIds, set_up: &mut SetUp) -> Result<Box<dyn Leg>, ConnectError> {
        let metadata = options.metadata.as_deref();
        match self {
            Self::Chirp(url) => {
                let (headers, credentials) = (told_headers(ids, metadata), options.credentials.clone());
                let options = DialOptions { credentials, headers, once: options.once, ..DialOptions::default() };
                Ok(Box::new(chirp::dial(url, &options, set_up).await?))
            }
            Self::Process(words) => {
                set_up.enter(Stage::Process);
                let agent = ProcessLeg::spawn(words, options.rate, ids, metadata)?;
                set_up.done();
                Ok(Box::new(agent))
            }
            Self::LiveKit(address) => {
                let server = options.livekit.as_ref().ok_or_else(|| ConnectError::NoLiveKit(self.to_string()))?;
                let call = address.call(server, ids, metadata, options.dial_time);
                Ok(match address.is_chat() {
                    true => Box::new(livekit::dial_chat(&call, set_up).await?),
                    false => Box::new(livekit::dial(&call, set_up).await?),
                })
            }
            Self::LiveKitConsole(command) => {
                set_up.enter(Stage::Process);
                let agent = console::dial(command, options.dial_time, ids, metadata).await?;
                set_up.done();
                Ok(Box::new(agent))
            }
            Self::Pipecat(url) => {
                let headers = told_headers(ids, metadata);
                Ok(Box::new(pipecat::web_socket::dial(url, options.rate, headers, options.once, set_up).await?))
            }
            Self::PipecatWebRtc(address) => {
                let call = CallOptions {
                    body: pipecat::body(metadata, ids),
                    key: options.pipecat_key.clone(),
                    ice: options.pipecat_ice.clone(),
                    rate: options.rate,
                    step_time: options.dial_time,
                    once: options.once,
                };
                Ok(pipecat::dial(address, &call, set_up).await?)
            }
            Self::Telephony(address) => {
                let headers = told_headers(ids, metadata);
                Ok(Box::new(telephony_ws::dial(address, ids, metadata, headers, options.once, set_up).await?))
            }
            Self::Chat(url) => {
                let secret = options.chat_secret.as_ref();
                Ok(Box::new(chat::dial(url, secret, &told_headers(ids, metadata), options.once, set_up).await?))
            }
            Self::ChatProcess(words) => {
                set_up.enter(Stage::Process);
                let agent = ChatProcess::spawn(words, ids, metadata)?;
                set_up.done();
                Ok(Box::new(agent))
            }
            Self::OpenAi(server) => {
                let key = options.openai_key.clone();
                Ok(Box::new(OpenAiLeg::begin(server, key, options.agent_speaks_first)?))
            }
        }
    }
}

/// The call's ids, as far as they are known, and its metadata, as the headers of an upgrade request.
fn told_headers(ids: &CallIds, metadata: Option<&str>) -> Vec<(String, String)> {
    let metadata = metadata.and_then(metadata_header).map(|value| (METADATA_HEADER.to_owned(), value));
    let known = [(RUN_ID_HEADER, &ids.run_id), (RESULT_ID_HEADER, &ids.result_id), (SCENARIO_ID_HEADER, &ids.scenario_id)];
    known.into_iter().filter_map(|(name, id)| Some((name.to_owned(), id.clone()?))).chain(metadata).collect()
}

/// Metadata as a header's value: JSON in ASCII, on one line; text that is no JSON becomes a string of it. None: it is too long.
fn metadata_header(metadata: &str) -> Option<String> {
    let json: serde_json::Value = serde_json::from_str(metadata).unwrap_or_else(|_| metadata.into());
    let mut value = String::new();
    for character in json.to_string().chars() {
        if character.is_ascii() && !character.is_ascii_control() {
            value.push(character);
        } else {
            let mut units = [0; 2];
            character.encode_utf16(&mut units).iter().for_each(|unit| value.push_str(&format!("\\u{unit:04x}")));
        }
    }
    let fits = value.len() <= LONGEST_METADATA;
    if !fits {
        tracing::warn!("the call's metadata is not passed on: as a header it has more than {LONGEST_METADATA} bytes");
    }
    fits.then_some(value)
}

/// A text as it is repeated to its user: of what may be an address with a secret in it only the scheme.
pub(crate) fn hide_address(text: &str) -> Cow<'_, str> {
    if !text.starts_with("openai:") && !text.contains("://") && !text.contains('@') {
        return text.into();
    }
    match text.split_once(':') {
        Some((scheme, rest)) if rest.starts_with("//") => format!("{scheme}://…").into(),
        Some((scheme, _)) if !scheme.contains('@') => format!("{scheme}:…").into(),
        _ => "…".into(),
    }
}

impl FromStr for WayOut {
    type Err = BadWayOut;

    fn from_str(text: &str) -> Result<Self, BadWayOut> {
        let bad = |problem: &str| BadWayOut { text: hide_address(text).into_owned(), problem: problem.to_owned() };
        let words = |command: &str| {
            let words = shell_words::split(command).map_err(|_| bad("a quote in the command is not closed"))?;
            if words.is_empty() { Err(bad("the command is missing")) } else { Ok(words) }
        };
        if let Some(command) = text.strip_prefix("process:") {
            return words(command).map(Self::Process);
        }
        if let Some(command) = text.strip_prefix("livekit-console:") {
            let command = ConsoleCommand::new(words(command)?);
            return command.map(Self::LiveKitConsole).ok_or_else(|| bad("the command is missing"));
        }
        if let Some(command) = text.strip_prefix("chat-process:") {
            return words(command).map(Self::ChatProcess);
        }
        if let Some(address) = text.strip_prefix("openai:") {
            return OpenAi::parse(address).map(Self::OpenAi).map_err(|problem| bad(&problem));
        }
        if let Some(address) = RoomAddress::parse(text) {
            return address.map(Self::LiveKit).map_err(|problem| bad(&problem));
        }
        if let Some(address) = PipecatAddress::parse(text) {
            return address.map(Self::PipecatWebRtc).map_err(|problem| bad(&problem));
        }
        if let Some(address) = TelephonyAddress::parse(text) {
            return address.map(Self::Telephony).map_err(|problem| bad(&problem));
        }
        let Some((scheme, rest)) = text.split_once("://") else { return Err(bad(&format!("use {WAYS}"))) };
        let (web, way): (_, fn(Url) -> Self) = match scheme {
            "chirp" => ("ws", Self::Chirp),
            "chirps" => ("wss", Self::Chirp),
            "pipecat-ws" => ("ws", Self::Pipecat),
            "pipecat-wss" => ("wss", Self::Pipecat),
            "chat" => ("ws", Self::Chat),
            "chats" => ("wss", Self::Chat),
            "ws" | "wss" => {
                return Err(bad(
                    "say which protocol the WebSocket speaks: chirp://, chirps://, pipecat-ws://, twilio+ws://, chat:// or chats://",
                ));
            }
            _ => return Err(bad(&format!("use {WAYS}"))),
        };
        let url = Url::parse(&format!("{web}://{rest}")).map_err(|error| bad(&error.to_string()))?;
        let has_credentials = url.password().is_some() || !url.username().is_empty();
        let way = way(url);
        if has_credentials {
            let instead = match way {
                Self::Chat(_) => ": set TRUNKLINE_CHAT_SECRET",
                Self::Chirp(_) => ": set TRUNKLINE_AGENT_CREDENTIALS=user:password",
                _ => "",
            };
            return Err(bad(&format!("credentials do not belong into an address{instead}")));
        }
        Ok(way)
    }
}

impl fmt::Display for WayOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chirp(url) => f.write_str(&spelled(url, "chirp")),
            Self::Process(words) => f.write_str(&process::spelled("process", words)),
            Self::LiveKitConsole(command) => command.fmt(f),
            Self::LiveKit(address) => address.fmt(f),
            Self::Pipecat(url) => f.write_str(&spelled(url, "pipecat-ws")),
            Self::PipecatWebRtc(address) => address.fmt(f),
            Self::Telephony(address) => address.fmt(f),
            Self::Chat(url) => f.write_str(&spelled(url, "chat")),
            Self::ChatProcess(words) => f.write_str(&process::spelled("chat-process", words)),
            Self::OpenAi(server) => server.fmt(f),
        }
    }
}

impl serde::Serialize for WayOut {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for WayOut {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
