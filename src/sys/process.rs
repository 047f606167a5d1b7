//! What /proc says of a process.

use std::time::Duration;

/// Processor time that process `pid` has used; none where it is gone or /proc does not tell.
pub fn cpu_time(pid: i32) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// Whether it waits for something that may take long.
pub fn sleeps(pid: i32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The command's name, in parentheses, may hold anything.
    text.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
}
