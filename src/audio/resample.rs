//! Resampling between the carried rates.
//!
//! One [`Resampler`] a direction, stateful, in blocks of 20 ms. An FFT resampler with a Blackman-Harris window: alias and
//! image lie far below -60 dB up to 90 % of the lower Nyquist frequency (`tests/media/audio.rs` measures it). Its delay of half
//! a block (10 ms) is known and taken out: sample `n` of the output is the input's moment `n / rate`.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler as _, WindowFunction};

use super::Rate;

/// Turns a stream at one rate into a stream at another.
pub struct Resampler {
    from: u64,
    to: u64,
    fft: Fft<f32>,
    input: Vec<f32>,
    filled: usize,
    output: Vec<f32>,
    /// Output samples of the filter's delay that are still to be dropped.
    delay_left: usize,
    fed: u64,
    given: u64,
}

impl Resampler {
    /// A resampler from one rate to another.
    #[must_use]
    pub fn new(from: Rate, to: Rate) -> Self {
        Self::between(from.hz(), to)
    }

    /// As [`Self::new`], from any rate that a file may have.
    fn between(from: u32, to: Rate) -> Self {
        let block = (from as usize / 50).max(1);
        let fft = Fft::new_custom(from as usize, to.hz() as usize, block, 1, 1, WindowFunction::BlackmanHarris2, FixedSync::Both)
            .expect("the rates and the block length are above zero");
        let input = vec![0.0; fft.input_frames_max()];
        let output = vec![0.0; fft.output_frames_max()];
        let delay_left = fft.output_delay();
        Self { from: from.into(), to: to.hz().into(), fft, input, filled: 0, output, delay_left, fed: 0, given: 0 }
    }

    /// Takes samples in and appends to `out` what they complete: all of them but the last 10 to 30 ms.
    pub fn push(&mut self, samples: &[i16], out: &mut Vec<i16>) {
        self.fed += samples.len() as u64;
        let mut rest = samples;
        while !rest.is_empty() {
            let take = rest.len().min(self.input.len() - self.filled);
            for (slot, sample) in self.input[self.filled..].iter_mut().zip(&rest[..take]) {
                *slot = f32::from(*sample);
            }
            self.filled += take;
            rest = &rest[take..];
            if self.filled == self.input.len() {
                self.process(out);
            }
        }
    }

    /// Gives what [`Self::push`] still holds back, so that as much time came out as went in, and starts afresh.
    pub fn flush(&mut self, out: &mut Vec<i16>) {
        while self.given < self.due() {
            self.input[self.filled..].fill(0.0);
            self.process(out);
        }
        self.fft.reset();
        self.delay_left = self.fft.output_delay();
        (self.filled, self.fed, self.given) = (0, 0, 0);
    }

    /// Whether a flush would give anything.
    #[must_use]
    pub fn holds_back(&self) -> bool {
        self.given < self.due()
    }

    fn due(&self) -> u64 {
        (self.fed * self.to + self.from / 2) / self.from
    }

    fn process(&mut self, out: &mut Vec<i16>) {
        let (frames_in, frames_out) = (self.input.len(), self.output.len());
        let source = InterleavedSlice::new(&self.input, 1, frames_in).expect("one channel of its own length");
        let mut sink = InterleavedSlice::new_mut(&mut self.output, 1, frames_out).expect("one channel of its own length");
        let (_, written) = self.fft.process_into_buffer(&source, &mut sink, None).expect("a full block in, a block's room out");
        self.filled = 0;
        let skip = self.delay_left.min(written);
        self.delay_left -= skip;
        let wanted = (self.due().saturating_sub(self.given) as usize).min(written - skip);
        out.extend(self.output[skip..skip + wanted].iter().map(|s| s.round().clamp(-32_768.0, 32_767.0) as i16));
        self.given += wanted as u64;
    }
}

impl std::fmt::Debug for Resampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Resampler({} -> {} Hz)", self.from, self.to)
    }
}

/// A whole clip at another rate, aligned to the sample. `from` may be any rate that a file has, in Hz.
#[must_use]
pub fn resample(samples: &[i16], from: u32, to: Rate) -> Vec<i16> {
    if from == to.hz() || samples.is_empty() {
        return samples.to_vec();
    }
    let mut resampler = Resampler::between(from, to);
    let mut out = Vec::with_capacity((samples.len() as u64 * u64::from(to.hz()) / u64::from(from)) as usize + 1);
    resampler.push(samples, &mut out);
    resampler.flush(&mut out);
    out
}
