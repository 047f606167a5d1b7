//! What /proc says of a process.

use std::time::Duration;

/// Processor time that process `pid` has used; none where it is gone or /proc does not tell.
pub fn cpu_time(pid: i32) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// When process `pid` began, in clock ticks since the host's boot: with its number, that tells it
/// from every other. None where it is gone.
pub fn started(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Field 22 of proc_pid_stat(5); the third comes first here.
    text.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

/// The process that has started it, or has taken over after that one's end; none where it is gone.
pub fn parent(pid: i32) -> Option<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// Its arguments, the program's name first; none where it is gone.
pub fn command_line(pid: i32) -> Vec<Vec<u8>> {
    let text = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    text.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
}

/// Its program's name as it was started; empty where it is gone.
pub fn argv0(pid: i32) -> Vec<u8> {
    command_line(pid).into_iter().next().unwrap_or_default()
}

/// Every process that /proc shows.
pub fn all() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Whether thread `tid` is on its way out, or has ended: it executes nothing any more. None where /proc does
/// not tell, or where it is gone.
pub fn is_exiting(tid: i32) -> Option<bool> {
    /// PF_EXITING of linux/sched.h.
    const EXITING: u64 = 4;
    let text = std::fs::read_to_string(format!("/proc/{tid}/stat")).ok()?;
    // Field 9 of proc_pid_stat(5); the third comes first here.
    let flags: u64 = text.rsplit_once(") ")?.1.split(' ').nth(6)?.parse().ok()?;
    Some(flags & EXITING != 0)
}

/// Whether it has ended and waits to be collected.
pub fn is_zombie(pid: i32) -> bool {
    state(pid) == Some('Z')
}

/// Whether it waits for something that may take long.
pub fn sleeps(pid: i32) -> bool {
    state(pid) == Some('S')
}

fn state(pid: i32) -> Option<char> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name, in parentheses, may hold anything.
    text.rsplit_once(") ")?.1.chars().next()
}
