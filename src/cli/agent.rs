//! `trunkline agent`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::io::{runtime, say, until_interrupted};
use crate::agent::{AgentLines, EchoAgent, ScriptedAgent};
use crate::audio::{Rate, read_wav};
use crate::call::{Call, CallControl, Leg, Limits};
use crate::caller::speech::SpeechStore;
use crate::config::credentials;
use crate::error::{Exit, Failure};
use crate::transport::chirp::ChirpDoor;
use crate::transport::web_socket::Door;

/// The shipped agent's lines.
const GREETING: &str = "Hello, this is the Lakeside clinic. How can I help you today?";
const ANSWERS: [&str; 3] = [
    "Of course. We have Monday at nine, Tuesday at eleven, Wednesday at two, and Friday at four. Which of them suits you best?",
    "Very good, that is booked for you.",
    "Thank you for calling, and goodbye.",
];

/// A small voice agent behind a CHIRP WebSocket, for demos and tests
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  trunkline agent scripted --listen 127.0.0.1:9000")]
pub struct Args {
    /// echo says back what it hears; scripted greets, waits for its turn and answers
    #[arg(value_enum)]
    kind: Kind,
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// The scripted agent's answers instead of the shipped ones: WAV files, said in turn
    #[arg(long = "answer", value_name = "WAV")]
    answers: Vec<PathBuf>,
    /// The scripted agent's greeting instead of the shipped one
    #[arg(long, value_name = "WAV")]
    greeting: Option<PathBuf>,
    /// The scripted agent does not greet: the caller speaks first
    #[arg(long, conflicts_with = "greeting")]
    no_greeting: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Echo,
    Scripted,
}

/// Runs the command until it is interrupted.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    runtime()?.block_on(async {
        let lines = match args.kind {
            Kind::Echo => None,
            Kind::Scripted => Some(lines(args).await?),
        };
        let credentials = credentials("TRUNKLINE_DOOR_CREDENTIALS", None).map_err(Failure::usage)?;
        let door = ChirpDoor { credentials, max_calls: 256, ..ChirpDoor::at(args.listen) };
        let door = Door::open(door).await.map_err(Failure::infrastructure)?;
        say(&format!("listening chirp://{}/", door.address()));
        answer_calls(door, lines, until_interrupted()).await;
        Ok(Exit::Passed)
    })
}

/// Answers every call at `door` until `stop`: with the scripted agent where there are lines, else with the echo.
pub(super) async fn answer_calls(mut door: Door, lines: Option<AgentLines>, stop: impl Future<Output = ()>) {
    let control = CallControl::default();
    let (alive, mut all_gone) = mpsc::channel::<()>(1);
    let mut stop = std::pin::pin!(stop);
    loop {
        let arrival = tokio::select! {
            () = &mut stop => break,
            arrival = door.next() => arrival,
        };
        let rate = arrival.leg.rate();
        let agent: Box<dyn Leg> = match &lines {
            Some(lines) => Box::new(ScriptedAgent::new(lines.clone(), rate)),
            None => Box::new(EchoAgent::new(rate)),
        };
        let (alive, control) = (alive.clone(), control.clone());
        tokio::spawn(async move {
            match Call::new(arrival.leg, agent, Limits::default()) {
                Ok(call) => drop(call.controlled_by(control).run().await),
                Err(unable) => tracing::error!("{unable}"),
            }
            drop(alive);
        });
    }
    control.cancel();
    drop(alive);
    // Gives none: ends when the last call has dropped its end.
    all_gone.recv().await;
}

/// The shipped agent's lines, or the user's.
async fn lines(args: &Args) -> Result<AgentLines, Failure> {
    let mut lines = shipped_lines().await?;
    if args.no_greeting {
        lines.greeting = Arc::from([]);
    }
    if let Some(greeting) = &args.greeting {
        lines.greeting = wav(greeting)?;
    }
    if !args.answers.is_empty() {
        lines.answers = args.answers.iter().map(|path| wav(path)).collect::<Result<_, _>>()?;
    }
    Ok(lines)
}

/// The lines that are shipped.
pub(super) async fn shipped_lines() -> Result<AgentLines, Failure> {
    let store = SpeechStore::new(None, &SpeechStore::default_cache());
    let mut answers = Vec::new();
    for text in ANSWERS {
        answers.push(store.render(text, "en", Rate::HZ_16000).await.map_err(Failure::infrastructure)?);
    }
    let greeting = store.render(GREETING, "en", Rate::HZ_16000).await.map_err(Failure::infrastructure)?;
    Ok(AgentLines { greeting, answers })
}

fn wav(path: &std::path::Path) -> Result<Arc<[i16]>, Failure> {
    let fail = |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", path.display()));
    let file = std::fs::File::open(path).map_err(|error| fail(&error))?;
    let samples = read_wav(std::io::BufReader::new(file), Rate::HZ_16000).map_err(|error| fail(&error))?;
    Ok(samples.into())
}
