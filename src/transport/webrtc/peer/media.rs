//! A peer connection's audio, between str0m's terms and ours.

use std::collections::HashMap;
use std::time::Instant;

use str0m::Rtc;
use str0m::format::{Codec, PayloadParams};
use str0m::media::{Mid, SenderFeedback};
use str0m::rtp::{ExtensionValues, RtpPacket, RtpWrite, SeqNo, Ssrc};

use super::PeerEvent;
use crate::transport::webrtc::{NtpTime, RtpAudio, RtpTime, SenderReport};

/// A media section for audio that we send.
#[derive(Debug)]
pub struct SentAudio {
    mid: Mid,
    sequence: u64,
}

impl SentAudio {
    pub(super) const fn new(mid: Mid) -> Self {
        Self { mid, sequence: 0 }
    }

    pub(super) const fn mid(&self) -> Mid {
        self.mid
    }

    /// Hands str0m one packet of Opus. False: the far side has not agreed to it.
    pub(super) fn write(&mut self, rtc: &mut Rtc, time: RtpTime, level: i8, payload: &[u8]) -> bool {
        let params = rtc.codec_config().params();
        let opus = params.iter().find(|params| params.spec().codec == Codec::Opus).map(PayloadParams::pt);
        let mut direct = rtc.direct_api();
        let (Some(pt), Some(stream)) = (opus, direct.stream_tx_by_mid(self.mid, None)) else { return false };
        let extensions =
            ExtensionValues { audio_level: Some(level), voice_activity: Some(level > -50), ..ExtensionValues::default() };
        // Sequence numbers may start anywhere below the first wrap; RTP time is sent as its lower 32 bits.
        let sequence: SeqNo = self.sequence.into();
        self.sequence += 1;
        let write = RtpWrite::new(pt, sequence, time.ticks() as u32, Instant::now(), payload).ext_vals(extensions);
        stream.write_rtp(write);
        true
    }
}

/// The sources of received audio, and the media sections that they belong to.
#[derive(Default)]
pub(super) struct Sources(HashMap<Ssrc, Mid>);

impl Sources {
    /// What a packet is to us; nothing when no media section is known for it.
    pub(super) fn packet(&mut self, rtc: &mut Rtc, packet: &RtpPacket) -> Option<PeerEvent> {
        let ssrc = packet.header.ssrc;
        let known = packet.header.ext_vals.mid.or_else(|| self.0.get(&ssrc).copied());
        let mid = known.or_else(|| rtc.direct_api().stream_rx(&ssrc).map(|stream| stream.mid()))?;
        self.0.insert(ssrc, mid);
        let audio = RtpAudio {
            ssrc: *ssrc,
            sequence: *packet.seq_no,
            time: RtpTime::new(packet.time.numer()),
            payload: packet.payload.to_vec(),
        };
        Some(PeerEvent::Rtp { mid: mid.to_string(), arrived: packet.timestamp, packet: audio })
    }
}

/// A sender report.
pub(super) fn report(feedback: &SenderFeedback) -> PeerEvent {
    let info = &feedback.sender_info;
    let report = SenderReport { ssrc: *info.ssrc, ntp: NtpTime::of_system(info.ntp_time), rtp: info.rtp_time.numer() as u32 };
    PeerEvent::SenderReport { mid: feedback.mid.to_string(), report }
}
