//! Root's commands for everybody's containers: one process for each owner, because a process that opens an
//! instance becomes its owner for good.

use crate::api::owners::List;
use crate::cli::error::{CliError, CliResult, DONE};
use crate::cli::report::report;
use crate::cli::request::ask_host;
use crate::sys::SysResult;
use crate::sys::process::child::Child;
use crate::sys::process::fork::Fork;
use crate::sys::process::program::Program;

/// Runs `verb` for every owner at the same time. Each process reports its own failures; the highest exit
/// code is the command's.
pub fn each(verb: &[&str]) -> CliResult<i32> {
    let owners = ask_host(List {})?;
    let started: Vec<SysResult<Child>> = owners.iter().map(|owner| start(owner, verb)).collect();
    let mut worst = DONE;
    for child in started {
        let ended = child.and_then(|child| child.wait());
        worst = worst.max(match ended {
            Ok(exit) => exit.code(),
            // The others go on all the same, and are waited for.
            Err(error) => report(&CliError::Fork(error), None),
        });
    }
    Ok(worst)
}

fn start(owner: &str, verb: &[&str]) -> SysResult<Child> {
    let arguments = [&["--owner", owner], verb, &["--own"]].concat();
    let exe = Program::own_file()?;
    Fork::new("start nagaya for another owner").exec(&Program::itself(&exe, arguments)?)
}

/// Whether this process is to work for all owners: it is root's, and was not told whose containers are meant.
pub fn for_all(own: bool) -> bool {
    !own && crate::cli::wish().owner.is_none() && rustix::process::geteuid().is_root()
}
