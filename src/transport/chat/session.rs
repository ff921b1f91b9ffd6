//! The clocks of a chat session: how long nobody may say anything, and whether the far side still answers pings.

use std::time::Duration;

use tokio::time::Instant;

use crate::call::EndReason;

/// Without a content message for so long the session ends (Cekura's chat page: 5 minutes).
pub const IDLE: Duration = Duration::from_secs(300);
/// The caller pings this often (Cekura's chat page).
pub const PING_EVERY: Duration = Duration::from_secs(30);
/// A far side that does not answer a ping within this time is gone (Cekura's chat page).
pub const PONG_WITHIN: Duration = Duration::from_secs(10);

/// What the clocks of a session are set to.
#[derive(Debug, Clone, Copy)]
pub struct SessionRules {
    /// The longest time without a content message of either side; none: for ever.
    pub idle: Option<Duration>,
    /// We ping the far side, as Cekura does.
    pub pings: bool,
    /// The far side is the caller: it is the other one, the agent, who owes it an answer.
    pub far_is_caller: bool,
    /// The agent is to say the first word; none: not known.
    pub agent_speaks_first: Option<bool>,
}

/// The clocks of a session.
#[derive(Debug)]
pub struct Session {
    rules: SessionRules,
    spoken: Instant,
    /// Who spoke last was the far side; none: nobody has spoken.
    far_spoke: Option<bool>,
    ping_at: Instant,
    /// A ping waits for its answer since then.
    pinged: Option<Instant>,
}

/// What is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// A ping is to be sent.
    Ping,
    /// The session is to end.
    End {
        /// Why.
        reason: EndReason,
        /// In words.
        detail: String,
    },
}

impl Session {
    /// A session that begins at `now`.
    #[must_use]
    pub fn new(rules: SessionRules, now: Instant) -> Self {
        Self { rules, spoken: now, far_spoke: None, ping_at: now + PING_EVERY, pinged: None }
    }

    /// The far side said something with content.
    pub fn far_spoke(&mut self, now: Instant) {
        (self.spoken, self.far_spoke) = (now, Some(true));
    }

    /// The far side was told something with content.
    pub fn near_spoke(&mut self, now: Instant) {
        (self.spoken, self.far_spoke) = (now, Some(false));
    }

    /// A pong came.
    pub fn pong(&mut self) {
        self.pinged = None;
    }

    /// When [`Self::due`] has something to say, if nothing comes before.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        let idle = self.rules.idle.map(|idle| self.spoken + idle);
        let ping = self.rules.pings.then(|| self.pinged.map_or(self.ping_at, |since| since + PONG_WITHIN));
        idle.into_iter().chain(ping).min()
    }

    /// What is due at `now`.
    pub fn due(&mut self, now: Instant) -> Option<Due> {
        if let Some(since) = self.pinged
            && now >= since + PONG_WITHIN
        {
            let detail = format!("a ping was not answered within {} s", PONG_WITHIN.as_secs());
            return Some(Due::End { reason: EndReason::ConnectionLost, detail });
        }
        if let Some(idle) = self.rules.idle
            && now >= self.spoken + idle
        {
            let detail = format!("no message for {} s", idle.as_secs_f64());
            let reason = if self.agent_owes() { EndReason::AgentSilent } else { EndReason::IdleTimeout };
            return Some(Due::End { reason, detail });
        }
        if self.rules.pings && self.pinged.is_none() && now >= self.ping_at {
            self.ping_at = now + PING_EVERY;
            self.pinged = Some(now);
            return Some(Due::Ping);
        }
        None
    }

    /// It is the agent's turn: the caller spoke last, or nobody has and the agent was to begin.
    fn agent_owes(&self) -> bool {
        match self.far_spoke {
            Some(far) => far == self.rules.far_is_caller,
            None => self.rules.agent_speaks_first == Some(true),
        }
    }
}
