//! A LiveKit server that lets a participant use nothing but relays. livekit-server does so to one whose direct ways have failed it
//! again and again, which cannot be brought about here: this one does from the beginning. Its signalling is all there is of it.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::Poll;

use futures_util::{SinkExt, StreamExt};
use livekit_protocol::{
    ClientConfigSetting, ClientConfiguration, IceServer, JoinResponse, ParticipantInfo, Room as RoomInfo, SessionDescription,
    SignalRequest, SignalResponse, SignalTarget, TrickleRequest, signal_request, signal_response,
};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use trunkline::transport::livekit::{Room, RoomEvent, RoomOptions};
use trunkline::transport::webrtc::{ChannelPlan, IceOptions, Peer, PeerEvent, PeerState};

use super::common::coturn::{Coturn, PASSWORD, USER};

/// The server's side of one session.
struct Session {
    socket: WebSocketStream<TcpStream>,
    media: Peer,
    /// The candidates that the participant has told.
    told: Vec<String>,
}

impl Session {
    async fn begin(listener: TcpListener, turn: SocketAddr) -> Self {
        let (stream, _) = listener.accept().await.unwrap();
        let socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        let media = Peer::new(&[SocketAddr::from(([127, 0, 0, 1], 9))], &IceOptions::default());
        let mut session = Self { socket, media, told: Vec::new() };
        let server = IceServer { urls: vec![format!("turn:{turn}")], username: USER.to_owned(), credential: PASSWORD.to_owned() };
        let configuration = ClientConfiguration { force_relay: ClientConfigSetting::Enabled.into(), ..Default::default() };
        let join = JoinResponse {
            room: Some(RoomInfo { name: "forced".to_owned(), ..Default::default() }),
            participant: Some(ParticipantInfo { identity: "caller".to_owned(), ..Default::default() }),
            ice_servers: vec![server],
            client_configuration: Some(configuration),
            subscriber_primary: true,
            ping_interval: 5,
            ping_timeout: 15,
            ..Default::default()
        };
        session.send(signal_response::Message::Join(join)).await;
        let (sdp, _) = session.media.offer(None, &[ChannelPlan { label: "_reliable", reliable: true }]).unwrap();
        let offer = SessionDescription { r#type: "offer".to_owned(), sdp, id: 1, ..Default::default() };
        session.send(signal_response::Message::Offer(offer)).await;
        session
    }

    async fn send(&mut self, message: signal_response::Message) {
        let bytes = SignalResponse { message: Some(message) }.encode_to_vec();
        self.socket.send(Message::binary(bytes)).await.unwrap();
    }

    /// Goes on until the media connection is there.
    async fn until_connected(&mut self) {
        while self.media.state() != PeerState::Connected {
            let next = poll_fn(|cx| match self.media.poll_event(cx) {
                Poll::Ready(event) => Poll::Ready(Err(event)),
                Poll::Pending => self.socket.poll_next_unpin(cx).map(Ok),
            });
            match next.await {
                Err(PeerEvent::Candidate(candidate)) => {
                    let candidate_init = json!({"candidate": candidate, "sdpMid": "0", "sdpMLineIndex": 0}).to_string();
                    let target = SignalTarget::Subscriber.into();
                    let trickle = TrickleRequest { candidate_init, target, ..Default::default() };
                    self.send(signal_response::Message::Trickle(trickle)).await;
                }
                Err(_) => {}
                Ok(message) => {
                    let message = message.expect("the participant stays").unwrap();
                    let request = SignalRequest::decode(&*message.into_data()).unwrap();
                    self.take(request.message.unwrap());
                }
            }
        }
    }

    fn take(&mut self, message: signal_request::Message) {
        match message {
            signal_request::Message::Answer(answer) => {
                self.told.extend(answer.sdp.lines().filter(|line| line.contains("candidate:")).map(str::to_owned));
                self.media.accept_answer(&answer.sdp).unwrap();
            }
            signal_request::Message::Trickle(trickle) => {
                let init: Value = serde_json::from_str(&trickle.candidate_init).unwrap();
                let candidate = init["candidate"].as_str().unwrap();
                self.told.push(candidate.to_owned());
                self.media.add_candidate(candidate);
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_server_that_forces_relays_gets_nothing_else() {
    let coturn = Coturn::start(&[]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = url::Url::parse(&format!("ws://{}", listener.local_addr().unwrap())).unwrap();
    let server = async {
        let mut session = Session::begin(listener, coturn.address).await;
        session.until_connected().await;
        session
    };
    let participant = async {
        let mut room = Room::join(&url, "a token", RoomOptions::default()).await.unwrap();
        while !matches!(poll_fn(|cx| room.poll_event(cx)).await, RoomEvent::Connected) {}
        room
    };
    let (session, _room) =
        tokio::time::timeout(super::common::PATIENCE, async { tokio::join!(server, participant) }).await.unwrap();
    assert!(session.told.len() == 1 && session.told[0].contains("typ relay"), "{:?}", session.told);
    coturn.wait_for_line(&["CHANNEL_BIND processed, success"]);
}
