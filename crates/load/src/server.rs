//! What the server costs, as the system counts it. Linux only: /proc.

use std::fs;

/// CPU time of a process and all its threads, in seconds. To the nanosecond where the scheduler says so, else in the
/// hundredths of /proc/PID/stat. `None` if there is no such process.
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    by_thread(pid).or_else(|| by_process(pid))
}

/// Threads that have ended are not in it: servers under test keep theirs.
fn by_thread(pid: u32) -> Option<f64> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        total += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(total as f64 / 1e9)
}

fn by_process(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // the name, in parentheses, may hold anything
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(ticks as f64 / 100.0)
}

/// Resident memory and its peak, in bytes.
pub fn memory(pid: u32) -> Option<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    };
    Some((field("VmRSS:")?, field("VmHWM:")?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_costs_something() {
        let pid = std::process::id();
        let before = super::cpu_seconds(pid).unwrap();
        let mut sum = 0u64;
        while super::cpu_seconds(pid).unwrap() < before + 0.02 {
            sum = std::hint::black_box(sum.wrapping_mul(31) + 1);
        }
        let ticks = super::by_process(pid).unwrap();
        let exact = super::by_thread(pid).unwrap();
        assert!((ticks - exact).abs() < 0.5, "{ticks} and {exact} are of the same process");
        let (now, peak) = super::memory(pid).unwrap();
        assert!(now > 0 && peak >= now);
        assert_eq!(super::cpu_seconds(u32::MAX), None);
    }
}
