//! G.711, the telephone's coding: 8 bits a sample at 8 kHz (ITU-T G.711).

use audio_codec::pcma::{PcmaDecoder, PcmaEncoder};
use audio_codec::pcmu::{PcmuDecoder, PcmuEncoder};
use audio_codec::{Decoder, Encoder};

/// The law by which samples are companded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Law {
    /// Mu-law, PCMU.
    Mu,
    /// A-law, PCMA.
    A,
}

impl Law {
    /// Samples as bytes, one each.
    #[must_use]
    pub fn encode(self, samples: &[i16]) -> Vec<u8> {
        match self {
            Self::Mu => PcmuEncoder::new().encode(samples),
            Self::A => PcmaEncoder::new().encode(samples),
        }
    }

    /// The samples of bytes.
    #[must_use]
    pub fn decode(self, bytes: &[u8]) -> Vec<i16> {
        match self {
            Self::Mu => PcmuDecoder::new().decode(bytes),
            Self::A => PcmaDecoder::new().decode(bytes),
        }
    }
}
