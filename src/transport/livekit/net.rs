//! The sockets of LiveKit's signalling client: it has the protocol, we have the WebSocket, the TLS and the HTTP that the whole
//! program uses. So there is one trust store, and no token in a log line of another crate.

use std::sync::{Arc, Once};

use async_trait::async_trait;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use livekit_net::{Header, HttpClient, HttpMethod, HttpResponse, TransportError, WsClient, WsConnectResult, WsConnection};
use tokio::sync::Mutex;
use tokio_tungstenite::tungstenite::protocol::Message;
use url::Url;

use crate::transport::SetUp;
use crate::transport::web_socket::{self, OpenError, Socket};

/// The longest signalling message, in bytes: a room of thousands, and a little.
const LONGEST_MESSAGE: usize = 16 << 20;

/// Gives LiveKit's crates our sockets. May be called again and again.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        livekit_net::set_ws_client(Arc::new(Net));
        livekit_net::set_http_client(Arc::new(Net));
    });
}

struct Net;

/// Opens a WebSocket whose far side is a LiveKit server.
pub(super) async fn open(url: &Url, headers: Vec<(String, String)>) -> Result<Socket, OpenError> {
    let headers = web_socket::headers(url, headers).map_err(OpenError::Never)?;
    web_socket::open(url, &headers, web_socket::web_socket_config(LONGEST_MESSAGE), &mut SetUp::default()).await
}

#[async_trait]
impl WsClient for Net {
    async fn connect(&self, url: String, headers: Vec<Header>, _timeout_ms: u64) -> Result<WsConnectResult, TransportError> {
        let url = Url::parse(&url).map_err(|error| TransportError::Other(error.to_string()))?;
        // The signalling client limits the time itself.
        let opened = open(&url, headers.into_iter().map(|header| (header.name, header.value)).collect()).await;
        let socket = opened.map_err(|error| match error {
            OpenError::Status(status) => TransportError::Http { status: status.as_u16() },
            OpenError::Broken(problem) => TransportError::Connection(problem),
            OpenError::Never(error) => TransportError::Other(error.to_string()),
        })?;
        let (write, read) = socket.split();
        Ok(WsConnectResult { connection: Arc::new(Connection { write: Mutex::new(write), read: Mutex::new(read) }) })
    }
}

struct Connection {
    write: Mutex<SplitSink<Socket, Message>>,
    read: Mutex<SplitStream<Socket>>,
}

#[async_trait]
impl WsConnection for Connection {
    async fn send(&self, frame: Vec<u8>) -> Result<(), TransportError> {
        let sent = self.write.lock().await.send(Message::binary(frame)).await;
        sent.map_err(|error| TransportError::Connection(error.to_string()))
    }

    async fn recv(&self) -> Result<Option<Vec<u8>>, TransportError> {
        let mut read = self.read.lock().await;
        loop {
            match read.next().await {
                Some(Ok(Message::Binary(frame))) => return Ok(Some(frame.into())),
                Some(Ok(Message::Close(_))) | None => return Ok(None),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(TransportError::Connection(error.to_string())),
            }
        }
    }

    async fn close(&self) {
        // The far side may be gone already.
        drop(self.write.lock().await.close().await);
    }
}

#[async_trait]
impl HttpClient for Net {
    async fn request(
        &self,
        method: HttpMethod,
        url: String,
        headers: Vec<Header>,
        body: Option<Vec<u8>>,
    ) -> Result<HttpResponse, TransportError> {
        let url = Url::parse(&url).map_err(|error| TransportError::Other(error.to_string()))?;
        let broken = |error: reqwest::Error| TransportError::Connection(crate::http::detail(&error));
        let method = match method {
            HttpMethod::Get => reqwest::Method::GET,
            HttpMethod::Post => reqwest::Method::POST,
        };
        let mut request = crate::http::client(&url).map_err(broken)?.request(method, url);
        for Header { name, value } in headers {
            request = request.header(name, value);
        }
        let response = request.body(body.unwrap_or_default()).send().await.map_err(broken)?;
        let status = response.status().as_u16();
        let headers = response.headers().iter();
        let headers =
            headers.filter_map(|(name, value)| Some(Header { name: name.to_string(), value: value.to_str().ok()?.to_owned() }));
        let headers = headers.collect();
        Ok(HttpResponse { status, headers, body: response.bytes().await.map_err(broken)?.to_vec() })
    }
}
