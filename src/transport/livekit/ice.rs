//! Which ways to its media the server offers.

use livekit_protocol::{ClientConfigSetting, ClientConfiguration, IceServer as Told};

use crate::transport::webrtc::{IceOptions, IceServer};

/// What the server tells of its STUN and TURN servers, and whether nothing but relays may be used: it says so to a participant whose
/// direct ways have failed it. `relay_only` is our own wish.
pub(super) fn options(servers: &[Told], configuration: Option<&ClientConfiguration>, relay_only: bool) -> IceOptions {
    let forced = configuration.is_some_and(|told| told.force_relay() == ClientConfigSetting::Enabled);
    let urls = servers.iter().flat_map(|server| server.urls.iter().map(move |url| (url, server)));
    let read = urls.filter_map(|(url, server)| {
        let read = IceServer::new(url, &server.username, &server.credential);
        read.map_err(|error| tracing::debug!("{error}")).ok()
    });
    IceOptions { servers: read.collect(), relay_only: relay_only || forced }
}
