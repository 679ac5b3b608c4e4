//! The machine: what it is, and which core a thread runs on.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// What figures are worth depends on this.
#[must_use]
pub fn description() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("").trim_matches([' ', '\t', ':']);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{} cores, {model}, Linux {}, load average {} at the start", cores(), kernel.trim(), load())
}

/// How many threads wanted a core, on average over the last minute: a suite that leaves more than its own threads
/// was not alone.
#[must_use]
pub fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or("?").to_owned()
}

/// Cores this process may use.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Keeps the calling thread, and those it will start, on one core.
///
/// Through util-linux: the system call itself would be unsafe code, or one more feature of a library that the engine
/// shares, which would build the engine a second time.
///
/// # Errors
/// When there is no `taskset`, or no such core.
pub fn pin(core: usize) -> Result<()> {
    let thread = fs::read_link("/proc/thread-self").context("this needs Linux")?;
    let thread = thread.file_name().context("no thread id")?;
    let mut taskset = Command::new("taskset");
    taskset.args(["--pid", "--cpu-list", &core.to_string()]).arg(thread).stdout(Stdio::null());
    let status = taskset.status().context("cannot run taskset (util-linux)")?;
    if !status.success() {
        bail!("taskset: {status}");
    }
    Ok(())
}

/// A program that will run on one core.
#[must_use]
pub fn pinned(core: usize, program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &core.to_string(), program]);
    command
}

/// CPU time of all threads of a process, at the resolution of the kernel's statistics (10 ms).
///
/// # Errors
/// When the process is gone.
pub fn cpu_time(process: u32) -> Result<Duration> {
    const TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The second field is the program's name and may hold anything; fields 14 and 15 are user and system time.
    let (_, fields) = stat.rsplit_once(')').context("no fields")?;
    let ticks: u32 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
    Ok(TICK * ticks)
}

/// CPU time of the calling thread.
#[must_use]
pub fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// A line of a file under `/proc` that has a name and a number of kB, in bytes.
///
/// # Errors
/// When there is no such line.
pub fn kilobytes(text: &str, name: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB")).with_context(|| format!("no {name}"))?;
    Ok(number.trim().parse::<u64>()? * 1024)
}
