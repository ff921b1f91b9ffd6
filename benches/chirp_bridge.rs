//! What a bridged and recorded CHIRP call costs, and the latency that the bridge adds: `cargo bench --bench chirp_bridge`.
//!
//! For each number of calls, in one run: callers send a 20 ms frame every 20 ms, each at its own phase, to agents that send
//! it back at once; first directly, then through a `trunkline serve` that bridges and records. A frame carries its number, in
//! samples as quiet as a line's noise, by which its caller knows when it was sent. Added latency is the percentile of the bridged round trips minus that of the direct ones. The bridge is
//! a process of its own, so that its processor time and memory are the operating system's count; the callers and agents
//! share the machine's cores with it. `-- --calls 1,50,200 --seconds 10` sets the numbers.

mod measuring;
#[path = "measuring/round_trips.rs"]
mod round_trips;

use std::time::Duration;

use measuring::{cores, numbers};
use round_trips::{Bridge, WARM_UP, Wire, echo, measure, percentile, ramp};

fn main() {
    let calls = numbers("--calls", "1,50,100,200,300,400,500,600");
    let seconds = numbers("--seconds", "10")[0] as u64;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (agent, time) = (echo(Wire::Chirp).await, Duration::from_secs(seconds));
        println!("Round trip of a 20 ms frame, {seconds} s a row; {} cores, shared by callers, agents and bridge.", cores());
        println!("\n| calls | direct p50, p99 | bridged p50, p99 | added p50, p99 | bridge: of a core, a call | memory, a call |");
        println!("|---|---|---|---|---|---|");
        for calls in calls {
            let direct = measure(Wire::Chirp, agent, calls, time).await;
            let bridge = Bridge::trunkline(&format!("chirp://{agent}/"));
            let idle = bridge.memory();
            let watch = bridge.watch(ramp(calls) + WARM_UP, time);
            let (bridged, (share, memory)) = tokio::join!(measure(Wire::Chirp, bridge.address, calls, time), watch);
            let (share, memory) = (share * 100.0 / calls as f64, memory.saturating_sub(idle) as f64 / 1024.0 / calls as f64);
            let [d50, b50] = [&direct, &bridged].map(|times| percentile(times, 0.5));
            let [d99, b99] = [&direct, &bridged].map(|times| percentile(times, 0.99));
            println!(
                "| {calls} | {d50:.2}, {d99:.2} ms | {b50:.2}, {b99:.2} ms | {:.2}, {:.2} ms | {share:.3} % | {memory:.0} KiB |",
                b50 - d50,
                b99 - d99,
            );
        }
    });
}
