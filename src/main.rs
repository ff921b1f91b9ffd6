//! The `trunkline` command: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    match trunkline::cli::Cli::read().run() {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.exit as u8)
        }
    }
}
