//! One verb on several containers: each in a process of its own, several at a time, so that a slow
//! or stuck one holds up no other.

use rustix::event::{PollFd, PollFlags};

use crate::app::App;
use crate::cli::arguments::names::Containers;
use crate::cli::error::{CliError, CliResult, DONE};
use crate::cli::report::report;
use crate::model::name::Name;
use crate::sys::process::child::{Child, Exit};
use crate::sys::process::fork::Fork;

/// A container and the process that works on it.
struct Worker {
    name: Name,
    process: Child,
}

/// Does `work` on each of these containers, once for each. One alone is done by this process. Several
/// go on past failures: all are reported, and the worst decides the exit code.
pub fn each(which: &Containers, work: impl Fn(&mut App, &Name) -> CliResult<()>) -> CliResult<i32> {
    // All are looked at before anything is done to one.
    each_of(which.names()?, work)
}

/// The same for checked names.
pub fn each_of(names: Vec<Name>, work: impl Fn(&mut App, &Name) -> CliResult<()>) -> CliResult<i32> {
    if let [name] = names.as_slice() {
        work(&mut crate::cli::open()?, name)?;
        return Ok(DONE);
    }
    Ok(share_out(names, usual(), |name| crate::cli::open().and_then(|mut app| work(&mut app, name))))
}

/// How many at a time, unless there is a reason for another number.
pub fn usual() -> usize {
    2 * std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// The same for checked names, each in a process of its own, at most `most` at a time.
pub fn share_out(names: Vec<Name>, most: usize, work: impl Fn(&Name) -> CliResult<()>) -> i32 {
    let mut to_do = names.into_iter();
    let mut workers: Vec<Worker> = Vec::new();
    let mut worst = DONE;
    loop {
        while workers.len() < most
            && let Some(name) = to_do.next()
        {
            let forked = Fork::new("work on a container").start(|| match work(&name) {
                Ok(()) => DONE,
                Err(error) => report(&error, Some(&name)),
            });
            match forked {
                Ok(process) => workers.push(Worker { name, process }),
                Err(error) => worst = worst.max(report(&CliError::Fork(error), Some(&name))),
            }
        }
        if workers.is_empty() {
            return worst;
        }
        for worker in take_ended(&mut workers) {
            worst = worst.max(end_of(&worker));
        }
    }
}

/// Waits until one has ended at least.
fn take_ended(workers: &mut Vec<Worker>) -> Vec<Worker> {
    let mut fds: Vec<PollFd<'_>> =
        workers.iter().map(|w| PollFd::new(&w.process.pidfd, PollFlags::IN)).collect();
    // Should this fail, the first is waited for as if it had ended.
    let polled = rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, None));
    let ended: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    drop(fds);
    let mut flags = ended.into_iter();
    if polled.is_err() {
        return vec![workers.remove(0)];
    }
    workers.extract_if(.., |_| flags.next().unwrap_or(false)).collect()
}

/// The worker has reported its own failure, but for a death that it did not see coming.
fn end_of(worker: &Worker) -> i32 {
    match worker.process.wait() {
        Ok(Exit::Code(code)) => code,
        Ok(Exit::Signal(signal)) => report(&CliError::Killed(signal), Some(&worker.name)),
        Err(error) => report(&CliError::Fork(error), Some(&worker.name)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn names(texts: &[&str]) -> Vec<Name> {
        texts.iter().map(|text| Name::new(text).unwrap()).collect()
    }

    /// What forks needs a process of one thread, which the others of this test run are not.
    #[test]
    fn workers() {
        let alone = format!("{}::alone::", module_path!().trim_start_matches("nagaya::"));
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--test-threads=1", &alone])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("3 passed"), "{said}");
    }

    mod alone {
        use super::*;

        #[test]
        #[ignore = "run by `workers`"]
        fn all_are_done_and_the_worst_code_wins() {
            let dir = tempfile::tempdir().unwrap();
            let all = names(&["a", "b", "c", "d", "e"]);
            let code = share_out(all, 2, |name| {
                std::fs::write(dir.path().join(name.as_str()), "").map_err(CliError::Output)?;
                match name.as_str() {
                    "b" => Err(CliError::Ended(3)),
                    "c" => Err(CliError::Ended(1)),
                    _ => Ok(()),
                }
            });
            assert_eq!(code, 3);
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 5);
        }

        #[test]
        #[ignore = "run by `workers`"]
        fn a_worker_that_is_killed_is_a_failure() {
            let all = names(&["a", "b"]);
            let code = share_out(all, 2, |name| {
                if name.as_str() == "b" {
                    let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
                }
                Ok(())
            });
            assert_eq!(code, 128 + 9);
        }

        #[test]
        #[ignore = "run by `workers`"]
        fn no_more_than_allowed_at_a_time() {
            let all = names(&["a", "b", "c", "d"]);
            let start = Instant::now();
            let nap = Duration::from_millis(60);
            share_out(all, 2, |_| {
                std::thread::sleep(nap);
                Ok(())
            });
            let took = start.elapsed();
            assert!(took >= 2 * nap, "{took:?}");
        }
    }
}
