//! A LiveKit server's own API: tokens, rooms, dispatches (<https://docs.livekit.io/reference/other/roomservice-api/>). Its
//! Twirp calls are protobuf over one POST each.

use std::time::Duration;

use livekit_api::access_token::{AccessToken, TokenVerifier, VideoGrants};
use livekit_api::webhooks::WebhookReceiver;
use livekit_protocol as proto;
use prost::Message;
use serde::Deserialize;
use url::Url;

use crate::transport::Secret;

/// How long a call of the API may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long the token of one call of the API is valid.
const CALL_VALID: Duration = Duration::from_secs(60);

/// A LiveKit server, and what lets us in.
#[derive(Debug, Clone)]
pub struct Server {
    url: Url,
    key: String,
    secret: Secret,
}

/// A call of the server's API that failed.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is none of a LiveKit server.
    #[error("{address:?} is no address of a LiveKit server: use ws://HOST:PORT or wss://HOST")]
    Address {
        /// What was given.
        address: String,
    },
    /// A token that cannot be made: a key, a room or an identity is empty.
    #[error("cannot make a LiveKit access token: {0}")]
    Token(String),
    /// Nobody answers there.
    #[error("the LiveKit server at {url} cannot be reached: {problem}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why not.
        problem: String,
    },
    /// The key or the secret is wrong.
    #[error("the LiveKit server does not take LIVEKIT_API_KEY and LIVEKIT_API_SECRET")]
    Unauthorized,
    /// The server refuses the call.
    #[error("the LiveKit server refused {method}: {problem}")]
    Refused {
        /// Which call.
        method: &'static str,
        /// Its words.
        problem: String,
        /// Its code, for example `not_found`.
        code: String,
    },
    /// The server's answer cannot be read.
    #[error("the LiveKit server's answer to {method} cannot be read: {problem}")]
    Answer {
        /// Which call.
        method: &'static str,
        /// Why not.
        problem: String,
    },
}

impl ServerError {
    /// The server does not know what was asked for.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "not_found")
    }
}

/// What the bearer of a token may do in its room.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    /// Nobody sees the participant.
    pub hidden: bool,
    /// It records: others see that the room is being recorded.
    pub recorder: bool,
    /// It may not publish tracks or data.
    pub listens_only: bool,
    /// Sets the participant's display name.
    pub name: Option<String>,
    /// Sets the participant's metadata.
    pub metadata: Option<String>,
    /// Sets the participant's attributes.
    pub attributes: Vec<(String, String)>,
}

/// How an error of Twirp looks (<https://twitchtv.github.io/twirp/docs/spec_v7.html>).
#[derive(Deserialize)]
struct TwirpError {
    code: String,
    msg: String,
}

impl Server {
    /// A server at `ws://`, `wss://`, `http://` or `https://`.
    ///
    /// # Errors
    /// [`ServerError::Address`].
    pub fn new(address: &str, key: &str, secret: Secret) -> Result<Self, ServerError> {
        let url = Url::parse(address).ok().filter(|url| url.has_host());
        let url = url.filter(|url| matches!(url.scheme(), "ws" | "wss" | "http" | "https"));
        let shown = || crate::transport::hide_address(address).into_owned();
        let url = url.ok_or_else(|| ServerError::Address { address: shown() })?;
        Ok(Self { url, key: key.to_owned(), secret })
    }

    /// Another server with the same key and secret.
    #[must_use]
    pub fn at(&self, url: Url) -> Self {
        Self { url, ..self.clone() }
    }

    /// Its address.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// Its address as it is shown.
    #[must_use]
    pub fn shown(&self) -> String {
        crate::transport::web_socket::shown(&self.url)
    }

    /// A token with which `identity` may join `room`, for `valid` from now on.
    ///
    /// # Errors
    /// [`ServerError::Token`] when one of them is empty.
    pub fn room_token(&self, room: &str, identity: &str, valid: Duration, grants: &Grants) -> Result<String, ServerError> {
        let video = VideoGrants {
            room: room.to_owned(),
            room_join: true,
            can_publish: Some(!grants.listens_only),
            can_publish_data: Some(!grants.listens_only),
            can_subscribe: Some(true),
            can_update_own_metadata: Some(true),
            hidden: grants.hidden,
            recorder: grants.recorder,
            ..VideoGrants::default()
        };
        let mut token = self.token(video, valid).with_identity(identity);
        if let Some(name) = &grants.name {
            token = token.with_name(name);
        }
        if let Some(metadata) = &grants.metadata {
            token = token.with_metadata(metadata);
        }
        if !grants.attributes.is_empty() {
            token = token.with_attributes(grants.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        }
        signed(token)
    }

    /// A token with which an agent worker may register.
    ///
    /// # Errors
    /// [`ServerError::Token`].
    pub fn worker_token(&self, valid: Duration) -> Result<String, ServerError> {
        signed(self.token(VideoGrants { agent: true, ..VideoGrants::default() }, valid))
    }

    /// What tells the server's webhooks from others.
    pub(super) fn webhooks(&self) -> WebhookReceiver {
        WebhookReceiver::new(TokenVerifier::with_api_key(&self.key, self.secret.reveal()))
    }

    fn token(&self, grants: VideoGrants, valid: Duration) -> AccessToken {
        AccessToken::with_api_key(&self.key, self.secret.reveal()).with_ttl(valid).with_grants(grants)
    }

    /// Makes a room; one that is there already stays as it is.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn create_room(&self, request: proto::CreateRoomRequest) -> Result<proto::Room, ServerError> {
        self.call("RoomService", "CreateRoom", VideoGrants { room_create: true, ..VideoGrants::default() }, request).await
    }

    /// The rooms that are there; with names only those of them.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn list_rooms(&self, names: Vec<String>) -> Result<Vec<proto::Room>, ServerError> {
        let request = proto::ListRoomsRequest { names };
        let grants = VideoGrants { room_list: true, ..VideoGrants::default() };
        Ok(self.call::<_, proto::ListRoomsResponse>("RoomService", "ListRooms", grants, request).await?.rooms)
    }

    /// Ends a room: everybody in it is sent away. One that is gone already is fine.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn delete_room(&self, room: &str) -> Result<(), ServerError> {
        let request = proto::DeleteRoomRequest { room: room.to_owned() };
        let grants = VideoGrants { room_create: true, ..VideoGrants::default() };
        match self.call::<_, proto::DeleteRoomResponse>("RoomService", "DeleteRoom", grants, request).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Sends a participant away.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn remove_participant(&self, room: &str, identity: &str) -> Result<(), ServerError> {
        let request = proto::RoomParticipantIdentity { room: room.to_owned(), identity: identity.to_owned(), ..Default::default() };
        let grants = admin(room);
        self.call::<_, proto::RemoveParticipantResponse>("RoomService", "RemoveParticipant", grants, request).await.map(drop)
    }

    /// Asks for an agent in a room; makes the room if it is not there.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn dispatch(&self, room: &str, agent_name: &str, metadata: &str) -> Result<proto::AgentDispatch, ServerError> {
        let request = proto::CreateAgentDispatchRequest {
            agent_name: agent_name.to_owned(),
            room: room.to_owned(),
            metadata: metadata.to_owned(),
            ..Default::default()
        };
        self.call("AgentDispatchService", "CreateDispatch", admin(room), request).await
    }

    /// The dispatches of a room, with their jobs.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn dispatches(&self, room: &str) -> Result<Vec<proto::AgentDispatch>, ServerError> {
        let request = proto::ListAgentDispatchRequest { room: room.to_owned(), ..Default::default() };
        let listed: proto::ListAgentDispatchResponse =
            self.call("AgentDispatchService", "ListDispatch", admin(room), request).await?;
        Ok(listed.agent_dispatches)
    }

    async fn call<Q: Message, A: Message + Default>(
        &self,
        service: &str,
        method: &'static str,
        grants: VideoGrants,
        request: Q,
    ) -> Result<A, ServerError> {
        let unreachable =
            |error: reqwest::Error| ServerError::Unreachable { url: self.shown(), problem: crate::http::detail(&error) };
        let mut url = self.url.clone();
        let scheme = if matches!(url.scheme(), "wss" | "https") { "https" } else { "http" };
        let changed = url.set_scheme(scheme);
        debug_assert!(changed.is_ok(), "each of the four schemes may become any other of them");
        url.set_path(&format!("{}/twirp/livekit.{service}/{method}", url.path().trim_end_matches('/')));
        let http = crate::http::client(&url).map_err(unreachable)?;
        let token = signed(self.token(grants, CALL_VALID))?;
        let sent = http
            .post(url)
            .bearer_auth(token)
            .timeout(TIMEOUT)
            .header(reqwest::header::CONTENT_TYPE, "application/protobuf")
            .body(request.encode_to_vec())
            .send();
        let response = sent.await.map_err(unreachable)?;
        let status = response.status();
        let body = response.bytes().await.map_err(unreachable)?;
        if status.is_success() {
            return A::decode(body).map_err(|error| ServerError::Answer { method, problem: error.to_string() });
        }
        match serde_json::from_slice::<TwirpError>(&body) {
            Ok(error) if error.code == "unauthenticated" => Err(ServerError::Unauthorized),
            Ok(TwirpError { code, msg }) => Err(ServerError::Refused { method, problem: msg, code }),
            Err(_) if status.as_u16() == 401 => Err(ServerError::Unauthorized),
            Err(_) => Err(ServerError::Refused { method, problem: format!("it answered {status}"), code: String::new() }),
        }
    }
}

fn signed(token: AccessToken) -> Result<String, ServerError> {
    token.to_jwt().map_err(|error| ServerError::Token(error.to_string()))
}

fn admin(room: &str) -> VideoGrants {
    VideoGrants { room: room.to_owned(), room_admin: true, ..VideoGrants::default() }
}
