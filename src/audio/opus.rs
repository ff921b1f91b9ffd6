//! Opus (RFC 6716) as real-time voice uses it: 20 ms frames of one channel out, packets of any legal kind in.

use opus::{Application, Bitrate, Channels, Signal};

use super::{FRAME, Rate};

/// Opus' clock in RTP, in Hz, whatever the audio's rate is (RFC 7587 section 4.1).
pub const OPUS_CLOCK: u32 = 48_000;

/// The longest packet: 120 ms (RFC 6716 section 3.2.5), in ticks of [`OPUS_CLOCK`].
const LONGEST: u32 = 5_760;
/// Room for any frame that the encoder makes: 1275 bytes (RFC 6716 section 3.2.1) and its TOC.
const MOST_BYTES: usize = 1_276;
/// A packet of at most this many bytes need not be sent (libopus' `opus_encode`, "DTX").
const DTX_BYTES: usize = 2;
/// Concealment and recovery go in steps of 2.5 ms (libopus' `opus_decode`), a second has this many.
const STEPS: u32 = 400;

/// What went wrong with Opus.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpusError {
    /// The packet breaks RFC 6716 section 3.4.
    #[error("{0} bytes are no Opus packet")]
    Malformed(usize),
    /// A frame to be encoded has another length than 20 ms.
    #[error("{got} samples are no frame of 20 ms at {rate}")]
    FrameLength {
        /// Its length in samples.
        got: usize,
        /// The encoder's rate.
        rate: Rate,
    },
    /// libopus refused.
    #[error("libopus: {0}")]
    Library(String),
}

impl From<opus::Error> for OpusError {
    fn from(error: opus::Error) -> Self {
        Self::Library(error.to_string())
    }
}

/// How an encoder is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpusSettings {
    /// Bits a second.
    pub bitrate: u32,
    /// The work that is put into a frame, 0 to 10.
    pub complexity: u8,
    /// Each packet carries a coarse copy of the frame before it (in-band FEC), for this expected loss in percent; none: it does not.
    pub fec_for_loss: Option<u8>,
    /// In silence most frames are not sent (DTX).
    pub dtx: bool,
}

impl Default for OpusSettings {
    /// 32 kbit/s, complexity 5, FEC for 10 % loss, no DTX.
    fn default() -> Self {
        Self { bitrate: 32_000, complexity: 5, fec_for_loss: Some(10), dtx: false }
    }
}

/// Makes packets of 20 ms of one channel.
pub struct OpusEncoder {
    rate: Rate,
    encoder: opus::Encoder,
    room: Vec<u8>,
}

/// An encoded frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpusFrame {
    /// The packet.
    pub packet: Vec<u8>,
    /// It need not be sent: the far side goes on with silence (DTX).
    pub dtx: bool,
}

impl OpusEncoder {
    /// An encoder of audio at `rate`.
    ///
    /// # Errors
    /// [`OpusError::Library`] for a setting that libopus does not take.
    pub fn new(rate: Rate, settings: OpusSettings) -> Result<Self, OpusError> {
        let mut encoder = opus::Encoder::new(rate.hz(), Channels::Mono, Application::Voip)?;
        encoder.set_bitrate(Bitrate::Bits(settings.bitrate.try_into().unwrap_or(i32::MAX)))?;
        encoder.set_complexity(settings.complexity.into())?;
        encoder.set_signal(Signal::Voice)?;
        encoder.set_inband_fec(settings.fec_for_loss.is_some())?;
        encoder.set_packet_loss_perc(settings.fec_for_loss.unwrap_or(0).into())?;
        encoder.set_dtx(settings.dtx)?;
        Ok(Self { rate, encoder, room: vec![0; MOST_BYTES] })
    }

    /// Encodes the next 20 ms.
    ///
    /// # Errors
    /// [`OpusError::FrameLength`] for a frame of another length.
    pub fn encode(&mut self, frame: &[i16]) -> Result<OpusFrame, OpusError> {
        if frame.len() != self.rate.frame_len() {
            return Err(OpusError::FrameLength { got: frame.len(), rate: self.rate });
        }
        let len = self.encoder.encode(frame, &mut self.room)?;
        Ok(OpusFrame { packet: self.room[..len].to_vec(), dtx: len <= DTX_BYTES })
    }
}

impl std::fmt::Debug for OpusEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpusEncoder({})", self.rate)
    }
}

/// Makes audio of one channel out of packets of one or two.
pub struct OpusDecoder {
    rate: Rate,
    decoder: opus::Decoder,
    room: Vec<i16>,
}

impl OpusDecoder {
    /// A decoder to audio at `rate`.
    ///
    /// # Errors
    /// [`OpusError::Library`] when there is no memory.
    pub fn new(rate: Rate) -> Result<Self, OpusError> {
        let room = vec![0; rate.frame_len() * (LONGEST / ticks_of_frame()) as usize];
        Ok(Self { rate, decoder: opus::Decoder::new(rate.hz(), Channels::Mono)?, room })
    }

    /// The rate of what it gives.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Appends a packet's audio to `out` and gives its number of samples.
    ///
    /// # Errors
    /// [`OpusError`] for bytes that are no packet. The decoder can be used on.
    pub fn decode(&mut self, packet: &[u8], out: &mut Vec<i16>) -> Result<usize, OpusError> {
        packet_ticks(packet)?;
        let samples = self.decoder.decode(packet, &mut self.room, false)?;
        out.extend_from_slice(&self.room[..samples]);
        Ok(samples)
    }

    /// Appends the last `samples` before the packet `next`, which were lost, from the copy in it. Where it carries none (see
    /// [`carries_fec`]) they are concealed.
    ///
    /// # Errors
    /// [`OpusError`] for bytes that are no packet.
    pub fn recover(&mut self, next: &[u8], samples: usize, out: &mut Vec<i16>) -> Result<usize, OpusError> {
        packet_ticks(next)?;
        let room = self.steps(samples);
        let made = self.decoder.decode(next, &mut self.room[..room], true)?;
        out.extend_from_slice(&self.room[..made]);
        Ok(made)
    }

    /// Appends `samples` that sound as if the audio had gone on, for a packet that was lost. They are rounded down to 2.5 ms,
    /// at least that and at most 120 ms.
    ///
    /// # Errors
    /// [`OpusError::Library`] from libopus.
    pub fn conceal(&mut self, samples: usize, out: &mut Vec<i16>) -> Result<usize, OpusError> {
        let room = self.steps(samples);
        let made = self.decoder.decode(&[], &mut self.room[..room], false)?;
        out.extend_from_slice(&self.room[..made]);
        Ok(made)
    }

    /// Forgets what was decoded: another stream follows.
    pub fn reset(&mut self) {
        // Resetting a decoder's state cannot fail in libopus; were it to, the old state would fade out of the next frames.
        let _ = self.decoder.reset_state();
    }

    fn steps(&self, samples: usize) -> usize {
        let step = (self.rate.hz() / STEPS) as usize;
        (samples / step * step).clamp(step, self.room.len())
    }
}

impl std::fmt::Debug for OpusDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpusDecoder({})", self.rate)
    }
}

/// Whether a packet is one of a pause (DTX): it says that there is nothing to hear.
#[must_use]
pub fn is_dtx(packet: &[u8]) -> bool {
    packet.len() <= DTX_BYTES
}

/// How long a packet lasts, in ticks of [`OPUS_CLOCK`], from its first two bytes (RFC 6716 sections 3.1 and 3.2).
///
/// # Errors
/// [`OpusError::Malformed`] when they are no Opus packet's.
pub fn packet_ticks(packet: &[u8]) -> Result<u32, OpusError> {
    let malformed = OpusError::Malformed(packet.len());
    let Some(&toc) = packet.first() else { return Err(malformed) };
    let frame = frame_ticks(toc);
    let frames = match toc & 0b11 {
        0 => 1,
        1 | 2 => 2,
        _ => match packet.get(1) {
            Some(count) => u32::from(count & 0b11_1111),
            None => return Err(malformed),
        },
    };
    if (1..=LONGEST).contains(&(frame * frames)) { Ok(frame * frames) } else { Err(malformed) }
}

/// How many samples at `rate` a packet gives: [`packet_ticks`] at another rate.
///
/// # Errors
/// [`OpusError::Malformed`], likewise.
pub fn packet_samples(packet: &[u8], rate: Rate) -> Result<usize, OpusError> {
    Ok(packet_ticks(packet)? as usize * rate.hz() as usize / OPUS_CLOCK as usize)
}

/// Whether a packet carries a copy of the frame before it: the LBRR flag of its first SILK frame (RFC 6716 section 4.2.4).
#[must_use]
pub fn carries_fec(packet: &[u8]) -> bool {
    let Ok(parsed) = opus::packet::parse(packet) else { return false };
    let (Some(&toc), Some(&first)) = (packet.first(), parsed.frames.first().and_then(|frame| frame.first())) else { return false };
    // Configurations 16 to 31 are CELT alone, which has no such copy.
    if toc >> 3 >= 16 {
        return false;
    }
    // One bit of voice activity a SILK frame of up to 20 ms, then the flag; the second channel's follow (section 4.2.3).
    let frames = (frame_ticks(toc) / ticks_of_frame()).max(1);
    let middle = first >> (7 - frames) & 1 == 1;
    let stereo = toc & 0b100 != 0;
    middle || stereo && first >> (6 - 2 * frames.min(3)) & 1 == 1
}

/// The length of one of a packet's frames (RFC 6716 section 3.1, table 2).
fn frame_ticks(toc: u8) -> u32 {
    match toc >> 3 {
        config @ 0..=11 => [480, 960, 1_920, 2_880][usize::from(config % 4)],
        config @ 12..=15 => [480, 960][usize::from(config % 2)],
        config => [120, 240, 480, 960][usize::from(config % 4)],
    }
}

const fn ticks_of_frame() -> u32 {
    (FRAME.as_millis() as u32) * (OPUS_CLOCK / 1_000)
}
