//! How loaded this machine is, as Linux tells it in `/proc` (proc(5)); elsewhere nothing is known of it.

use std::fs;

use crate::report::Host;

/// Looks at the machine from its first look to its last.
#[derive(Debug)]
pub(crate) struct HostWatch {
    first: Option<Ticks>,
    last: Option<Ticks>,
    cpu_max: Option<f64>,
}

/// The machine's and the process's time since they started, in the same ticks.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ticks {
    all: f64,
    idle: f64,
    steal: f64,
    process: f64,
}

impl HostWatch {
    /// The first look.
    pub(crate) fn start() -> Self {
        let first = Ticks::now();
        Self { first, last: first, cpu_max: None }
    }

    /// One more look; every second is often enough.
    pub(crate) fn look(&mut self) {
        let now = Ticks::now();
        if let (Some(last), Some(now)) = (self.last, now) {
            self.cpu_max = self.cpu_max.into_iter().chain(now.since(last).busy()).reduce(f64::max);
        }
        self.last = now;
    }

    /// What was seen, up to the last look. The slips are the callers' to tell.
    pub(crate) fn seen(&self) -> Host {
        let passed = self.first.zip(self.last).map(|(first, last)| last.since(first));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let share = |pick: fn(&Ticks) -> f64| passed.filter(|ticks| ticks.all > 0.0).map(|ticks| pick(&ticks) / ticks.all);
        Host {
            cores,
            cpu_mean: passed.and_then(|ticks| ticks.busy()).map(rounded),
            cpu_max: self.cpu_max.or_else(|| passed.and_then(|ticks| ticks.busy())).map(rounded),
            steal_mean: share(|ticks| ticks.steal).map(rounded),
            process_cores_mean: share(|ticks| ticks.process).zip(machine_cores()).map(|(share, all)| rounded(share * all as f64)),
            process_peak_bytes: peak_memory(),
            slips: Default::default(),
        }
    }
}

impl Ticks {
    fn now() -> Option<Self> {
        let machine = fs::read_to_string("/proc/stat").ok()?;
        // user, nice, system, idle, iowait, irq, softirq, steal; guests' time is part of user and nice.
        let fields: Vec<f64> = machine.lines().next()?.split_whitespace().skip(1).map_while(|field| field.parse().ok()).collect();
        let own = fs::read_to_string("/proc/self/stat").ok()?;
        // The second field, the command, may hold anything; utime and stime are the 14th and 15th.
        let own: Vec<&str> = own.rsplit(')').next()?.split_whitespace().collect();
        let process = own.get(11)?.parse::<f64>().ok()? + own.get(12)?.parse::<f64>().ok()?;
        let idle = fields.get(3)? + fields.get(4)?;
        Some(Self { all: fields.iter().take(8).sum(), idle, steal: fields.get(7).copied().unwrap_or(0.0), process })
    }

    fn since(self, earlier: Self) -> Self {
        let passed = |now: f64, then: f64| (now - then).max(0.0);
        Self {
            all: passed(self.all, earlier.all),
            idle: passed(self.idle, earlier.idle),
            steal: passed(self.steal, earlier.steal),
            process: passed(self.process, earlier.process),
        }
    }

    fn busy(self) -> Option<f64> {
        (self.all > 0.0).then(|| (1.0 - self.idle / self.all).clamp(0.0, 1.0))
    }
}

/// The cores whose time `/proc/stat` adds up; this process may be allowed fewer.
fn machine_cores() -> Option<usize> {
    let machine = fs::read_to_string("/proc/stat").ok()?;
    let of_a_core = |line: &&str| line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    Some(machine.lines().filter(of_a_core).count()).filter(|cores| *cores > 0)
}

/// Peak resident memory, in bytes.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

fn rounded(share: f64) -> f64 {
    (share * 1000.0).round() / 1000.0
}
