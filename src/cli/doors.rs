//! The doors as the configuration has them, and what is said of one that does not open.

use std::path::PathBuf;
use std::time::Duration;

use super::settings::{LONGEST, livekit_server_or, pipecat_ice};
use crate::config::{Config, TokenDoorConfig, credentials, secret};
use crate::error::Failure;
use crate::transport::WayOut;
use crate::transport::chat::ChatDoor;
use crate::transport::chirp::{ChirpDoor, ChirpLimits};
use crate::transport::livekit::{Server, WorkerOptions};
use crate::transport::pipecat::PipecatDoor;
use crate::transport::pipecat::web_rtc::{self, OfferDoor};
use crate::transport::telephony_ws::{Provider, TelephonyDoor};
use crate::transport::web_socket::{DoorError, TlsFiles, TokenDoor};

/// The CHIRP door as the configuration has it.
pub(super) fn chirp_door(config: &Config) -> Result<ChirpDoor, Failure> {
    let door = &config.doors.chirp;
    let plain = ChirpDoor::at(door.listen.unwrap_or_else(|| ([127, 0, 0, 1], 8765).into()));
    let limits = ChirpLimits {
        max_message: door.max_message.unwrap_or(plain.limits.max_message),
        idle: Some(idle("doors.chirp", door.idle_s)?.unwrap_or(Duration::from_secs(60))),
    };
    let file = door.credentials_file.as_deref();
    Ok(ChirpDoor {
        tls: tls_files("doors.chirp", door.certificate.as_ref(), door.key.as_ref())?,
        credentials: credentials("TRUNKLINE_DOOR_CREDENTIALS", file).map_err(Failure::usage)?,
        limits,
        max_calls: door.max_calls.unwrap_or(plain.max_calls),
        ..plain
    })
}

/// The chat door as the configuration has it.
pub(super) fn chat_door(config: &Config) -> Result<ChatDoor, Failure> {
    let door = &config.doors.chat;
    let plain = ChatDoor::at(door.listen.unwrap_or_else(|| ([127, 0, 0, 1], 8766).into()));
    Ok(ChatDoor {
        tls: tls_files("doors.chat", door.certificate.as_ref(), door.key.as_ref())?,
        secret: secret("TRUNKLINE_DOOR_SECRET", door.secret_file.as_deref()).map_err(Failure::usage)?,
        agent_speaks_first: door.agent_speaks_first,
        max_calls: door.max_calls.unwrap_or(plain.max_calls),
        max_message: door.max_message.unwrap_or(plain.max_message),
        idle: idle("doors.chat", door.idle_s)?.or(plain.idle),
        ..plain
    })
}

/// A door whose callers show a token, as the configuration has it under `[doors.NAME]`.
fn token_door(name: &str, door: &TokenDoorConfig, usual_port: u16) -> Result<TokenDoor, Failure> {
    let table = format!("doors.{name}");
    let plain = TokenDoor::at(door.listen.unwrap_or_else(|| ([127, 0, 0, 1], usual_port).into()));
    Ok(TokenDoor {
        tls: tls_files(&table, door.certificate.as_ref(), door.key.as_ref())?,
        token: secret("TRUNKLINE_DOOR_TOKEN", door.token_file.as_deref()).map_err(Failure::usage)?,
        max_calls: door.max_calls.unwrap_or(plain.max_calls),
        max_message: door.max_message.unwrap_or(plain.max_message),
        idle: Some(idle(&table, door.idle_s)?.unwrap_or(Duration::from_secs(60))),
        ..plain
    })
}

/// The Pipecat door.
pub(super) fn pipecat_door(config: &Config) -> Result<PipecatDoor, Failure> {
    const USUAL_PORT: u16 = 8767;
    let door = token_door("pipecat", &config.doors.pipecat.door, USUAL_PORT)?;
    Ok(PipecatDoor { door, rate: config.doors.pipecat.rate.unwrap_or(PipecatDoor::RATE) })
}

/// The LiveKit door, if one is asked for: the server, and the agent's name.
pub(super) fn livekit_door(name: Option<&str>, config: &Config) -> Result<Option<(Server, WorkerOptions)>, Failure> {
    let door = &config.doors.livekit;
    let Some(name) = name.or(door.agent_name.as_deref()) else { return Ok(None) };
    if name.trim().is_empty() {
        return Err(Failure::usage("the LiveKit door's agent has an empty name: without one it would be sent into every room"));
    }
    let plain = WorkerOptions::new(name);
    let max_jobs = door.max_calls.unwrap_or(plain.max_jobs);
    if max_jobs == 0 {
        return Err(Failure::usage("[doors.livekit] max_calls = 0: give 1 or more"));
    }
    let server = livekit_server_or(door.url.as_deref())?.ok_or_else(|| {
        Failure::usage("the LiveKit door needs a LiveKit server")
            .hint("set LIVEKIT_URL (or `url` under [doors.livekit]), LIVEKIT_API_KEY and LIVEKIT_API_SECRET")
    })?;
    Ok(Some((server, WorkerOptions { max_jobs, ..plain })))
}

/// The idle time of a door.
fn idle(table: &str, seconds: Option<u64>) -> Result<Option<Duration>, Failure> {
    let time = seconds.map(Duration::from_secs);
    match time.filter(|time| time.is_zero() || *time > LONGEST) {
        None => Ok(time),
        Some(wrong) => {
            Err(Failure::usage(format!("[{table}] idle_s = {}: give 1 to {} seconds", wrong.as_secs(), LONGEST.as_secs())))
        }
    }
}

fn tls_files(table: &str, certificate: Option<&PathBuf>, key: Option<&PathBuf>) -> Result<Option<TlsFiles>, Failure> {
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some(TlsFiles { certificate: certificate.clone(), key: key.clone() })),
        (None, None) => Ok(None),
        _ => Err(Failure::usage(format!("[{table}] needs both `certificate` and `key`, or neither"))),
    }
}

/// The door that takes Pipecat's WebRTC offers.
pub(super) fn offer_door(config: &Config) -> Result<OfferDoor, Failure> {
    let door = token_door(web_rtc::DOOR, &config.doors.pipecat_webrtc, 7860)?;
    let TokenDoor { listen, tls, token, max_calls, .. } = door;
    Ok(OfferDoor { listen, tls, token, max_calls, ice: pipecat_ice()?, agent_speaks_first: None })
}

/// The door that a telephony provider calls. Each has a usual port of its own.
pub(super) fn telephony_door(provider: Provider, config: &Config) -> Result<TelephonyDoor, Failure> {
    const FIRST_PORT: u16 = 8771;
    let door = token_door(provider.name(), config.doors.of_provider(provider), FIRST_PORT + provider as u16)?;
    Ok(TelephonyDoor { provider, door })
}

/// `callers` and the agent fit: both speak, or both write.
pub(super) fn fits(callers: &str, chats: bool, agent: &WayOut) -> Result<(), Failure> {
    let takes = if agent.is_text_only() { "text only" } else { "audio" };
    if chats == agent.is_text_only() {
        return Ok(());
    }
    Err(Failure::usage(format!("{callers} cannot stand in front of {agent}, which takes {takes}")))
}

/// A door that does not open: exit code 2 when the configuration asks for it, else 3.
pub(super) fn closed_door(error: DoorError) -> Failure {
    match error {
        DoorError::Unguarded { wire: "chat", .. } => {
            Failure::usage(&error).hint("set secret_file under [doors.chat] or TRUNKLINE_DOOR_SECRET, or listen on 127.0.0.1")
        }
        DoorError::Unguarded { wire: "chirp", .. } => Failure::usage(&error)
            .hint("set credentials_file under [doors.chirp] or TRUNKLINE_DOOR_CREDENTIALS=user:password, or listen on 127.0.0.1"),
        DoorError::Unguarded { wire, .. } => Failure::usage(&error)
            .hint(format!("set token_file under [doors.{wire}] or TRUNKLINE_DOOR_TOKEN, or listen on 127.0.0.1")),
        DoorError::Tls(_) => Failure::usage(&error),
        DoorError::Listen { wire, .. } => {
            Failure::infrastructure(&error).hint(format!("choose another address: `listen` under [doors.{wire}]"))
        }
    }
}
