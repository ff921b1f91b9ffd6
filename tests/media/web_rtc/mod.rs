//! Opus, the jitter buffer and the placing of tracks, on virtual time over a seeded network that loses, delays, doubles and
//! reorders.

mod hostile;
mod placing;
use crate::common::random;

use std::time::{Duration, Instant};

use random::Random;
use trunkline::audio::opus::{OpusDecoder, OpusEncoder, OpusError, OpusSettings, carries_fec, packet_samples, packet_ticks};
use trunkline::audio::{FRAME, Rate};
use trunkline::transport::webrtc::{
    Extender, JitterBuffer, JitterCounts, JitterLimits, NtpTime, PacketCounts, PlacedBy, PlacedRun, PlayedFrame, RoomClock,
    RtpAudio, RtpTime, SenderReport, Timeline,
};

const RATES: [Rate; 4] = [Rate::HZ_8000, Rate::HZ_16000, Rate::HZ_24000, Rate::HZ_48000];
const RATE: Rate = Rate::HZ_48000;
const HZ: f64 = 440.0;

fn tone(rate: Rate, hz: f64, seconds: f64) -> Vec<i16> {
    let step = std::f64::consts::TAU * hz / f64::from(rate.hz());
    (0..(seconds * f64::from(rate.hz())) as usize).map(|n| ((n as f64 * step).sin() * 12_000.0).round() as i16).collect()
}

/// A tone that is there for 600 ms of every second.
fn talk(seconds: f64) -> Vec<i16> {
    let second = RATE.hz() as usize;
    let mut samples = tone(RATE, HZ, seconds);
    samples.iter_mut().enumerate().filter(|(n, _)| n % second >= second * 6 / 10).for_each(|(_, sample)| *sample = 0);
    samples
}

/// The share of the power of `samples` that a tone of `hz` makes up.
fn share(samples: &[i16], rate: Rate, hz: f64) -> f64 {
    let step = std::f64::consts::TAU * hz / f64::from(rate.hz());
    let (mut re, mut im, mut power) = (0.0, 0.0, 0.0);
    for (n, sample) in samples.iter().enumerate() {
        let (s, c) = (n as f64 * step).sin_cos();
        let sample = f64::from(*sample);
        (re, im, power) = (re + sample * c, im + sample * s, power + sample * sample);
    }
    if power == 0.0 { 0.0 } else { 2.0 * (re * re + im * im) / (power * samples.len() as f64) }
}

fn loudest(samples: &[i16]) -> u16 {
    samples.iter().map(|sample| sample.unsigned_abs()).max().unwrap_or(0)
}

/// A packet and when it leaves, since the start.
type Sent = (Duration, RtpAudio);

/// The packets of a sender. Those of a pause are not sent where `settings` say so.
fn send(samples: &[i16], settings: OpusSettings) -> Vec<Sent> {
    let mut encoder = OpusEncoder::new(RATE, settings).expect("an encoder");
    let mut sequence = 70_000;
    let mut sent = Vec::new();
    for (n, frame) in samples.chunks_exact(RATE.frame_len()).enumerate() {
        let frame = encoder.encode(frame).expect("a frame of 20 ms");
        if frame.dtx {
            continue;
        }
        let leaves = FRAME * (n as u32 + 1);
        let time = RtpTime::new(5_000_000_000 + n as u64 * 960);
        sent.push((leaves, RtpAudio { ssrc: 7, sequence, time, payload: frame.packet }));
        sequence += 1;
    }
    sent
}

/// The same from a sender whose clock is fast by `ppm`.
fn paced(sent: &[Sent], ppm: f64) -> Vec<Sent> {
    sent.iter().map(|(leaves, packet)| (leaves.div_f64(1.0 + ppm * 1e-6), packet.clone())).collect()
}

#[derive(Clone, Copy, Default)]
struct Network {
    delay_ms: u64,
    jitter_ms: u64,
    loss_percent: u64,
    double_percent: u64,
}

impl Network {
    /// What arrives of `sent`, in the order of arrival.
    fn carry(self, sent: &[Sent], seed: u64) -> Vec<Sent> {
        let mut random = Random(seed);
        let mut arrived = Vec::new();
        for (leaves, packet) in sent {
            let copies = 1 + u64::from(random.below(100) < self.double_percent);
            let lost = random.below(100) < self.loss_percent;
            for _ in 0..if lost { 0 } else { copies } {
                let delay = self.delay_ms * 1_000 + random.below(self.jitter_ms * 1_000 + 1);
                arrived.push((*leaves + Duration::from_micros(delay), packet.clone()));
            }
        }
        arrived.sort_by_key(|(at, _)| *at);
        arrived
    }
}

/// Plays what arrives for `length`.
fn play(arrived: Vec<Sent>, length: Duration) -> (Vec<PlayedFrame>, JitterBuffer) {
    let start = Instant::now();
    let mut buffer = JitterBuffer::new(RATE, JitterLimits::default(), start).expect("a buffer");
    let mut frames = Vec::new();
    let mut arrived = arrived.into_iter().peekable();
    while buffer.next_wake() < start + length {
        let now = buffer.next_wake();
        while let Some((at, packet)) = arrived.next_if(|(at, _)| start + *at <= now) {
            buffer.push(start + at, packet);
        }
        let frame = buffer.pop(now).expect("a frame is due");
        assert_eq!(frame.due, now);
        assert_eq!(frame.samples.len(), RATE.frame_len());
        assert!(buffer.pop(now).is_none(), "one frame every 20 ms");
        frames.push(frame);
    }
    (frames, buffer)
}

fn check_sums(counts: &JitterCounts, waiting: usize, frames: u64) {
    let JitterCounts { packets, played, empty, .. } = *counts;
    let PacketCounts { received, duplicate, late, malformed, discarded, .. } = packets;
    assert_eq!(received, played + duplicate + late + malformed + empty + discarded + waiting as u64, "{counts:?}");
    let kinds = counts.frames_decoded + counts.frames_recovered + counts.frames_concealed + counts.frames_silent;
    assert_eq!(kinds, frames, "{counts:?}");
}

fn samples_of(frames: &[PlayedFrame]) -> Vec<i16> {
    frames.iter().flat_map(|frame| frame.samples.iter().copied()).collect()
}

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

#[test]
fn a_tone_passes_opus_at_every_rate() {
    for rate in RATES {
        let mut encoder = OpusEncoder::new(rate, OpusSettings::default()).expect("an encoder");
        let mut out = Vec::new();
        let mut decoder = OpusDecoder::new(rate).expect("a decoder");
        for frame in tone(rate, HZ, 1.0).chunks_exact(rate.frame_len()) {
            let frame = encoder.encode(frame).expect("a frame");
            assert!(!frame.dtx);
            assert_eq!(packet_ticks(&frame.packet), Ok(960));
            assert_eq!(packet_samples(&frame.packet, rate), Ok(rate.frame_len()));
            assert_eq!(decoder.decode(&frame.packet, &mut out), Ok(rate.frame_len()));
        }
        assert_eq!(out.len(), rate.hz() as usize);
        let settled = &out[out.len() / 4..];
        assert!(share(settled, rate, HZ) > 0.95, "{rate}: {}", share(settled, rate, HZ));
        assert!(share(settled, rate, HZ * 2.0) < 0.01);
    }
}

#[test]
fn a_lost_frame_is_recovered_from_the_next_packet_or_concealed() {
    let mut encoder = OpusEncoder::new(RATE, OpusSettings { fec_for_loss: Some(20), ..Default::default() }).expect("an encoder");
    let packets: Vec<_> = talk(1.0).chunks_exact(960).map(|frame| encoder.encode(frame).expect("a frame").packet).collect();
    assert!(carries_fec(&packets[20]), "the encoder puts a copy of the frame before into a packet of speech");
    let mut decoder = OpusDecoder::new(RATE).expect("a decoder");
    let mut out = Vec::new();
    for packet in &packets[..19] {
        decoder.decode(packet, &mut out).expect("a packet");
    }
    let from = out.len();
    assert_eq!(decoder.recover(&packets[20], 960, &mut out), Ok(960));
    assert!(share(&out[from..], RATE, HZ) > 0.8, "{}", share(&out[from..], RATE, HZ));
    assert_eq!(decoder.conceal(960, &mut out), Ok(960));
    assert!(loudest(&out[from + 960..]) > 2_000, "concealment goes on with what was heard");
    let plain = OpusSettings { fec_for_loss: None, ..Default::default() };
    let mut encoder = OpusEncoder::new(RATE, plain).expect("an encoder");
    for frame in talk(1.0).chunks_exact(960) {
        assert!(!carries_fec(&encoder.encode(frame).expect("a frame").packet));
    }
}

#[test]
fn packets_of_any_length_and_of_two_channels_are_decoded_to_one() {
    for (ms, channels) in [(10, 1), (20, 2), (40, 1), (60, 2)] {
        let kind = if channels == 1 { opus::Channels::Mono } else { opus::Channels::Stereo };
        let mut encoder = opus::Encoder::new(48_000, kind, opus::Application::Audio).expect("an encoder");
        encoder.set_force_channels(Some(kind)).expect("a setting");
        let input: Vec<i16> = tone(RATE, HZ, 0.6).into_iter().flat_map(|sample| std::iter::repeat_n(sample, channels)).collect();
        let mut decoder = OpusDecoder::new(Rate::HZ_16000).expect("a decoder");
        let mut out = Vec::new();
        for frame in input.chunks_exact(48 * ms * channels) {
            let packet = encoder.encode_vec(frame, 1_500).expect("a packet");
            assert_eq!(packet_ticks(&packet), Ok(48 * ms as u32));
            assert_eq!(decoder.decode(&packet, &mut out), Ok(16 * ms));
        }
        let part = &out[out.len() / 2..];
        assert!(share(part, Rate::HZ_16000, HZ) > 0.95, "{ms} ms, {channels}: {}", share(part, Rate::HZ_16000, HZ));
    }
}

#[test]
fn what_is_no_opus_is_refused_and_a_frame_of_another_length_too() {
    // RFC 6716 section 3.4: no byte at all, more than 120 ms, no frame count.
    for packet in [&[][..], &[0b0001_1011, 3], &[0b0000_0011], &[0b0000_0011, 0]] {
        assert_eq!(packet_ticks(packet), Err(OpusError::Malformed(packet.len())));
        let mut decoder = OpusDecoder::new(RATE).expect("a decoder");
        assert_eq!(decoder.decode(packet, &mut Vec::new()), Err(OpusError::Malformed(packet.len())));
    }
    let mut encoder = OpusEncoder::new(Rate::HZ_16000, OpusSettings::default()).expect("an encoder");
    let error = encoder.encode(&[0; 160]).expect_err("10 ms are no frame");
    assert_eq!(error.to_string(), "160 samples are no frame of 20 ms at 16000 Hz");
}

#[test]
fn on_a_perfect_network_all_is_played_20_ms_deep() {
    let sent = send(&tone(RATE, HZ, 10.0), OpusSettings::default());
    let (frames, buffer) = play(Network { delay_ms: 40, ..Default::default() }.carry(&sent, 1), secs(9.0));
    let counts = buffer.counts();
    check_sums(&counts, buffer.waiting(), frames.len() as u64);
    assert_eq!(
        (counts.packets.lost, counts.packets.late, counts.frames_concealed, counts.frames_recovered),
        (0, 0, 0, 0),
        "{counts:?}"
    );
    assert!((20.0..=41.0).contains(&counts.max_depth_ms), "{counts:?}");
    assert!(counts.jitter_ms < 0.1);
    let out = samples_of(&frames);
    assert!(share(&out[RATE.hz() as usize..], RATE, HZ) > 0.95, "one tone without a break");
}

#[test]
fn ten_percent_loss_and_60_ms_jitter_leave_a_tone_a_tone() {
    let sent = send(&talk(60.0), OpusSettings { fec_for_loss: Some(20), ..Default::default() });
    let (_, without) = tonal(&play(Network { delay_ms: 30, ..Default::default() }.carry(&sent, 0), secs(59.0)).0);
    for seed in 1..=5 {
        let network = Network { delay_ms: 30, jitter_ms: 60, loss_percent: 10, double_percent: 5 };
        let mut arrived = network.carry(&sent, seed);
        arrived.retain(|(at, _)| *at <= secs(59.0));
        let unique = {
            let mut numbers: Vec<_> = arrived.iter().map(|(_, packet)| packet.sequence).collect();
            numbers.sort_unstable();
            numbers.dedup();
            numbers.len() as u64
        };
        let total = arrived.len() as u64;
        let (frames, buffer) = play(arrived, secs(59.02));
        let counts = buffer.counts();
        check_sums(&counts, buffer.waiting(), frames.len() as u64);
        assert_eq!(counts.packets.duplicate, total - unique, "no packet is played twice: {counts:?}");
        let waiting = buffer.waiting() as u64;
        assert_eq!(counts.played + counts.packets.late + waiting, unique);
        // What was lost before the first packet or after the last is not known of.
        let known = counts.packets.lost + counts.played + counts.packets.late + waiting;
        assert!((2_930..=2_950).contains(&known), "{counts:?}");
        assert!(counts.packets.late * 100 <= unique * 4, "few come too late: {counts:?}");
        // Of the losses within speech, most; the pauses have no copy to recover from.
        assert!(counts.frames_recovered * 10 > counts.packets.lost * 3, "{counts:?}");
        assert!((60.0..=110.0).contains(&counts.mean_depth_ms), "{counts:?}");
        assert!(counts.max_depth_ms <= 160.0, "{counts:?}");
        let (loud, tonal) = tonal(&frames);
        assert!((56 * 29..=56 * 32).contains(&loud), "600 ms of each second: {loud}, {counts:?}");
        assert!(tonal > without - 0.05, "seed {seed}: {tonal} of the loud frames, {without} without losses, {counts:?}");
    }
}

/// How many frames of 56 s are loud, and the share of them that are the tone and little else.
fn tonal(frames: &[PlayedFrame]) -> (usize, f64) {
    let loud: Vec<_> = frames[100..2_900].iter().filter(|frame| loudest(&frame.samples) > 3_000).collect();
    let tonal = loud.iter().filter(|frame| share(&frame.samples, RATE, HZ) > 0.8).count();
    (loud.len(), tonal as f64 / loud.len() as f64)
}

#[test]
fn a_drifting_clock_neither_runs_dry_nor_fills_the_buffer() {
    let steady = send(&talk(300.0), OpusSettings::default());
    for ppm in [-200.0, 200.0] {
        let sent = paced(&steady, ppm);
        let (frames, buffer) = play(Network { delay_ms: 20, jitter_ms: 10, ..Default::default() }.carry(&sent, 3), secs(299.0));
        let counts = buffer.counts();
        check_sums(&counts, buffer.waiting(), frames.len() as u64);
        assert!(counts.packets.late <= 2 && counts.packets.lost == 0 && counts.frames_concealed <= 5, "{ppm}: {counts:?}");
        assert!(counts.depth_ms <= 60.0 && counts.max_depth_ms <= 80.0, "{ppm}: {counts:?}");
        assert_eq!(counts.cut_ms, 0.0);
        // 200 ppm of 300 s are 60 ms.
        let moved = counts.inserted_ms - counts.left_out_ms;
        assert!(if ppm > 0.0 { moved < -20.0 } else { moved > 20.0 }, "{ppm}: {counts:?}");
        // Each of the talks is whole.
        let loud: usize = samples_of(&frames).chunks_exact(480).filter(|part| loudest(part) > 3_000).count();
        assert!((298 * 60..=300 * 62).contains(&loud), "{ppm}: {loud}");
    }
}

#[test]
fn after_a_spike_the_delay_returns_to_what_it_was() {
    let sent = send(&talk(40.0), OpusSettings::default());
    let mut arrived = Network { delay_ms: 20, ..Default::default() }.carry(&sent, 1);
    // Whatever was to come within these 300 ms comes at their end.
    for (at, _) in &mut arrived {
        if (secs(10.1)..secs(10.4)).contains(at) {
            *at = secs(10.4);
        }
    }
    let (frames, buffer) = play(arrived, secs(39.0));
    let counts = buffer.counts();
    check_sums(&counts, buffer.waiting(), frames.len() as u64);
    assert_eq!((counts.packets.late, counts.packets.lost, counts.cut_ms), (0, 0, 0.0), "what came late was played: {counts:?}");
    assert!((200.0..=400.0).contains(&counts.max_depth_ms), "{counts:?}");
    assert!(counts.depth_ms <= 45.0, "{counts:?}");
    assert!(counts.inserted_ms > 200.0 && (counts.inserted_ms - counts.left_out_ms).abs() < 45.0, "{counts:?}");
    assert!(counts.frames_concealed <= 6, "{counts:?}");
}

#[test]
fn on_a_noisy_line_the_delay_returns_too() {
    let mut samples = talk(40.0);
    let mut random = Random(5);
    // Some -45 dBFS.
    samples.iter_mut().for_each(|sample| *sample = sample.saturating_add(random.below(640) as i16 - 320));
    let sent = send(&samples, OpusSettings::default());
    let mut arrived = Network { delay_ms: 20, ..Default::default() }.carry(&sent, 1);
    for (at, _) in &mut arrived {
        if (secs(10.1)..secs(10.4)).contains(at) {
            *at = secs(10.4);
        }
    }
    let (_, buffer) = play(arrived, secs(39.0));
    let counts = buffer.counts();
    assert!(counts.max_depth_ms > 200.0 && counts.depth_ms <= 45.0, "{counts:?}");
    assert_eq!(counts.cut_ms, 0.0);
}

#[test]
fn at_the_hard_limit_speech_is_left_out() {
    let sent = send(&tone(RATE, HZ, 30.0), OpusSettings::default());
    let mut arrived = Network { delay_ms: 20, ..Default::default() }.carry(&sent, 1);
    for (at, _) in &mut arrived {
        if (secs(10.0)..secs(11.5)).contains(at) {
            *at = secs(11.5);
        }
    }
    let (frames, buffer) = play(arrived, secs(29.0));
    let counts = buffer.counts();
    check_sums(&counts, buffer.waiting(), frames.len() as u64);
    assert!(counts.cut_ms > 1_000.0, "{counts:?}");
    // A tone has no silence to leave out: the depth stays where the cut has left it, at the limit.
    assert!(counts.depth_ms <= 400.0, "{counts:?}");
}

#[test]
fn a_pause_of_dtx_is_silence_and_no_loss() {
    let settings = OpusSettings { dtx: true, ..Default::default() };
    let sent = send(&talk(30.0), settings);
    assert!(sent.len() < 1_400, "DTX leaves packets out: {}", sent.len());
    let (frames, buffer) = play(Network { delay_ms: 20, jitter_ms: 20, ..Default::default() }.carry(&sent, 9), secs(29.0));
    let counts = buffer.counts();
    check_sums(&counts, buffer.waiting(), frames.len() as u64);
    assert_eq!((counts.packets.lost, counts.frames_recovered), (0, 0), "{counts:?}");
    assert!(counts.frames_concealed <= 5, "{counts:?}");
    assert!(counts.frames_silent > 100, "{counts:?}");
    assert!(counts.max_depth_ms < 100.0, "{counts:?}");
    // The talks begin a second apart, as they were said, but for what the depth grew.
    let out = samples_of(&frames);
    let begins: Vec<usize> =
        (48_000..out.len()).filter(|n| out[*n].unsigned_abs() > 2_000 && loudest(&out[n - 9_600..*n]) <= 2_000).collect();
    assert!(begins.len() >= 26, "{}", begins.len());
    for pair in begins[3..].windows(2) {
        assert!((pair[1] - pair[0]).abs_diff(48_000) <= 2_400, "{begins:?}");
    }
}

#[test]
fn a_muted_track_is_silence_and_goes_on_when_it_is_unmuted() {
    let sent = send(&tone(RATE, HZ, 20.0), OpusSettings::default());
    // No packet is sent for five seconds: the numbers go on, the time stamps run, or stand still.
    for runs in [true, false] {
        let mut muted: Vec<Sent> = sent.clone();
        for (n, (leaves, packet)) in muted.iter_mut().enumerate().skip(500) {
            *leaves += secs(5.0);
            if runs {
                packet.time = RtpTime::new(5_000_000_000 + (n as u64 + 250) * 960);
            }
        }
        let (frames, buffer) = play(Network { delay_ms: 20, ..Default::default() }.carry(&muted, 1), secs(24.0));
        let counts = buffer.counts();
        check_sums(&counts, buffer.waiting(), frames.len() as u64);
        assert_eq!((counts.packets.lost, counts.packets.late, counts.cut_ms), (0, 0, 0.0), "{counts:?}");
        assert!(counts.frames_concealed <= 5 && (243..=253).contains(&counts.frames_silent), "{counts:?}");
        assert!(counts.depth_ms <= 41.0, "{counts:?}");
        assert_eq!(counts.packets.resyncs, u64::from(!runs));
    }
}

#[test]
fn a_stream_that_begins_anew_is_told_once_and_played_on() {
    let first = send(&tone(RATE, HZ, 5.0), OpusSettings::default());
    let change: [fn(&mut RtpAudio); 3] =
        [|packet| packet.ssrc = 8, |packet| packet.sequence += 100_000, |packet| packet.time = packet.time.plus(1_234_567_890)];
    for (kind, change) in change.into_iter().enumerate() {
        let mut sent = first.clone();
        for (leaves, mut packet) in first.iter().cloned() {
            packet.sequence += first.len() as u64;
            packet.time = packet.time.plus(5 * 48_000);
            change(&mut packet);
            sent.push((leaves + secs(5.0), packet));
        }
        let (frames, buffer) = play(Network { delay_ms: 20, jitter_ms: 5, ..Default::default() }.carry(&sent, 4), secs(9.5));
        let counts = buffer.counts();
        check_sums(&counts, buffer.waiting(), frames.len() as u64);
        assert_eq!(counts.packets.resyncs, 1, "{kind}: {counts:?}");
        let told: Vec<_> = frames.iter().enumerate().filter(|(_, frame)| frame.resynced).map(|(n, _)| n).collect();
        assert!(told.len() == 1 && (250..256).contains(&told[0]), "{kind}: {told:?}");
        assert!(counts.packets.lost <= 1 && counts.frames_concealed + counts.frames_recovered <= 3, "{kind}: {counts:?}");
        assert!(counts.frames_silent <= 6, "{kind}: {counts:?}");
    }
}

#[test]
fn numbers_that_wrap_are_extended() {
    let mut sequence = Extender::sequence();
    let extended: Vec<u64> = [65_534, 65_535, 1, 0, 2, 65_533, 3].into_iter().map(|number| sequence.extend(number)).collect();
    assert_eq!(extended, [131_070, 131_071, 131_073, 131_072, 131_074, 131_069, 131_075]);
    let mut time = Extender::time();
    let first = time.extend(u32::MAX - 100);
    assert_eq!(time.extend(859) - first, 960);
    let mut early = Extender::sequence();
    let first = early.extend(0);
    assert_eq!(early.extend(65_535), first - 1, "what was sent before the first has a place");
}

#[test]
fn a_stream_plays_on_over_the_wrap_of_its_numbers() {
    let (mut sequence, mut time) = (Extender::sequence(), Extender::time());
    let mut sent = send(&tone(RATE, HZ, 10.0), OpusSettings::default());
    for (n, (_, packet)) in sent.iter_mut().enumerate() {
        packet.sequence = sequence.extend(65_400 + n as u32);
        packet.time = RtpTime::new(time.extend((u32::MAX - 200_000).wrapping_add(n as u32 * 960)));
    }
    let (frames, buffer) = play(Network { delay_ms: 20, jitter_ms: 15, ..Default::default() }.carry(&sent, 4), secs(9.0));
    let counts = buffer.counts();
    check_sums(&counts, buffer.waiting(), frames.len() as u64);
    assert_eq!((counts.packets.lost, counts.packets.resyncs), (0, 0), "{counts:?}");
    assert!(counts.frames_silent <= 6, "{counts:?}");
}
