//! The doors that `serve` opens. Each has one entry in [`KINDS`].

use std::net::SocketAddr;
use std::pin::Pin;
use std::str::FromStr;

use super::super::doors::{chat_door, chirp_door, closed_door, fits, offer_door, pipecat_door, token_door};
use crate::config::{Config, TokenDoorConfig};
use crate::error::Failure;
use crate::spelling::nearest;
use crate::transport::pipecat::web_rtc;
use crate::transport::telephony_ws::{Provider, TelephonyDoor};
use crate::transport::web_socket::{Door, Entrance};
use crate::transport::{Arrivals, WayOut};

/// A kind of door.
struct Kind {
    /// As in `--door NAME` and `[doors.NAME]`.
    name: &'static str,
    /// As messages name it.
    shown: &'static str,
    /// Its callers write, and do not speak.
    chats: bool,
    /// Where the configuration lets it listen.
    configured: fn(&Config) -> Option<SocketAddr>,
    /// Sets it up; an address that is given goes before the configuration's.
    set_up: fn(&Config, Option<SocketAddr>) -> Result<Opening, Failure>,
}

/// Every kind.
const KINDS: &[Kind] = &[
    Kind {
        name: CHIRP,
        shown: "a CHIRP door",
        chats: false,
        configured: |config| config.doors.chirp.listen,
        set_up: |config, listen| {
            let mut door = chirp_door(config)?;
            door.listen = listen.unwrap_or(door.listen);
            Ok(opening(door))
        },
    },
    Kind {
        name: CHAT,
        shown: "a chat door",
        chats: true,
        configured: |config| config.doors.chat.listen,
        set_up: |config, listen| {
            let mut door = chat_door(config)?;
            door.listen = listen.unwrap_or(door.listen);
            Ok(opening(door))
        },
    },
    Kind {
        name: web_rtc::DOOR,
        shown: "a door for WebRTC offers",
        chats: false,
        configured: |config| config.doors.pipecat_webrtc.listen,
        set_up: |config, listen| {
            let mut door = offer_door(config)?;
            door.listen = listen.unwrap_or(door.listen);
            Ok(Box::pin(async {
                let door = door.open().await.map_err(closed_door)?;
                let shown = format!("{} {} ({})", web_rtc::DOOR, door.address(), door.url());
                Ok(OpenDoor { shown, arrivals: door.into() })
            }))
        },
    },
    Kind {
        name: "pipecat",
        shown: "a Pipecat door",
        chats: false,
        configured: |config| config.doors.pipecat.door.listen,
        set_up: |config, listen| {
            let mut door = pipecat_door(config)?;
            door.door.listen = listen.unwrap_or(door.door.listen);
            Ok(opening(door))
        },
    },
    Kind {
        name: "twilio",
        shown: "a Twilio door",
        chats: false,
        configured: |config| config.doors.twilio.listen,
        set_up: |config, listen| telephony(Provider::Twilio, &config.doors.twilio, listen),
    },
    Kind {
        name: "telnyx",
        shown: "a Telnyx door",
        chats: false,
        configured: |config| config.doors.telnyx.listen,
        set_up: |config, listen| telephony(Provider::Telnyx, &config.doors.telnyx, listen),
    },
    Kind {
        name: "plivo",
        shown: "a Plivo door",
        chats: false,
        configured: |config| config.doors.plivo.listen,
        set_up: |config, listen| telephony(Provider::Plivo, &config.doors.plivo, listen),
    },
    Kind {
        name: "exotel",
        shown: "an Exotel door",
        chats: false,
        configured: |config| config.doors.exotel.listen,
        set_up: |config, listen| telephony(Provider::Exotel, &config.doors.exotel, listen),
    },
    Kind {
        name: "vonage",
        shown: "a Vonage door",
        chats: false,
        configured: |config| config.doors.vonage.listen,
        set_up: |config, listen| telephony(Provider::Vonage, &config.doors.vonage, listen),
    },
    Kind {
        name: "genesys",
        shown: "a Genesys door",
        chats: false,
        configured: |config| config.doors.genesys.listen,
        set_up: |config, listen| telephony(Provider::Genesys, &config.doors.genesys, listen),
    },
];

/// The door that `--listen` means, and that stands in front of an agent which speaks where none is asked for.
pub(super) const CHIRP: &str = "chirp";
/// The door that `--chat-listen` means, and that stands in front of an agent of text only where none is asked for.
pub(super) const CHAT: &str = "chat";

/// A door that is about to open.
pub(super) type Opening = Pin<Box<dyn Future<Output = Result<OpenDoor, Failure>>>>;

/// A door that is open.
pub(super) struct OpenDoor {
    /// Its name, its address, and how callers reach it.
    pub(super) shown: String,
    /// Its calls.
    pub(super) arrivals: Arrivals,
}

/// A door that a flag asks for: `NAME` or `NAME=LISTEN`.
#[derive(Debug, Clone, Copy)]
pub(super) struct DoorFlag {
    name: &'static str,
    listen: Option<SocketAddr>,
}

impl DoorFlag {
    /// The door of this name, at this address.
    pub(super) fn at(name: &'static str, listen: SocketAddr) -> Self {
        Self { name, listen: Some(listen) }
    }
}

impl FromStr for DoorFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, listen) = text.split_once('=').map_or((text, None), |(name, listen)| (name, Some(listen)));
        let names = || KINDS.iter().map(|kind| kind.name);
        let Some(name) = names().find(|known| *known == name) else {
            let nearest = nearest(name, names()).unwrap_or_default();
            return Err(format!("unknown door {name:?}; the nearest known one is {nearest:?}"));
        };
        let address =
            |listen: &str| listen.parse().map_err(|_| format!("{listen:?} is no address to listen on, as 127.0.0.1:8765"));
        Ok(Self { name, listen: listen.map(address).transpose()? })
    }
}

/// Sets up the doors that flags or the configuration ask for. Where nothing does, and there is not `another` door, the one that
/// fits the agent.
pub(super) fn set_up(flags: &[DoorFlag], config: &Config, to: &WayOut, another: bool) -> Result<Vec<Opening>, Failure> {
    let configured = |kind: &Kind| (kind.configured)(config).is_some();
    let none = !another && flags.is_empty() && !KINDS.iter().any(configured);
    let usual = if to.is_text_only() { CHAT } else { CHIRP };
    let mut openings = Vec::new();
    for kind in KINDS {
        let mut asked = flags.iter().filter(|flag| flag.name == kind.name);
        let flag = asked.next();
        if asked.next().is_some() {
            return Err(Failure::usage(format!("the {} door is asked for twice", kind.name)));
        }
        if flag.is_some() || configured(kind) || (none && kind.name == usual) {
            fits(kind.shown, kind.chats, to)?;
            openings.push((kind.set_up)(config, flag.and_then(|flag| flag.listen))?);
        }
    }
    Ok(openings)
}

/// A telephony provider's door. Each has a usual port of its own.
fn telephony(provider: Provider, config: &TokenDoorConfig, listen: Option<SocketAddr>) -> Result<Opening, Failure> {
    let mut door = token_door(provider.name(), config, 8771 + provider as u16)?;
    door.listen = listen.unwrap_or(door.listen);
    Ok(opening(TelephonyDoor { provider, door }))
}

/// Opens a door of WebSockets.
fn opening(entrance: impl Entrance) -> Opening {
    Box::pin(async {
        let door = Door::open(entrance).await.map_err(closed_door)?;
        let shown = format!("{} {} ({})", door.wire(), door.address(), door.url());
        Ok(OpenDoor { shown, arrivals: door.into() })
    })
}
