//! What a bridged and recorded CHIRP call costs, and the latency that the bridge adds: `cargo bench --bench chirp_bridge`.
//!
//! For each number of calls, in one run: callers send a 20 ms frame every 20 ms, each at its own phase, to agents that send
//! it back at once; first directly, then through a `trunkline serve` that bridges and records. A frame carries its number, in
//! samples as quiet as a line's noise, by which its caller knows when it was sent. Added latency is the percentile of the bridged round trips minus that of the direct ones. The bridge is
//! a process of its own, so that its processor time and memory are the operating system's count; the callers and agents
//! share the machine's cores with it. `-- --calls 1,50,200 --seconds 10` sets the numbers.

mod measuring;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::ops::Range;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use measuring::{cores, memory, numbers, processor_time};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::{Message, protocol::WebSocketConfig};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config, client_async_with_config};

const FRAME: Duration = Duration::from_millis(20);
const FRAME_BYTES: usize = 640;
/// Frames at a call's start that do not count.
const WARM_UP: Duration = Duration::from_secs(2);

fn main() {
    let calls = numbers("--calls", "1,50,100,200,300,400,500,600");
    let seconds = numbers("--seconds", "10")[0] as u64;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let agent = agent().await;
        println!("Round trip of a 20 ms frame, {seconds} s a row; {} cores, shared by callers, agents and bridge.", cores());
        println!("\n| calls | direct p50, p99 | bridged p50, p99 | added p50, p99 | bridge: of a core, a call | memory, a call |");
        println!("|---|---|---|---|---|---|");
        for calls in calls {
            let direct = measure(agent, calls, Duration::from_secs(seconds)).await;
            let bridge = Bridge::start(agent);
            let idle = memory(bridge.child.id());
            let bridged = {
                let watch = bridge.watch(ramp(calls) + WARM_UP, Duration::from_secs(seconds));
                let (bridged, (share, memory)) = tokio::join!(measure(bridge.address, calls, Duration::from_secs(seconds)), watch);
                (bridged, share * 100.0 / calls as f64, memory.saturating_sub(idle) as f64 / 1024.0 / calls as f64)
            };
            let (bridged, share, memory) = bridged;
            let ms = |times: &[f64], at: f64| times[((times.len() - 1) as f64 * at) as usize];
            let (d50, d99, b50, b99) = (ms(&direct, 0.5), ms(&direct, 0.99), ms(&bridged, 0.5), ms(&bridged, 0.99));
            println!(
                "| {calls} | {d50:.2}, {d99:.2} ms | {b50:.2}, {b99:.2} ms | {:.2}, {:.2} ms | {share:.3} % | {memory:.0} KiB |",
                b50 - d50,
                b99 - d99,
            );
        }
    });
}

fn config() -> Option<WebSocketConfig> {
    Some(WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0))
}

/// An agent that sends every message back at once.
async fn agent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.set_nodelay(true).expect("a TCP stream");
                let Ok(mut socket) = accept_async_with_config(stream, config()).await else { return };
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_binary() && socket.send(message).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// How long the ramp to this many calls takes: 200 new calls a second.
fn ramp(calls: usize) -> Duration {
    Duration::from_millis(5) * calls as u32
}

/// The round trips of `calls` calls at the same time, in ms, sorted.
async fn measure(to: SocketAddr, calls: usize, time: Duration) -> Vec<f64> {
    let begun = Instant::now();
    let counted = ramp(calls) + WARM_UP..ramp(calls) + WARM_UP + time;
    let mut callers = JoinSet::new();
    for call in 0..calls {
        // Spread over the frame's length, so that no two callers are in step.
        let start = ramp(call) + FRAME.mul_f64((call as f64 + 0.5) / calls as f64);
        callers.spawn(caller(to, begun, start, counted.clone()));
    }
    let mut times: Vec<f64> = callers.join_all().await.into_iter().flatten().collect();
    let expected = calls as f64 * time.as_secs_f64() / FRAME.as_secs_f64();
    assert!(times.len() as f64 > expected * 0.97, "of {expected} frames {} came back", times.len());
    times.sort_by(f64::total_cmp);
    times
}

async fn caller(to: SocketAddr, begun: Instant, start: Duration, counted: Range<Duration>) -> Vec<f64> {
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
            if let Message::Binary(bytes) = message
                && let Some(number) = number_in(&bytes)
            {
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
        sink.send(Message::binary(numbered(number))).await.expect("the far side listens");
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(sink.close().await);
    hearing.await.expect("the hearing ends with the connection")
}

/// A frame that carries a number in its first four samples, five bits each; none is above 63.
fn numbered(number: usize) -> Vec<u8> {
    let mut frame = vec![0; FRAME_BYTES];
    for place in 0..4 {
        frame[place * 2] = (number >> (place * 5)) as u8 & 31 | 32;
    }
    frame
}

fn number_in(frame: &[u8]) -> Option<usize> {
    let first = frame.first_chunk::<8>().filter(|first| first[0] & 32 != 0)?;
    Some((0..4).map(|place| usize::from(first[place * 2] & 31) << (place * 5)).sum())
}

/// `trunkline serve` in front of the agent.
struct Bridge {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Bridge {
    fn start(agent: SocketAddr) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the recordings");
        let config = folder.path().join("trunkline.toml");
        std::fs::write(&config, "[doors.chirp]\nmax_calls = 100000\n").expect("a configuration");
        let mut child = Command::new(env!("CARGO_BIN_EXE_trunkline"))
            .args(["serve", "--to", &format!("chirp://{agent}/"), "--listen", "127.0.0.1:0", "--out"])
            .arg(folder.path().join("calls"))
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("trunkline starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let first = lines.next().expect("a line").expect("text");
        let address = first.split(' ').nth(2).expect("listening chirp ADDRESS").parse().expect("an address");
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address, _folder: folder }
    }

    /// The share of a core that it takes from `after` on, for `time`, and its memory at the end of it.
    async fn watch(&self, after: Duration, time: Duration) -> (f64, u64) {
        tokio::time::sleep(after).await;
        let (begun, before) = (Instant::now(), processor_time(self.child.id()));
        tokio::time::sleep(time - Duration::from_millis(500)).await;
        ((processor_time(self.child.id()) - before).as_secs_f64() / begun.elapsed().as_secs_f64(), memory(self.child.id()))
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
