//! Bytes and packets that nobody would send.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use trunkline::audio::Rate;
use trunkline::audio::opus::{OpusDecoder, carries_fec, is_dtx, packet_samples};
use trunkline::transport::webrtc::{
    JitterBuffer, JitterCounts, JitterLimits, NtpTime, PacketCounts, RoomClock, RtpAudio, RtpTime, SenderReport, Timeline,
};

proptest! {
    #[test]
    fn no_bytes_make_opus_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), lost in 0..20_000_usize) {
        let mut decoder = OpusDecoder::new(Rate::HZ_16000).expect("a decoder");
        let mut out = Vec::new();
        let _ = (carries_fec(&bytes), is_dtx(&bytes));
        if let Ok(samples) = decoder.decode(&bytes, &mut out) {
            prop_assert_eq!(Ok(samples), packet_samples(&bytes, Rate::HZ_16000));
        }
        let _ = decoder.recover(&bytes, lost, &mut out);
        let _ = decoder.conceal(lost, &mut out);
    }

    #[test]
    fn no_packets_make_the_jitter_buffer_panic_or_miscount(
        packets in proptest::collection::vec(
            (0..2_u32, prop_oneof![0..400_u64, any::<u64>()], prop_oneof![0..400_000_u64, any::<u64>()], 0..60_u64,
             proptest::collection::vec(any::<u8>(), 0..12)), 0..200)
    ) {
        let start = Instant::now();
        let mut now = start;
        let mut buffer = JitterBuffer::new(Rate::HZ_8000, JitterLimits::default(), start).expect("a buffer");
        let mut frames = 0;
        for (ssrc, sequence, time, ms, payload) in packets {
            now += Duration::from_millis(ms);
            buffer.push(now, RtpAudio { ssrc, sequence, time: RtpTime::new(time), payload });
            while let Some(frame) = buffer.pop(now) {
                prop_assert_eq!(frame.samples.len(), 160);
                frames += 1;
            }
        }
        if frames > 0 {
            prop_assert_eq!(frames, (now - start).as_millis() as u64 / 20 + 1, "one frame every 20 ms");
        }
        let counts = buffer.counts();
        let JitterCounts { packets, played, empty, .. } = counts;
        let PacketCounts { received, duplicate, late, malformed, discarded, .. } = packets;
        prop_assert_eq!(received, played + duplicate + late + malformed + empty + discarded + buffer.waiting() as u64);
    }

    #[test]
    fn no_packets_or_reports_make_the_timeline_panic_or_place_anything_twice(
        packets in proptest::collection::vec(
            (0..2_u32, prop_oneof![0..400_u64, any::<u64>()], prop_oneof![0..400_000_u64, any::<u64>()], 0..60_u64,
             proptest::collection::vec(any::<u8>(), 0..12), any::<u64>()), 0..200)
    ) {
        let start = Instant::now();
        let (mut now, mut clock, mut end) = (start, RoomClock::default(), 0);
        let mut timeline = Timeline::new(Rate::HZ_8000, start).expect("a timeline");
        let mut runs = Vec::new();
        for (ssrc, sequence, time, ms, payload, ntp) in packets {
            now += Duration::from_millis(ms);
            if ms % 8 == 0 {
                timeline.report(&mut clock, SenderReport { ssrc, ntp: NtpTime::from_bits(ntp), rtp: time as u32 });
            }
            timeline.push(now, RtpAudio { ssrc, sequence, time: RtpTime::new(time), payload });
            runs.extend(std::iter::from_fn(|| timeline.pop(&mut clock, now)));
        }
        runs.extend(std::iter::from_fn(|| timeline.finish(&mut clock)));
        for run in runs {
            prop_assert!(run.at.get() >= end && !run.samples.is_empty());
            end = run.at.get() + run.samples.len() as u64;
        }
    }
}
