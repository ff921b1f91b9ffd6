//! What a 20 ms frame costs in each step on its way through a call: `cargo bench --bench frames`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use trunkline::audio::opus::{OpusDecoder, OpusEncoder, OpusSettings};
use trunkline::audio::{FRAME, Rate, Resampler, SpeechDetector};
use trunkline::call::{
    Abilities, Bridge, CallEnd, CallIds, CallTime, EndReason, LegCommand, LegEvent, LoggedEvent, Outlet, Party, Playout,
    SampleIndex, Side, Tape,
};
use trunkline::record::{CallInfo, PartyInfo, Recorder};
use trunkline::transport::chirp::Session;
use trunkline::transport::webrtc::{JitterBuffer, JitterLimits, RoomClock, RtpAudio, RtpTime, Timeline};

const RATES: [Rate; 4] = [Rate::HZ_8000, Rate::HZ_16000, Rate::HZ_24000, Rate::HZ_48000];

/// A frame that no step can take a short cut on.
fn speech(rate: Rate) -> Vec<i16> {
    (0..rate.frame_len() as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 18) as i16 - 8192).collect()
}

fn playout(c: &mut Criterion) {
    let mut group = c.benchmark_group("playout");
    let (rate, frame) = (Rate::HZ_16000, speech(Rate::HZ_16000));
    group.bench_function("a frame in and out, 16 kHz", |b| {
        let mut playout = Playout::new(rate, true);
        let (mut now, mut out) = (CallTime::ZERO, Vec::new());
        b.iter(|| {
            playout.push(now, &frame);
            while playout.release(now, &mut out).is_some() {
                black_box(&out);
            }
            now = now + FRAME;
        });
    });
}

fn resampling(c: &mut Criterion) {
    let mut group = c.benchmark_group("resample a frame");
    for from in RATES {
        for to in RATES.into_iter().filter(|to| *to != from) {
            let (mut resampler, frame, mut out) = (Resampler::new(from, to), speech(from), Vec::new());
            group.bench_function(format!("{} to {} Hz", from.hz(), to.hz()), |b| {
                b.iter(|| {
                    out.clear();
                    resampler.push(black_box(&frame), &mut out);
                });
            });
        }
    }
}

fn detecting(c: &mut Criterion) {
    let mut group = c.benchmark_group("detect speech in a frame");
    for rate in [Rate::HZ_16000, Rate::HZ_48000] {
        let (mut detector, frame) = (SpeechDetector::new(rate, Duration::from_millis(500)), speech(rate));
        group.bench_function(format!("{} Hz", rate.hz()), |b| b.iter(|| detector.hear(black_box(&frame))));
    }
}

struct Nowhere;

impl Outlet for Nowhere {
    fn command(&mut self, _: Side, command: LegCommand<'_>) {
        black_box(command);
    }
    fn record(&mut self, _: Side, _: SampleIndex, samples: &[i16]) {
        black_box(samples);
    }
    fn log(&mut self, event: LoggedEvent) {
        black_box(event);
    }
}

/// A bridge's outlet that records.
struct Recorded(Recorder, CallTime);

impl Outlet for Recorded {
    fn command(&mut self, _: Side, command: LegCommand<'_>) {
        black_box(command);
    }
    fn record(&mut self, of: Side, at: SampleIndex, samples: &[i16]) {
        self.0.audio(self.1, of, at, samples);
    }
    fn log(&mut self, event: LoggedEvent) {
        self.0.event(self.1, &event);
    }
}

fn party(rate: Rate) -> Party {
    Party { rate, abilities: Abilities { continuous_source: true, speech_marks: true, ..Abilities::default() } }
}

fn bridging(c: &mut Criterion) {
    let mut group = c.benchmark_group("bridge 20 ms both ways");
    for (caller, agent) in [(Rate::HZ_16000, Rate::HZ_16000), (Rate::HZ_16000, Rate::HZ_24000), (Rate::HZ_8000, Rate::HZ_48000)] {
        let frames = [speech(caller), speech(agent)];
        let mut bridge = Bridge::new(party(caller), party(agent));
        let mut now = CallTime::ZERO;
        group.bench_function(format!("{} and {} Hz", caller.hz(), agent.hz()), |b| {
            b.iter(|| {
                for (side, frame) in Side::BOTH.into_iter().zip(&frames) {
                    bridge.event(now, side, LegEvent::Audio(frame.clone()), &mut Nowhere);
                }
                bridge.tick(now, &mut Nowhere);
                now = now + FRAME;
            });
        });
    }
    let folder = tempfile::tempdir().expect("a folder for the recording");
    let frame = speech(Rate::HZ_16000);
    group.bench_function("16000 and 16000 Hz, recorded", |b| {
        let side = || PartyInfo { rate: Some(Rate::HZ_16000), via: "bench".to_owned() };
        let info = CallInfo::new(CallIds::default(), side(), side());
        let mut outlet = Recorded(Recorder::begin(folder.path(), info).expect("a recording"), CallTime::ZERO);
        let mut bridge = Bridge::new(party(Rate::HZ_16000), party(Rate::HZ_16000));
        b.iter(|| {
            for side in Side::BOTH {
                bridge.event(outlet.1, side, LegEvent::Audio(frame.clone()), &mut outlet);
            }
            bridge.tick(outlet.1, &mut outlet);
            outlet.1 = outlet.1 + FRAME;
        });
        let end = CallEnd { by: None, reason: EndReason::HungUp, detail: String::new() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        // A disk that cannot keep up with a bench's speed ends the recording; its cost was measured all the same.
        drop(runtime.block_on(outlet.0.finish(outlet.1, end)));
    });
}

fn chirp(c: &mut Criterion) {
    let mut group = c.benchmark_group("CHIRP session");
    let bytes = trunkline::audio::to_s16le(&speech(Rate::HZ_16000));
    let session = Session::default();
    group.bench_function("read an audio message", |b| b.iter(|| session.binary(black_box(&bytes))));
    let text = r#"{"type":"speech.started","id":"1","ts_ms":1200,"data":{"utterance_id":"u1","sample":19200}}"#;
    let mut session = Session::default();
    group.bench_function("read an event", |b| b.iter(|| session.text(black_box(text))));
}

/// Ten seconds of packets, as a participant of a room sends them.
fn packets(rate: Rate) -> Vec<Vec<u8>> {
    let mut encoder = OpusEncoder::new(rate, OpusSettings::default()).expect("an encoder");
    let step = std::f64::consts::TAU * 220.0 / f64::from(rate.hz());
    let sample = |n: usize| ((n as f64 * step).sin() * 9_000.0 + (n as f64 * step * 5.3).sin() * 2_000.0) as i16;
    let samples: Vec<i16> = (0..rate.frame_len() * 500).map(sample).collect();
    samples.chunks_exact(rate.frame_len()).map(|frame| encoder.encode(frame).expect("a frame").packet).collect()
}

/// The packet that is sent `n`-th.
fn rtp(packets: &[Vec<u8>], n: u32) -> RtpAudio {
    let payload = packets[n as usize % packets.len()].clone();
    RtpAudio { ssrc: 1, sequence: n.into(), time: RtpTime::new(u64::from(n) * 960), payload }
}

fn webrtc(c: &mut Criterion) {
    let mut group = c.benchmark_group("Opus over RTP");
    let packets = packets(Rate::HZ_48000);
    for rate in [Rate::HZ_16000, Rate::HZ_48000] {
        group.bench_function(format!("encode a frame, {} Hz", rate.hz()), |b| {
            let (mut encoder, frame) = (OpusEncoder::new(rate, OpusSettings::default()).expect("an encoder"), speech(rate));
            b.iter(|| encoder.encode(black_box(&frame)));
        });
        group.bench_function(format!("decode a packet, {} Hz", rate.hz()), |b| {
            let (mut decoder, mut out, mut n) = (OpusDecoder::new(rate).expect("a decoder"), Vec::new(), 0);
            b.iter(|| {
                out.clear();
                n += 1;
                decoder.decode(black_box(&packets[n % packets.len()]), &mut out)
            });
        });
        group.bench_function(format!("a packet into the jitter buffer and a frame out, {} Hz", rate.hz()), |b| {
            let start = Instant::now();
            let mut buffer = JitterBuffer::new(rate, JitterLimits::default(), start).expect("a buffer");
            let mut n = 0;
            b.iter(|| {
                let now = start + FRAME * n;
                buffer.push(now, rtp(&packets, n));
                n += 1;
                black_box(buffer.pop(now))
            });
        });
        group.bench_function(format!("a packet placed in a track, {} Hz", rate.hz()), |b| {
            let start = Instant::now();
            let (mut timeline, mut clock) = (Timeline::new(rate, start).expect("a timeline"), RoomClock::default());
            let mut n = 0;
            b.iter(|| {
                let now = start + FRAME * n;
                timeline.push(now, rtp(&packets, n));
                n += 1;
                black_box(timeline.pop(&mut clock, now))
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    targets = playout, resampling, detecting, bridging, chirp, webrtc
}
criterion_main!(benches);
