//! The providers whose dialects are spoken, and how a bot is called in one.

use std::fmt;
use std::str::FromStr;

use url::Url;

use super::dialect::{Dialect, Format, Role};
use super::genesys::Genesys;
use super::media_streams::MediaStreams;
use super::vonage::Vonage;
use super::{CAPABILITIES, exotel, plivo, telnyx, twilio};
use crate::audio::Rate;
use crate::transport::Capability;
use crate::transport::web_socket::spelled;

/// A provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// Twilio Media Streams.
    Twilio,
    /// Telnyx media streaming.
    Telnyx,
    /// Plivo audio streaming.
    Plivo,
    /// Exotel's Voicebot applet.
    Exotel,
    /// Vonage's WebSockets.
    Vonage,
    /// Genesys AudioHook.
    Genesys,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Twilio, Self::Telnyx, Self::Plivo, Self::Exotel, Self::Vonage, Self::Genesys];

    /// As in `--door NAME` and `NAME+ws://`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Twilio => "twilio",
            Self::Telnyx => "telnyx",
            Self::Plivo => "plivo",
            Self::Exotel => "exotel",
            Self::Vonage => "vonage",
            Self::Genesys => "genesys",
        }
    }

    /// The forms in which it carries audio; the first is the usual one.
    #[must_use]
    pub const fn formats(self) -> &'static [Format] {
        const L16: [Format; 3] = [Format::l16(Rate::HZ_8000), Format::l16(Rate::HZ_16000), Format::l16(Rate::HZ_24000)];
        match self {
            Self::Twilio | Self::Genesys => &[Format::PCMU],
            Self::Telnyx => &[Format::PCMU, Format::PCMA],
            Self::Plivo => &[Format::PCMU, L16[0], L16[1]],
            Self::Exotel => &L16,
            Self::Vonage => &[L16[1], L16[0], L16[2]],
        }
    }

    /// Its dialect, from our side of a call. A bot hears of the form of the audio when the stream begins.
    #[must_use]
    pub fn dialect(self, role: Role, format: Format) -> Box<dyn Dialect> {
        match self {
            Self::Twilio => Box::new(MediaStreams::new(&twilio::SPELLING, role, format)),
            Self::Telnyx => Box::new(MediaStreams::new(&telnyx::SPELLING, role, format)),
            Self::Plivo => Box::new(MediaStreams::new(&plivo::SPELLING, role, format)),
            Self::Exotel => Box::new(MediaStreams::new(&exotel::SPELLING, role, format)),
            Self::Vonage => Box::new(Vonage::new(role, format)),
            Self::Genesys => Box::new(Genesys::new(role)),
        }
    }

    pub(in crate::transport) const fn capability(self) -> Capability {
        CAPABILITIES[self as usize]
    }
}

/// A bot's WebSocket server, and the provider that we play: `twilio+ws://HOST:PORT/PATH`, `twilio+wss://…`, with `#PCMA`, `#L16@8000` and the
/// like behind it where the audio has another form than is usual.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelephonyAddress {
    pub(super) provider: Provider,
    pub(super) format: Format,
    pub(super) url: Url,
}

impl TelephonyAddress {
    /// Reads one; none when the text begins like another way out.
    pub(in crate::transport) fn parse(text: &str) -> Option<Result<Self, String>> {
        let (scheme, rest) = text.split_once("://")?;
        let (name, web) = scheme.split_once('+').filter(|(_, web)| ["ws", "wss"].contains(web))?;
        let provider = Provider::ALL.into_iter().find(|provider| provider.name() == name)?;
        Some(Self::of(provider, &format!("{web}://{rest}")))
    }

    fn of(provider: Provider, address: &str) -> Result<Self, String> {
        let mut url = Url::parse(address).map_err(|error| error.to_string())?;
        let formats = provider.formats();
        let format = match url.fragment() {
            None => formats[0],
            Some(given) => Format::from_str(given).ok().filter(|given| formats.contains(given)).ok_or_else(|| {
                let known: Vec<_> = formats.iter().map(|format| format!("#{format}")).collect();
                format!("{} carries {}, not #{given}", provider.name(), known.join(", "))
            })?,
        };
        url.set_fragment(None);
        if url.password().is_some() || !url.username().is_empty() {
            return Err("credentials do not belong into an address".to_owned());
        }
        Ok(Self { provider, format, url })
    }

    /// What the wire can do.
    pub(in crate::transport) const fn capability(&self) -> Capability {
        self.provider.capability()
    }
}

impl fmt::Display for TelephonyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&spelled(&self.url, &format!("{}+ws", self.provider.name())))?;
        if self.format == self.provider.formats()[0] { Ok(()) } else { write!(f, "#{}", self.format) }
    }
}
