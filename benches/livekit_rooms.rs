//! What recording LiveKit rooms costs, and how soon audio is there: `cargo bench --bench livekit_rooms`.
//!
//! In one run, in front of one livekit-server: for each number of rooms, two participants a room publish Opus that was encoded
//! before (20 ms packets, a voice's level and rate), and first `trunkline record livekit --all` records them, then a recorder of
//! the same work on LiveKit's Python client (`benches/livekit_recorder.py`). Each is a process of its own, whose processor time
//! and memory are the operating system's count; server and publishers share the machine's cores with it. Then one participant
//! after another joins a room in which somebody speaks, and waits for the first packet.
//! `-- --rooms 1,10,50 --python-rooms 1,10 --seconds 20 --joins 200` sets the numbers.

#[path = "../tests/common/mod.rs"]
mod common;
mod measuring;

use std::future::poll_fn;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use common::livekit::{LiveKitServer, livekit_python};
use measuring::{cores, memory, numbers, processor_time};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use trunkline::audio::Rate;
use trunkline::audio::opus::{OpusEncoder, OpusSettings};
use trunkline::transport::Secret;
use trunkline::transport::livekit::{Grants, Room, RoomEvent, RoomOptions, Server};
use trunkline::transport::webrtc::RtpTime;

const FRAME: Duration = Duration::from_millis(20);
/// From the last track's beginning on, until it counts.
const WARM_UP: Duration = Duration::from_secs(4);
const PARTICIPANTS: usize = 2;
/// A publisher's packet that leaves later than this after its time would make the recorder's work look bad.
const SLIP: Duration = Duration::from_millis(20);

fn main() {
    let (ours, theirs) = (numbers("--rooms", "1,10,25,50"), numbers("--python-rooms", "1,10"));
    let seconds = Duration::from_secs(numbers("--seconds", "20")[0] as u64);
    let joins = numbers("--joins", "200")[0];
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let cores = cores();
    println!("{} s a row, two participants a room; {cores} cores, shared with the server and the publishers.", seconds.as_secs());
    println!(
        "\n| rooms | recorder | CPU s a participant-minute | of a core | memory | lost, late packets | publishers' slips | server, publishers: of a core |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let (mut costs, both) = (Vec::new(), |rooms: &usize| theirs.contains(rooms));
    for rooms in &ours {
        let trunkline = runtime.block_on(row(*rooms, Recorder::Trunkline, seconds));
        if both(rooms) {
            costs.push((*rooms, trunkline, runtime.block_on(row(*rooms, Recorder::Python, seconds))));
        }
    }
    for (rooms, (cpu, memory), (python_cpu, python_memory)) in costs {
        println!(
            "\n{rooms} rooms: 1/{:.1} of the Python recorder's CPU, 1/{:.1} of its memory.",
            python_cpu / cpu,
            python_memory / memory
        );
    }
    println!("\n{joins} joins one after another, from the call to {{p50, p95, p99}}:");
    for (stage, times) in ["signalling", "connection", "first packet"].iter().zip(runtime.block_on(first_audio(joins))) {
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
        println!("{stage}: {:.0}, {:.0}, {:.0} ms", at(0.5), at(0.95), at(0.99));
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Recorder {
    Trunkline,
    Python,
}

/// Records `rooms` rooms, and prints what it took: processor seconds a participant-minute and memory in MiB.
async fn row(rooms: usize, with: Recorder, time: Duration) -> (f64, f64) {
    let server = LiveKitServer::start();
    let stage = Stage::set(&server, rooms).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (mut child, tracks) = match with {
        Recorder::Trunkline => trunkline(&server, folder.path()),
        Recorder::Python => python(&server, folder.path(), rooms),
    };
    tracks.wait_for(rooms * PARTICIPANTS, with).await;
    tokio::time::sleep(WARM_UP).await;
    stage.slips.store(0, Ordering::Relaxed);
    let usage = || [child.id(), server.id(), std::process::id()].map(processor_time);
    let (begun, before) = (Instant::now(), usage());
    tokio::time::sleep(time).await;
    let (passed, after) = (begun.elapsed().as_secs_f64(), usage());
    let share = |which: usize| (after[which] - before[which]).as_secs_f64() / passed;
    let memory = memory(child.id()) as f64 / f64::from(1 << 20);
    let slips = stage.slips.load(Ordering::Relaxed);
    let counts = match with {
        Recorder::Trunkline => {
            interrupt(child.id());
            let (lost, late) = tracks.counts(&mut child);
            format!("{lost}, {late}")
        }
        Recorder::Python => "not told".to_owned(),
    };
    drop(child.kill());
    drop(child.wait());
    let cpu = share(0) * 60.0 / (rooms * PARTICIPANTS) as f64;
    println!(
        "| {rooms} | {with:?} | {cpu:.3} | {:.1} % | {memory:.1} MiB | {counts} | {slips} | {:.0} %, {:.0} % |",
        share(0) * 100.0,
        share(1) * 100.0,
        share(2) * 100.0,
    );
    (cpu, memory)
}

/// What the recorder tells: on stdout, line by line.
struct Told {
    tracks: Arc<AtomicUsize>,
    over: Arc<std::sync::Mutex<Vec<Value>>>,
    reading: std::thread::JoinHandle<()>,
}

impl Told {
    fn of(child: &mut Child, counts: impl Fn(&str) -> Option<usize> + Send + 'static) -> Self {
        let (tracks, over) = (Arc::new(AtomicUsize::new(0)), Arc::default());
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let reading = std::thread::spawn({
            let (tracks, over) = (Arc::clone(&tracks), Arc::clone(&over));
            move || {
                for line in lines.map_while(Result::ok) {
                    tracks.fetch_add(counts(&line).unwrap_or(0), Ordering::Relaxed);
                    let told: Option<Value> = serde_json::from_str(&line).ok();
                    let over: &std::sync::Mutex<Vec<Value>> = &over;
                    over.lock().expect("no panic").extend(told.filter(|told| told["event"] == "over"));
                }
            }
        });
        Self { tracks, over, reading }
    }

    async fn wait_for(&self, tracks: usize, with: Recorder) {
        let begun = Instant::now();
        while self.tracks.load(Ordering::Relaxed) < tracks {
            assert!(begun.elapsed() < common::PATIENCE, "{with:?} records only {:?} of {tracks} tracks", self.tracks);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Packets that were lost and late on all tracks together, once the recorder has ended.
    fn counts(self, child: &mut Child) -> (u64, u64) {
        drop(child.wait());
        self.reading.join().expect("no panic");
        let over = self.over.lock().expect("no panic");
        let tracks = || over.iter().filter_map(|room| room["tracks"].as_array()).flatten();
        assert!(tracks().count() > 0, "no track was told of: {over:?}");
        let sum = |name: &str| tracks().filter_map(|track| track[name].as_u64()).sum();
        (sum("lost"), sum("late"))
    }
}

fn trunkline(server: &LiveKitServer, out: &Path) -> (Child, Told) {
    let mut command =
        common::trunkline(&["record", "livekit", "--all", "--poll-s", "0.2", "--format", "json", "--max-rooms", "1000"]);
    command.arg("--out").arg(out).envs(server.env()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("trunkline starts");
    let told = Told::of(&mut child, |line| line.contains("\"began\"").then_some(PARTICIPANTS));
    (child, told)
}

fn python(server: &LiveKitServer, out: &Path, rooms: usize) -> (Child, Told) {
    let mut command: Command = livekit_python();
    command.arg("benches/livekit_recorder.py").arg(out).arg(rooms.to_string()).envs(server.env());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("python starts");
    let told = Told::of(&mut child, |line| line.starts_with("tracks ").then_some(1));
    (child, told)
}

/// The rooms' participants, who speak until they are dropped.
struct Stage {
    slips: Arc<AtomicU64>,
    _speakers: JoinSet<()>,
}

impl Stage {
    async fn set(server: &LiveKitServer, rooms: usize) -> Self {
        let packets = Arc::new(packets());
        let slips = Arc::new(AtomicU64::new(0));
        let mut speakers = JoinSet::new();
        for number in 0..rooms * PARTICIPANTS {
            let identity = ["caller", "agent"][number % PARTICIPANTS];
            let mut room = join(server, &format!("room-{}", number / PARTICIPANTS), identity, false).await;
            room.publish_microphone("voice");
            while !matches!(poll_fn(|cx| room.poll_event(cx)).await, RoomEvent::MicrophoneReady { .. }) {}
            speakers.spawn(speak(room, Arc::clone(&packets), Arc::clone(&slips)));
        }
        Self { slips, _speakers: speakers }
    }
}

async fn join(server: &LiveKitServer, room: &str, identity: &str, subscribe: bool) -> Room {
    let api = Server::new(&server.url(), server.key(), Secret::new(server.secret()).expect("it is not empty")).expect("an address");
    let token = api.room_token(room, identity, Duration::from_secs(60), &Grants::default()).expect("a token");
    Room::join(api.url(), &token, RoomOptions { subscribe, ..RoomOptions::default() }).await.expect("it joins")
}

/// Two seconds of Opus as a voice agent sends it: 20 ms packets of about 30 kbit/s.
fn packets() -> Vec<Vec<u8>> {
    let mut encoder = OpusEncoder::new(Rate::HZ_48000, OpusSettings::default()).expect("an encoder");
    let sample = |at: usize| {
        let time = at as f64 / 48_000.0;
        let voice: f64 = (1..20).map(|n| (std::f64::consts::TAU * 140.0 * f64::from(n) * time).sin() / f64::from(n)).sum();
        (voice * 3000.0 * (0.6 + 0.4 * (std::f64::consts::TAU * 4.0 * time).sin())) as i16
    };
    let samples: Vec<i16> = (0..96_000).map(sample).collect();
    samples.chunks_exact(960).map(|frame| encoder.encode(frame).expect("a frame").packet).collect()
}

async fn speak(mut room: Room, packets: Arc<Vec<Vec<u8>>>, slips: Arc<AtomicU64>) {
    let mut clock = tokio::time::interval(FRAME);
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0_usize.. {
        let due = loop {
            let next = poll_fn(|cx| match room.poll_event(cx) {
                Poll::Ready(event) => Poll::Ready(Err(event)),
                Poll::Pending => clock.poll_tick(cx).map(Ok),
            });
            match next.await {
                Ok(due) => break due,
                Err(RoomEvent::Disconnected { .. }) => return,
                Err(_) => {}
            }
        };
        if due.elapsed() > SLIP {
            slips.fetch_add(1, Ordering::Relaxed);
        }
        room.send_audio(RtpTime::new(number as u64 * 960), -20, &packets[number % packets.len()]);
    }
}

/// For each join the times until signalling is there, the connection is up, and the first packet has come; each sorted.
async fn first_audio(joins: usize) -> [Vec<Duration>; 3] {
    let server = LiveKitServer::start();
    let _stage = Stage::set(&server, 1).await;
    let mut times = [const { Vec::new() }; 3];
    for number in 0..joins {
        let begun = Instant::now();
        let mut room = join(&server, "room-0", &format!("listener-{number}"), true).await;
        times[0].push(begun.elapsed());
        loop {
            match poll_fn(|cx| room.poll_event(cx)).await {
                RoomEvent::Connected => times[1].push(begun.elapsed()),
                RoomEvent::Rtp { .. } => break times[2].push(begun.elapsed()),
                _ => {}
            }
        }
        room.leave();
        while !matches!(poll_fn(|cx| room.poll_event(cx)).await, RoomEvent::Disconnected { .. }) {}
    }
    times.iter_mut().for_each(|times| times.sort());
    times
}

fn interrupt(id: u32) {
    let id = nix::unistd::Pid::from_raw(i32::try_from(id).expect("a process id"));
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGINT).expect("it runs");
}
