//! Round trips of 20 ms frames through WebSockets that carry audio, directly and through a bridge that is a process of its own.

// Each benchmark uses its own part of this.
#![allow(dead_code)]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::ops::Range;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::{Message, protocol::WebSocketConfig};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config, client_async_with_config};
use trunkline::audio::Rate;
use trunkline::transport::pipecat::{Audio, Frame, encode_audio};

use crate::measuring::{memory, processor_time};

const FRAME: Duration = Duration::from_millis(20);
const FRAME_SAMPLES: usize = 320;
/// Frames at a call's start that do not count.
pub const WARM_UP: Duration = Duration::from_secs(2);

/// How audio of 16 kHz goes over a WebSocket.
#[derive(Clone, Copy)]
pub enum Wire {
    /// As samples and nothing else.
    Chirp,
    /// In Pipecat's frames.
    Pipecat,
}

impl Wire {
    fn wrap(self, samples: &[i16]) -> Message {
        match self {
            Self::Chirp => Message::binary(samples.iter().flat_map(|sample| sample.to_le_bytes()).collect::<Vec<u8>>()),
            Self::Pipecat => Message::binary(encode_audio(Rate::HZ_16000, samples)),
        }
    }

    /// A message's audio; none where it has none.
    fn unwrap(self, message: &Message) -> Option<Vec<i16>> {
        let Message::Binary(bytes) = message else { return None };
        match self {
            Self::Chirp => Some(bytes.as_chunks::<2>().0.iter().map(|sample| i16::from_le_bytes(*sample)).collect()),
            Self::Pipecat => match Frame::decode(bytes) {
                Ok(Some(Frame::Audio(Audio { samples, .. }))) => Some(samples),
                _ => None,
            },
        }
    }

    /// What an agent says to a message that is no audio.
    fn answer(self, message: &Message) -> Option<Message> {
        let (Self::Pipecat, Message::Binary(bytes)) = (self, message) else { return None };
        let Ok(Some(Frame::Message(_))) = Frame::decode(bytes) else { return None };
        let ready = r#"{"label":"rtvi-ai","type":"bot-ready","id":"1","data":{"version":"2.2.0"}}"#;
        Some(Message::binary(Frame::Message(ready.to_owned()).encode()))
    }
}

fn config() -> Option<WebSocketConfig> {
    Some(WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0))
}

/// An agent that sends its caller's audio back at once.
pub async fn echo(wire: Wire) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.set_nodelay(true).expect("a TCP stream");
                let Ok(mut socket) = accept_async_with_config(stream, config()).await else { return };
                while let Some(Ok(message)) = socket.next().await {
                    let answer = wire.answer(&message).or_else(|| message.is_binary().then_some(message));
                    if let Some(answer) = answer
                        && socket.send(answer).await.is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// How long the ramp to this many calls takes: 200 new calls a second.
pub fn ramp(calls: usize) -> Duration {
    Duration::from_millis(5) * calls as u32
}

/// The round trips of `calls` calls at the same time, in ms, sorted.
pub async fn measure(wire: Wire, to: SocketAddr, calls: usize, time: Duration) -> Vec<f64> {
    let begun = Instant::now();
    let counted = ramp(calls) + WARM_UP..ramp(calls) + WARM_UP + time;
    let mut callers = JoinSet::new();
    for call in 0..calls {
        // Spread over the frame's length, so that no two callers are in step.
        let start = ramp(call) + FRAME.mul_f64((call as f64 + 0.5) / calls as f64);
        callers.spawn(caller(wire, to, begun, start, counted.clone()));
    }
    let mut times: Vec<f64> = callers.join_all().await.into_iter().flatten().collect();
    let expected = calls as f64 * time.as_secs_f64() / FRAME.as_secs_f64();
    assert!(times.len() as f64 > expected * 0.97, "of {expected} frames {} came back", times.len());
    times.sort_by(f64::total_cmp);
    times
}

async fn caller(wire: Wire, to: SocketAddr, begun: Instant, start: Duration, counted: Range<Duration>) -> Vec<f64> {
    tokio::time::sleep_until((begun + start).into()).await;
    let stream = TcpStream::connect(to).await.expect("a connection");
    stream.set_nodelay(true).expect("a TCP stream");
    let (socket, _): (WebSocketStream<TcpStream>, _) =
        client_async_with_config(format!("ws://{to}/"), stream, config()).await.expect("a WebSocket");
    let (mut sink, mut source) = socket.split();
    let sent = Arc::new(Mutex::new(Vec::new()));
    let (known, end) = (Arc::clone(&sent), counted.end);
    let hearing = tokio::spawn(async move {
        let mut times = Vec::new();
        while let Some(Ok(message)) = source.next().await {
            if let Some(number) = wire.unwrap(&message).as_deref().and_then(number_in) {
                let sent: Duration = known.lock().expect("no panic")[number];
                if counted.contains(&sent) {
                    times.push((begun.elapsed() - sent).as_secs_f64() * 1000.0);
                }
            }
        }
        times
    });

    let mut ticks = tokio::time::interval(FRAME);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    for number in 0.. {
        ticks.tick().await;
        let now = begun.elapsed();
        if now > end {
            break;
        }
        sent.lock().expect("no panic").push(now);
        sink.send(wire.wrap(&numbered(number))).await.expect("the far side listens");
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(sink.close().await);
    hearing.await.expect("the hearing ends with the connection")
}

/// A frame that carries a number in its first four samples, five bits each; none is above 63.
fn numbered(number: usize) -> [i16; FRAME_SAMPLES] {
    let mut frame = [0; FRAME_SAMPLES];
    for (place, sample) in frame.iter_mut().take(4).enumerate() {
        *sample = (number >> (place * 5)) as i16 & 31 | 32;
    }
    frame
}

fn number_in(frame: &[i16]) -> Option<usize> {
    let first = frame.first_chunk::<4>().filter(|first| first[0] & 32 != 0)?;
    Some((0..4).map(|place| usize::from(first[place] as u16 & 31) << (place * 5)).sum())
}

/// A bridge: a process that takes CHIRP calls in front of an agent.
pub struct Bridge {
    child: Child,
    pub address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Bridge {
    /// `trunkline serve` in front of the agent at `to`, recording.
    pub fn trunkline(to: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the recordings");
        let config = folder.path().join("trunkline.toml");
        std::fs::write(&config, "[doors.chirp]\nmax_calls = 100000\n").expect("a configuration");
        let mut command = Command::new(env!("CARGO_BIN_EXE_trunkline"));
        command.args(["serve", "--to", to, "--listen", "127.0.0.1:0", "--out"]).arg(folder.path().join("calls"));
        command.arg("--config").arg(&config).stderr(Stdio::piped());
        Self::start(command, folder, |child| Box::new(child.stderr.take().expect("a pipe")))
    }

    /// As [`Self::trunkline`], of a command of its own, which tells `listening chirp ADDRESS` on stdout.
    pub fn of(mut command: Command) -> Self {
        command.stdout(Stdio::piped());
        Self::start(command, tempfile::tempdir().expect("a folder"), |child| Box::new(child.stdout.take().expect("a pipe")))
    }

    fn start(
        mut command: Command,
        folder: tempfile::TempDir,
        says: impl FnOnce(&mut Child) -> Box<dyn std::io::Read + Send>,
    ) -> Self {
        let mut child = command.stdin(Stdio::null()).spawn().expect("the bridge starts");
        let mut lines = BufReader::new(says(&mut child)).lines().map_while(Result::ok);
        let first = lines.find(|line| line.starts_with("listening chirp ")).expect("listening chirp ADDRESS");
        let address = first.split(' ').nth(2).and_then(|address| address.parse().ok()).expect("an address");
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address, _folder: folder }
    }

    /// Its memory now, in bytes.
    pub fn memory(&self) -> u64 {
        memory(self.child.id())
    }

    /// The share of a core that it takes from `after` on, for `time`, and its memory at the end of it.
    pub async fn watch(&self, after: Duration, time: Duration) -> (f64, u64) {
        tokio::time::sleep(after).await;
        let (begun, before) = (Instant::now(), processor_time(self.child.id()));
        tokio::time::sleep(time - Duration::from_millis(500)).await;
        ((processor_time(self.child.id()) - before).as_secs_f64() / begun.elapsed().as_secs_f64(), self.memory())
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The value at this share of sorted times.
pub fn percentile(times: &[f64], at: f64) -> f64 {
    times[((times.len() - 1) as f64 * at) as usize]
}
