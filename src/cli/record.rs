//! `trunkline record`.

mod livekit;

use std::path::{Path, PathBuf};

use super::io::{result, say};
use super::outcome::measured;
use super::values::parse_rate;
use crate::audio::Rate;
use crate::error::{Exit, Failure};
use crate::record::{Mended, repair_file, repair_folder};

/// Records LiveKit rooms, and works on recordings
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  trunkline record livekit --agent my-agent
  trunkline record repair trunkline-runs/20260101-120000-abc123")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Livekit(Box<livekit::Args>),
    /// Mends what a crash left, by the files' bytes: a call's folder with all its files, or one WAV file
    #[command(after_help = "Examples:
  trunkline record repair trunkline-runs/20260101-120000-abc123
  trunkline record repair broken.wav --rate 16000")]
    Repair {
        /// A call's folder or a WAV file
        path: PathBuf,
        /// Rate of a WAV file whose header was never written, in Hz
        #[arg(long, value_name = "HZ", value_parser = parse_rate)]
        rate: Option<Rate>,
    },
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    match &args.command {
        Command::Livekit(args) => livekit::run(args),
        Command::Repair { path, rate } => repair(path, *rate),
    }
}

fn repair(path: &Path, rate: Option<Rate>) -> Result<Exit, Failure> {
    if !path.is_dir() {
        let mended = repair_file(path, rate).map_err(Failure::usage)?;
        result(&line(&mended));
        return Ok(Exit::Passed);
    }
    let (info, mended) = repair_folder(path).map_err(Failure::usage)?;
    let lines: Vec<_> = mended.iter().map(line).collect();
    let seconds = info.duration_ms.unwrap_or_default() / 1000.0;
    result(&format!("{}\ncall {}: {seconds:.2} s, all files are there\n", lines.join("\n"), info.ids.call_id));
    if let Err(problem) = measured(path, &info) {
        say(&format!("the call cannot be measured: {problem}"));
    }
    Ok(Exit::Passed)
}

fn line(mended: &Mended) -> String {
    let Mended { path, samples_before, samples } = mended;
    format!("{}: {samples} samples (its header told of {samples_before})", path.display())
}
