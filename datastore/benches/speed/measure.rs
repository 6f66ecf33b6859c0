//! How figures are taken, printed and judged.

use std::{process::ExitCode, time::Duration};

/// The goals that a run missed.
#[derive(Default)]
pub(crate) struct Report {
    missed: Vec<String>,
}

/// Begins a section.
pub(crate) fn section(title: &str) {
    println!("\n{title}");
}

/// Prints a figure that is held to nothing.
pub(crate) fn tell(name: &str, figure: &str) {
    println!("       {name}: {figure}");
}

/// Times of something that was done often.
pub(crate) struct Times {
    sorted: Vec<Duration>,
}

impl Report {
    /// Prints a figure that is to be at most `goal`.
    pub(crate) fn judge(&mut self, name: &str, figure: &str, value: f64, goal: f64, unit: &str) {
        let met = value <= goal;
        println!(
            "{} {name}: {figure}; goal {goal} {unit}",
            if met { "met   " } else { "MISSED" }
        );
        if !met {
            self.missed.push(name.to_owned());
        }
    }

    /// Prints median and 99th percentile, and holds the latter to a goal.
    pub(crate) fn times(&mut self, name: &str, times: &Times, more: &str, goal: Duration) {
        let figure = format!(
            "median {}, p99 {}, of {}{more}",
            short(times.median()),
            short(times.p99()),
            times.sorted.len(),
        );
        let [p99, goal] = [times.p99(), goal].map(|time| time.as_secs_f64() * 1e3);
        self.judge(name, &figure, p99, goal, "ms at p99");
    }

    /// Says what was missed, and whether anything was.
    pub(crate) fn close(self) -> ExitCode {
        println!();
        if self.missed.is_empty() {
            println!("all goals met");
            return ExitCode::SUCCESS;
        }
        println!("goals missed: {}", self.missed.join(", "));
        ExitCode::FAILURE
    }
}

impl Times {
    /// Takes the time of each call, after a tenth as many calls that only warm up. What a call needs is made first and
    /// is not part of the time.
    pub(crate) fn of<T>(
        count: usize,
        mut make: impl FnMut(usize) -> T,
        mut act: impl FnMut(T),
    ) -> Self {
        let warm_up = count / 10;
        for number in 0..warm_up {
            act(make(number));
        }
        let mut sorted: Vec<Duration> = (warm_up..warm_up + count)
            .map(|number| {
                let made = make(number);
                cpu_time(|| act(made)).0
            })
            .collect();
        sorted.sort_unstable();
        Self { sorted }
    }

    fn median(&self) -> Duration {
        self.sorted[self.sorted.len() / 2]
    }

    fn p99(&self) -> Duration {
        self.sorted[self.sorted.len() * 99 / 100]
    }
}

/// What something costs this thread in CPU time, and what it returns.
pub(crate) fn cpu_time<T>(act: impl FnOnce() -> T) -> (Duration, T) {
    let start = on_cpu();
    let result = act();
    (on_cpu().saturating_sub(start), result)
}

/// The median of some runs of the same.
pub(crate) fn median_cpu_time(runs: usize, mut act: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..runs).map(|_| cpu_time(&mut act).0).collect();
    times.sort_unstable();
    times[runs / 2]
}

/// The memory of this process that is in use now, in bytes.
pub(crate) fn resident() -> u64 {
    status("VmRSS:")
}

/// The most memory that this process ever had in use, in bytes.
pub(crate) fn most_resident() -> u64 {
    status("VmHWM:")
}

pub(crate) fn short(time: Duration) -> String {
    match time.as_nanos() {
        nanos @ ..10_000 => format!("{nanos} ns"),
        nanos @ ..10_000_000 => format!("{:.1} us", nanos as f64 / 1e3),
        nanos => format!("{:.1} ms", nanos as f64 / 1e6),
    }
}

fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process has a status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .expect("Linux tells it");
    let kibibytes: u64 = line
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("it is a number");
    kibibytes * 1024
}

/// How long this thread has been on a CPU.
fn on_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
