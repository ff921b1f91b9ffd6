//! Tracks are placed by their senders' clocks: aligned, kept there, and their gaps kept.

use super::*;

/// What a recording of `length` samples holds of a track, and the runs.
fn record(
    timeline: &mut Timeline,
    clock: &mut RoomClock,
    start: Instant,
    arrived: Vec<Sent>,
    mut reports: Vec<(Duration, SenderReport)>,
) -> (Vec<i16>, Vec<PlacedRun>) {
    let mut runs = Vec::new();
    for (at, packet) in arrived {
        while reports.first().is_some_and(|(when, _)| *when <= at) {
            timeline.report(clock, reports.remove(0).1);
        }
        timeline.push(start + at, packet);
        runs.extend(std::iter::from_fn(|| timeline.pop(clock, start + at)));
    }
    runs.extend(std::iter::from_fn(|| timeline.finish(clock)));
    let mut track: Vec<i16> = Vec::new();
    for run in &runs {
        assert!(run.at.get() >= track.len() as u64, "nothing is placed twice");
        track.resize(run.at.get() as usize, 0);
        track.extend_from_slice(&run.samples);
    }
    (track, runs)
}

/// A sender of the room: its media clock begins anywhere and is fast by `ppm`; its reports tell the room's wall clock.
struct Talker {
    ssrc: u32,
    media: u64,
    ppm: f64,
}

impl Talker {
    /// What it sends of what [`send`] gives.
    fn packets(&self, sent: &[Sent]) -> Vec<Sent> {
        let mut sent = paced(sent, self.ppm);
        for (_, packet) in &mut sent {
            packet.ssrc = self.ssrc;
            packet.time = RtpTime::new(packet.time.ticks() - 5_000_000_000 + self.media);
        }
        sent
    }

    /// One every three seconds.
    fn reports(&self, seconds: u32) -> Vec<(Duration, SenderReport)> {
        let report = |second: u32| {
            let rtp = self.media + (f64::from(second) * 48_000.0 * (1.0 + self.ppm * 1e-6)).round() as u64;
            let ntp = NtpTime::new(3_900_000_000 + second, 123_456_789);
            (Duration::from_secs(second.into()), SenderReport { ssrc: self.ssrc, ntp, rtp: rtp as u32 })
        };
        (1..seconds / 3).map(|n| report(n * 3)).collect()
    }
}

/// By how many samples `b` is later than `a` around `at`, at the most 4000.
fn lag(a: &[i16], b: &[i16], at: usize) -> i64 {
    const LEN: usize = 24_000;
    let score = |lag: i64| -> i64 {
        let from = (at as i64 + lag) as usize;
        a[at..at + LEN].iter().zip(&b[from..from + LEN]).step_by(7).map(|(x, y)| i64::from(*x) * i64::from(*y)).sum()
    };
    let coarse = (-4_000..=4_000).step_by(4).max_by_key(|lag| score(*lag)).expect("some lag");
    (coarse - 8..=coarse + 8).max_by_key(|lag| score(*lag)).expect("some lag")
}

/// Bursts of noise of a second every two: no two places are alike.
fn noise(seconds: u32) -> Vec<i16> {
    let mut random = Random(99);
    let mut smooth = 0.0;
    (0..seconds * 48_000)
        .map(|n| {
            smooth += ((random.below(40_000) as f64 - 20_000.0) - smooth) * 0.2;
            if n % 96_000 < 48_000 { smooth as i16 } else { 0 }
        })
        .collect()
}

#[test]
fn two_tracks_of_a_room_are_aligned_to_the_sample_as_their_reports_say() {
    let sent = send(&noise(24), OpusSettings { bitrate: 64_000, ..Default::default() });
    let start = Instant::now();
    let mut clock = RoomClock::default();
    let tracks: Vec<_> =
        [(Talker { ssrc: 1, media: 77_777, ppm: 0.0 }, 10), (Talker { ssrc: 2, media: (1 << 32) - 200_000, ppm: 0.0 }, 55)]
            .into_iter()
            .map(|(talker, delay_ms)| {
                let sent = talker.packets(&sent);
                let network = Network { delay_ms, jitter_ms: 30, loss_percent: 1, ..Default::default() };
                let mut timeline = Timeline::new(RATE, start).expect("a timeline");
                let (track, runs) = record(&mut timeline, &mut clock, start, network.carry(&sent, delay_ms), talker.reports(24));
                (track, runs, timeline)
            })
            .collect();
    let [(first, runs, one), (second, others, two)] = &tracks[..] else { panic!("two tracks") };
    assert_eq!([one.placed_by(), two.placed_by()], [Some(PlacedBy::SenderReport); 2]);
    assert!(lag(first, second, 12_000) > 1_000, "before the reports, the arrival tells: the network's delay is in it");
    for at in [6.1, 10.1, 14.1, 20.1] {
        assert_eq!(lag(first, second, (at * 48_000.0) as usize), 0, "at {at} s");
    }
    assert_eq!((runs[0].placed_by, others[0].placed_by), (PlacedBy::Arrival, PlacedBy::Arrival));
    let counts = two.counts();
    assert_eq!(one.counts().moved_ms, 0.0, "the first sets the room's clock: {:?}", one.counts());
    assert!(counts.moves == 1 && (-60.0..-30.0).contains(&counts.moved_ms) && counts.off_ms == 0.0, "{counts:?}");
    assert!(counts.packets.lost > 0 && counts.packets.late == 0 && counts.recovered_ms + counts.concealed_ms > 0.0, "{counts:?}");
}

#[test]
fn a_drifting_track_is_kept_in_its_place_and_no_speech_of_it_is_cut() {
    let sent = send(&noise(200), OpusSettings::default());
    for ppm in [-200.0, 200.0] {
        let start = Instant::now();
        let mut clock = RoomClock::default();
        let steady = Talker { ssrc: 1, media: 9_000_000, ppm: 0.0 };
        let drifting = Talker { ssrc: 2, media: 1_000, ppm };
        let network = Network { delay_ms: 20, jitter_ms: 10, ..Default::default() };
        let mut tracks = Vec::new();
        for talker in [steady, drifting] {
            let sent = talker.packets(&sent);
            let mut timeline = Timeline::new(RATE, start).expect("a timeline");
            let (track, _) = record(&mut timeline, &mut clock, start, network.carry(&sent, 5), talker.reports(200));
            tracks.push((track, timeline.counts()));
        }
        let counts = tracks[1].1;
        assert!(counts.moves >= 3, "{counts:?}");
        assert!(if ppm > 0.0 { counts.moved_ms < -20.0 } else { counts.moved_ms > 20.0 }, "{counts:?}");
        // The 198th second was said so much earlier or later: sample n of a fast clock is at n / (1 + ppm).
        let said = (198.0 * 48_000.0 * -ppm * 1e-6) as i64;
        let off = lag(&tracks[0].0, &tracks[1].0, 198 * 48_000 + 12_000) - said;
        assert!(off.abs() <= 10 * 48, "{ppm}: {off} samples, {counts:?}");
        let loud = |track: &[i16]| track.chunks_exact(480).filter(|part| loudest(part) > 1_000).count();
        assert!(loud(&tracks[0].0).abs_diff(loud(&tracks[1].0)) <= 100, "{} {}", loud(&tracks[0].0), loud(&tracks[1].0));
    }
}

#[test]
fn a_gap_stays_a_gap_whether_the_sender_paused_or_the_line_was_dead() {
    let talker = Talker { ssrc: 1, media: 0, ppm: 0.0 };
    let start = Instant::now();
    let mut sent = talker.packets(&send(&tone(RATE, HZ, 10.0), OpusSettings::default()));
    sent.retain(|(leaves, _)| !(secs(4.0)..secs(6.0)).contains(leaves));
    for lost in [true, false] {
        if !lost {
            sent.iter_mut().enumerate().for_each(|(n, (_, packet))| packet.sequence = 70_000 + n as u64);
        }
        let mut timeline = Timeline::new(RATE, start).expect("a timeline");
        let (track, runs) = record(&mut timeline, &mut RoomClock::default(), start, sent.clone(), Vec::new());
        assert!(track.len().abs_diff(480_000) <= 960, "{}", track.len());
        assert_eq!(loudest(&track[48_000 * 42 / 10..48_000 * 59 / 10]), 0);
        assert!(share(&track[48_000 * 62 / 10..48_000 * 99 / 10], RATE, HZ) > 0.95);
        assert_eq!(timeline.counts().packets.lost, if lost { 100 } else { 0 });
        assert!(runs.iter().all(|run| run.placed_by == PlacedBy::Arrival));
    }
}

#[test]
fn reordered_and_doubled_packets_are_each_placed_once() {
    let talker = Talker { ssrc: 1, media: 0, ppm: 0.0 };
    let start = Instant::now();
    let sent = talker.packets(&send(&tone(RATE, HZ, 20.0), OpusSettings::default()));
    let network = Network { delay_ms: 10, jitter_ms: 90, double_percent: 20, ..Default::default() };
    let mut timeline = Timeline::new(RATE, start).expect("a timeline");
    let (track, _) = record(&mut timeline, &mut RoomClock::default(), start, network.carry(&sent, 5), Vec::new());
    let counts = timeline.counts();
    assert_eq!((counts.packets.lost, counts.packets.late), (0, 0), "{counts:?}");
    assert!(counts.packets.duplicate > 100 && counts.packets.received - counts.packets.duplicate == 1_000, "{counts:?}");
    assert!(share(&track[48_000..19 * 48_000], RATE, HZ) > 0.95, "one tone without a break");
}
