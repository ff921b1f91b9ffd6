//! Prints how good the onset detector is: `cargo run --release --example onset_truth`.

use trunkline::audio::{Rate, read_wav};
use trunkline::measure::truth::{NOISES, invented_on_silent_lines, row};

fn main() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/speech");
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .expect("fixtures/speech is part of the repository")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wav"))
        .collect();
    names.sort();
    let read = |path: &std::path::PathBuf| {
        let file = std::fs::File::open(path).expect("a shipped recording");
        read_wav(std::io::BufReader::new(file), Rate::HZ_16000).expect("a WAV file")
    };
    let shipped: Vec<Vec<i16>> = names.iter().map(read).collect();
    println!("| speech | noise | SNR | onsets | bias | p95 error | misses | invented |");
    println!("|---|---|---|---|---|---|---|---|");
    for speech in [None, Some(&shipped[..])] {
        for snr_db in [30.0, 20.0, 10.0] {
            for noise in NOISES {
                let row = row(speech, noise, snr_db, 60, 7);
                println!(
                    "| {} | {} | {} dB | {} | {:+.1} ms | {:.1} ms | {} | {} |",
                    row.speech, row.noise, row.snr_db, row.onsets, row.bias_ms, row.p95_ms, row.misses, row.invented
                );
            }
        }
    }
    println!("\nOnsets invented on 60 silent noisy lines of 30 s: {}", invented_on_silent_lines(60, 11));
}
