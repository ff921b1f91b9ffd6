//! The doors that `serve` opens.

use std::net::SocketAddr;
use std::pin::Pin;
use std::str::FromStr;

use super::super::doors::{chat_door, chirp_door, closed_door, fits, offer_door, pipecat_door, telephony_door};
use crate::config::Config;
use crate::error::Failure;
use crate::spelling::nearest;
use crate::transport::chat::ChatDoor;
use crate::transport::chirp::ChirpDoor;
use crate::transport::pipecat::web_rtc::{self, OfferDoor};
use crate::transport::telephony_ws::Provider;
use crate::transport::web_socket::{Door, Entrance};
use crate::transport::{Arrivals, WayOut};

/// A kind of door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// That `--listen` means, and that stands in front of an agent which speaks where none is asked for.
    Chirp,
    /// That `--chat-listen` means, and that stands in front of an agent of text only where none is asked for.
    Chat,
    Pipecat,
    Offer,
    Telephony(Provider),
}

/// Every kind: the wires of their own, then the telephony providers.
fn kinds() -> impl Iterator<Item = Kind> {
    [Kind::Chirp, Kind::Chat, Kind::Pipecat, Kind::Offer].into_iter().chain(Provider::ALL.map(Kind::Telephony))
}

impl Kind {
    /// As in `--door NAME` and `[doors.NAME]`.
    const fn name(self) -> &'static str {
        match self {
            Self::Chirp => "chirp",
            Self::Chat => "chat",
            Self::Pipecat => "pipecat",
            Self::Offer => web_rtc::DOOR,
            Self::Telephony(provider) => provider.name(),
        }
    }

    /// As messages name it.
    fn shown(self) -> String {
        if self == Self::Chirp { "a CHIRP door".to_owned() } else { format!("a {} door", self.name()) }
    }

    /// Where the configuration lets it listen.
    const fn configured(self, config: &Config) -> Option<SocketAddr> {
        match self {
            Self::Chirp => config.doors.chirp.listen,
            Self::Chat => config.doors.chat.listen,
            Self::Pipecat => config.doors.pipecat.door.listen,
            Self::Offer => config.doors.pipecat_webrtc.listen,
            Self::Telephony(provider) => config.doors.of_provider(provider).listen,
        }
    }

    /// Sets it up; an address that is given goes before the configuration's.
    fn set_up(self, config: &Config, listen: Option<SocketAddr>) -> Result<Opening, Failure> {
        Ok(match self {
            Self::Chirp => {
                let door = chirp_door(config)?;
                opening(ChirpDoor { listen: listen.unwrap_or(door.listen), ..door })
            }
            Self::Chat => {
                let door = chat_door(config)?;
                opening(ChatDoor { listen: listen.unwrap_or(door.listen), ..door })
            }
            Self::Pipecat => {
                let mut entrance = pipecat_door(config)?;
                entrance.door.listen = listen.unwrap_or(entrance.door.listen);
                opening(entrance)
            }
            Self::Offer => {
                let door = offer_door(config)?;
                let door = OfferDoor { listen: listen.unwrap_or(door.listen), ..door };
                Box::pin(async {
                    let door = door.open().await.map_err(closed_door)?;
                    let shown = format!("{} {} ({})", web_rtc::DOOR, door.address(), door.url());
                    Ok(OpenDoor { shown, arrivals: door.into() })
                })
            }
            Self::Telephony(provider) => {
                let mut entrance = telephony_door(provider, config)?;
                entrance.door.listen = listen.unwrap_or(entrance.door.listen);
                opening(entrance)
            }
        })
    }
}

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
    kind: Kind,
    listen: Option<SocketAddr>,
}

impl DoorFlag {
    /// A door of this kind, at this address.
    pub(super) const fn at(kind: Kind, listen: SocketAddr) -> Self {
        Self { kind, listen: Some(listen) }
    }
}

impl FromStr for DoorFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, listen) = text.split_once('=').map_or((text, None), |(name, listen)| (name, Some(listen)));
        let Some(kind) = kinds().find(|kind| kind.name() == name) else {
            let nearest = nearest(name, kinds().map(Kind::name)).unwrap_or_default();
            return Err(format!("unknown door {name:?}; the nearest known one is {nearest:?}"));
        };
        let address =
            |listen: &str| listen.parse().map_err(|_| format!("{listen:?} is no address to listen on, as 127.0.0.1:8765"));
        Ok(Self { kind, listen: listen.map(address).transpose()? })
    }
}

/// Sets up the doors that flags or the configuration ask for. Where nothing does, and there is not `another` door, the one that
/// fits the agent.
pub(super) fn set_up(flags: &[DoorFlag], config: &Config, to: &WayOut, another: bool) -> Result<Vec<Opening>, Failure> {
    let none = !another && flags.is_empty() && kinds().all(|kind| kind.configured(config).is_none());
    let usual = if to.is_text_only() { Kind::Chat } else { Kind::Chirp };
    let mut openings = Vec::new();
    for kind in kinds() {
        let mut asked = flags.iter().filter(|flag| flag.kind == kind);
        let flag = asked.next();
        if asked.next().is_some() {
            return Err(Failure::usage(format!("the {} door is asked for twice", kind.name())));
        }
        if flag.is_some() || kind.configured(config).is_some() || (none && kind == usual) {
            fits(&kind.shown(), kind == Kind::Chat, to)?;
            openings.push(kind.set_up(config, flag.and_then(|flag| flag.listen))?);
        }
    }
    Ok(openings)
}

/// Opens a door of WebSockets.
fn opening(entrance: impl Entrance) -> Opening {
    Box::pin(async {
        let door = Door::open(entrance).await.map_err(closed_door)?;
        let shown = format!("{} {} ({})", door.wire(), door.address(), door.url());
        Ok(OpenDoor { shown, arrivals: door.into() })
    })
}
