//! What goes wrong with a LiveKit server, by its own name.

use livekit_protocol::DisconnectReason;
use livekit_protocol::leave_request::Action;
use livekit_signaling::SignalError;

use crate::transport::webrtc::PeerError;

/// A room cannot be joined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The address is no LiveKit server's.
    #[error("{url} is no address of a LiveKit server: {problem}")]
    Url {
        /// What was given.
        url: String,
        /// Why not.
        problem: String,
    },
    /// The server's name is not known, nobody listens, or it is no LiveKit server.
    #[error("the LiveKit server at {url} cannot be reached: {problem}")]
    Unreachable {
        /// Its address.
        url: String,
        /// Why not.
        problem: String,
    },
    /// The token is out of date.
    #[error("the access token has expired")]
    TokenExpired,
    /// The token was made with another key or secret.
    #[error("the server does not know this access token: made with another key or secret")]
    TokenRefused,
    /// The token lets nobody in.
    #[error("the access token does not grant it: {0}")]
    NotGranted(String),
    /// The server takes no more.
    #[error("the LiveKit server is full: {0}")]
    ServerFull(String),
    /// The server takes the token and begins no session: so it answers where a room is full.
    #[error("the LiveKit server began no session (500): the room is full (max_participants), or the server's log says why")]
    NoSession,
    /// The server says no in another way.
    #[error("the LiveKit server refuses: {0}")]
    Refused(String),
    /// The room is not there and the server makes none.
    #[error("there is no such room: {0}")]
    NoRoom(String),
    /// The server does not answer in time.
    #[error("the LiveKit server did not answer within {0} s")]
    TimedOut(u64),
    /// Signalling works and media does not.
    #[error("media cannot reach the LiveKit server: {0}")]
    Media(#[from] PeerError),
    /// The server sent the participant away while it joined.
    #[error("{0}")]
    Left(Disconnect),
}

/// Why a participant is no longer in a room, in LiveKit's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Disconnect {
    /// It left.
    #[error("left the room")]
    Left,
    /// Another participant came with the same identity.
    #[error("another participant joined with the same identity")]
    DuplicateIdentity,
    /// The server is shut down.
    #[error("the LiveKit server is shutting down")]
    ServerShutdown,
    /// Somebody removed it.
    #[error("removed from the room through the server's API")]
    Removed,
    /// Somebody deleted the room.
    #[error("the room was deleted")]
    RoomDeleted,
    /// Another room stands in the place of the one that we were in.
    #[error("the room was deleted, or closed, while the connection to it was looked for")]
    RoomGone,
    /// The room was empty for too long.
    #[error("the room was closed")]
    RoomClosed,
    /// The server cannot put the session together again.
    #[error("the server no longer knows this session")]
    StateMismatch,
    /// Media could not be set up, or broke.
    #[error("media could not be set up")]
    MediaFailure,
    /// The connection was lost.
    #[error("the connection was lost")]
    ConnectionLost,
    /// The agent failed.
    #[error("the agent reported an error")]
    AgentError,
    /// A reason of the server's that says nothing more.
    #[error("the server ended the session ({0})")]
    Other(&'static str),
}

impl Disconnect {
    /// Somebody wanted it so: nothing has failed.
    pub(super) const fn is_meant(self) -> bool {
        matches!(self, Self::Left | Self::Removed | Self::RoomDeleted | Self::RoomGone | Self::RoomClosed)
    }
}

impl From<DisconnectReason> for Disconnect {
    fn from(reason: DisconnectReason) -> Self {
        match reason {
            DisconnectReason::ClientInitiated => Self::Left,
            DisconnectReason::DuplicateIdentity => Self::DuplicateIdentity,
            DisconnectReason::ServerShutdown => Self::ServerShutdown,
            DisconnectReason::ParticipantRemoved => Self::Removed,
            DisconnectReason::RoomDeleted => Self::RoomDeleted,
            DisconnectReason::RoomClosed => Self::RoomClosed,
            DisconnectReason::StateMismatch => Self::StateMismatch,
            DisconnectReason::MediaFailure | DisconnectReason::JoinFailure => Self::MediaFailure,
            DisconnectReason::SignalClose | DisconnectReason::ConnectionTimeout => Self::ConnectionLost,
            DisconnectReason::AgentError => Self::AgentError,
            other => Self::Other(other.as_str_name()),
        }
    }
}

/// What a server's leave message or a failed signalling step means: try again, join anew, or give up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The same again, after a pause.
    Again(JoinError),
    /// The session is gone; a new one may be had.
    Anew,
    /// No other try will do better.
    GiveUp(JoinError),
}

/// Sorts a signalling error. The texts of the server's answers can hold the whole token: none of them is repeated.
pub(super) fn sort(error: SignalError, url: &str) -> Verdict {
    let url = || shown(url);
    match error {
        SignalError::UrlParse(problem) => Verdict::GiveUp(JoinError::Url { url: url(), problem }),
        SignalError::TokenFormat => Verdict::GiveUp(JoinError::TokenRefused),
        SignalError::Client(status, text) => refused(status.as_u16(), &text),
        SignalError::Handshake { status } if matches!(status.as_u16(), 401 | 403) => Verdict::GiveUp(JoinError::TokenRefused),
        // A good token that is refused so: the server has closed the session that it had just begun.
        SignalError::Handshake { status } if status.as_u16() == 500 => Verdict::Again(JoinError::NoSession),
        SignalError::Handshake { status } => {
            Verdict::Again(JoinError::Unreachable { url: url(), problem: format!("it answered {status}") })
        }
        SignalError::Server(status, text) if status.as_u16() == 503 && text.contains("limit") => {
            Verdict::Again(JoinError::ServerFull("its configured limit is reached".to_owned()))
        }
        SignalError::Server(status, _) => Verdict::Again(JoinError::Refused(format!("it answered {status}"))),
        SignalError::Timeout(_) => Verdict::Again(JoinError::TimedOut(super::signal::CONNECT_TIME.as_secs())),
        SignalError::LeaveRequest { reason, action } => match action {
            Action::Disconnect => Verdict::GiveUp(JoinError::Left(reason.into())),
            Action::Resume | Action::Reconnect => Verdict::Anew,
        },
        SignalError::Connection(problem) => Verdict::Again(JoinError::Unreachable { url: url(), problem }),
        other => Verdict::Again(JoinError::Unreachable { url: url(), problem: other.to_string() }),
    }
}

/// What a 4xx of the server says, by its text (livekit-server's `pkg/service/rtcservice.go`).
fn refused(status: u16, text: &str) -> Verdict {
    let text = text.to_lowercase();
    let has = |part: &str| text.contains(part);
    let error = match status {
        401 if has("expired") => JoinError::TokenExpired,
        401 | 403 if has("permission") => JoinError::NotGranted("joining this room".to_owned()),
        401 | 403 => JoinError::TokenRefused,
        404 if has("room") => return Verdict::GiveUp(JoinError::NoRoom("the server makes none by itself".to_owned())),
        404 => return Verdict::Anew,
        429 => return Verdict::Again(JoinError::ServerFull("too many requests".to_owned())),
        _ if has("limit") => JoinError::ServerFull("a limit is reached".to_owned()),
        other => JoinError::Refused(format!("it answered {other}")),
    };
    Verdict::GiveUp(error)
}

/// An address without what may be secret in it.
pub(super) fn shown(url: &str) -> String {
    url::Url::parse(url).map_or_else(|_| "the address".to_owned(), |url| crate::transport::web_socket::shown(&url))
}
