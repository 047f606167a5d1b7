//! Root's commands for the containers of everybody: one process for each owner, for whoever opens
//! an instance becomes its owner for good.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use super::report::{CliError, CliResult, DONE, report};
use crate::app::owner;
use crate::model::instance::Instance;
use crate::sys::{Context, SysResult};

/// Does `verb` for every owner, all at once. Each process reports its own failures; the worst
/// decides the exit code.
pub fn each(verb: &str) -> CliResult<i32> {
    let owners = owner::everybody(&super::instance()?)?;
    let started: Vec<SysResult<Child>> = owners.iter().map(|owner| start(owner, verb)).collect();
    let mut worst = DONE;
    for child in started {
        let ended = child.and_then(|mut child| child.wait().cannot(|| "wait for a process"));
        worst = worst.max(match ended {
            Ok(status) => status.code().unwrap_or(1),
            // The others go on all the same, and are waited for.
            Err(error) => report(&CliError::Fork(error), None),
        });
    }
    Ok(worst)
}

fn start(owner: &Instance, verb: &str) -> SysResult<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("nagaya");
    if owner.person().is_some() {
        command.args(["--owner", owner.user()]);
    }
    command.args([verb, "--own"]).spawn().cannot(|| format!("start 'nagaya {verb}'"))
}

/// Whether this process is to work for all owners: it is root's, and was not told otherwise.
pub fn for_all(own: bool) -> bool {
    !own && rustix::process::geteuid().is_root()
}
