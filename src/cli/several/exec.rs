//! One program in several containers at once.

use super::{child, share};
use crate::api::programs::Run;
use crate::app::containers::exec;
use crate::cli::error::{CliError, CliResult};
use crate::cli::program;
use crate::model::name::Name;

/// Programs at once, at most; each costs this host a process.
const AT_ONCE: usize = 32;

/// Runs a program in all containers that `given` stands for; `request` is what is asked for in each. The highest
/// code is the result.
pub fn run(given: &str, request: impl Fn(Name) -> Run) -> CliResult<i32> {
    let names = names(given)?;
    Ok(share::share_out(names, AT_ONCE, |name| {
        let lazy = crate::cli::open_lazily()?;
        // If this command is killed, the programs end too. Becoming the owner would take that back.
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
        match program::run(lazy, Run { labelled: true, ..request(name.clone()) })? {
            0 => Ok(()),
            code => Err(CliError::Ended(code)),
        }
    }))
}

/// Looked up in a child: opening the instance gives up root, which each program needs anew.
fn names(given: &str) -> CliResult<Vec<Name>> {
    child::in_child("look the containers up", || Ok(exec::several(&mut crate::cli::open()?, given)?))
}
