//! What Trunkline adds in front of a Pipecat WebSocket agent, side by side with a Python bridge of the same two ends:
//! `cargo bench --bench pipecat_bridge`.
//!
//! For each number of calls, in one run: callers send a 20 ms frame every 20 ms to an agent that speaks Pipecat's protobuf frames and sends them
//! back at once; first directly, as Pipecat's clients do, then over CHIRP through `trunkline serve` (which records both sides), then over CHIRP
//! through `benches/pipecat_bridge.py`, which records nothing: as bare sockets with Pipecat's own `ProtobufFrameSerializer`, and as pipelines of Pipecat's own
//! transports. Added latency is the percentile of
//! the bridged round trips, which pass the bridge twice, minus that of the direct ones. `-- --calls 1,20 --seconds 10` sets the numbers. The Python
//! bridge needs `scripts/python-env`.

mod measuring;
#[path = "measuring/round_trips.rs"]
mod round_trips;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use measuring::{cores, numbers};
use round_trips::{Bridge, WARM_UP, Wire, echo, measure, percentile, ramp};

fn main() {
    let calls = numbers("--calls", "1,10,20,40");
    let time = Duration::from_secs(numbers("--seconds", "10")[0] as u64);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let agent = echo(Wire::Pipecat).await;
        println!(
            "Round trip of a 20 ms frame, {} s a row; {} cores, shared by callers, agents and bridges.",
            time.as_secs(),
            cores()
        );
        println!("\n| calls | direct p50, p99 | bridge | bridged p50, p99 | added p50, p99 | of a core, a call |");
        println!("|---|---|---|---|---|---|");
        for calls in calls {
            let direct = measure(Wire::Pipecat, agent, calls, time).await;
            let (d50, d99) = (percentile(&direct, 0.5), percentile(&direct, 0.99));
            let mut shares = Vec::new();
            for (name, bridge) in BRIDGES {
                let bridge = bridge(&agent.to_string());
                let watch = bridge.watch(ramp(calls) + WARM_UP, time);
                let (bridged, (share, _)) = tokio::join!(measure(Wire::Chirp, bridge.address, calls, time), watch);
                let (b50, b99) = (percentile(&bridged, 0.5), percentile(&bridged, 0.99));
                println!(
                    "| {calls} | {d50:.2}, {d99:.2} ms | {name} | {b50:.2}, {b99:.2} ms | {:.2}, {:.2} ms | {:.3} % |",
                    b50 - d50,
                    b99 - d99,
                    share * 100.0 / calls as f64,
                );
                shares.push(share);
            }
            let [of_sockets, of_transports] = [shares[1] / shares[0], shares[2] / shares[0]];
            println!("| {calls} | | Trunkline's processor time | | | 1/{of_sockets:.1} and 1/{of_transports:.1} of Python's |");
        }
    });
}

/// Starts a bridge in front of the agent at this address.
type Start = fn(&str) -> Bridge;

/// What stands in front of the agent.
const BRIDGES: [(&str, Start); 3] = [
    ("Trunkline", trunkline),
    ("Python, sockets", |agent| python(agent, &[])),
    ("Python, transports", |agent| python(agent, &["--transports"])),
];

fn trunkline(agent: &str) -> Bridge {
    Bridge::trunkline(&format!("pipecat-ws://{agent}/"))
}

fn python(agent: &str, more: &[&str]) -> Bridge {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(root.join("target/pyenv-pipecat/bin/python"));
    command.arg(root.join("benches/pipecat_bridge.py")).arg(format!("ws://{agent}/")).args(more);
    Bridge::of(command)
}
