//! What else is tried while a direct way over UDP is looked for, and when.

use std::time::{Duration, Instant};

/// How long a direct way is looked for before relays are asked for over UDP.
const RELAY_AFTER: Duration = Duration::from_millis(250);
/// How long a way over UDP is looked for before TCP is tried too, and relays behind it: with UDP it takes some round trips.
const TCP_AFTER: Duration = Duration::from_millis(500);

/// What is tried next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::transport::webrtc) enum Resort {
    /// Relays that are asked over UDP.
    Relays,
    /// TCP, and relays that are asked over it.
    Tcp,
}

/// How far one search for a way has got.
#[derive(Debug, Default)]
pub(in crate::transport::webrtc) struct Fallback(Option<(Instant, Resort)>);

impl Fallback {
    /// The search begins, unless one is under way.
    pub(in crate::transport::webrtc) fn begin(&mut self, now: Instant) {
        self.0.get_or_insert((now, Resort::Relays));
    }

    /// The search is over.
    pub(in crate::transport::webrtc) fn stop(&mut self) {
        self.0 = None;
    }

    /// When there is something to try.
    pub(in crate::transport::webrtc) fn wake(&self) -> Option<Instant> {
        self.0.map(|(since, next)| since + if next == Resort::Relays { RELAY_AFTER } else { TCP_AFTER })
    }

    /// What is to be tried at `now`, once each.
    pub(in crate::transport::webrtc) fn due(&mut self, now: Instant) -> Option<Resort> {
        self.wake().filter(|at| *at <= now)?;
        let (since, resort) = self.0.take()?;
        if resort == Resort::Relays {
            self.0 = Some((since, Resort::Tcp));
        }
        Some(resort)
    }
}
