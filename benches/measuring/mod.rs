//! What the benchmarks share.

// Each benchmark uses its own part of this.
#![allow(dead_code)]

use std::time::Duration;

/// The value of a flag of the command line.
pub fn value(flag: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != flag);
    arguments.nth(1)
}

/// The numbers of a flag, separated by commas.
pub fn numbers(flag: &str, default: &str) -> Vec<usize> {
    let text = value(flag).unwrap_or_else(|| default.to_owned());
    text.split(',').map(|number| number.parse().unwrap_or_else(|_| panic!("{flag} takes numbers, not {number:?}"))).collect()
}

/// How many cores there are.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// User and system time of a process (proc(5): fields 14 and 15 of stat, in ticks of 10 ms).
pub fn processor_time(id: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a stat line").split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}

/// Resident memory of a process, in bytes.
pub fn memory(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}
