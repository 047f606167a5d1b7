//! One program in several containers at once.

use super::report::{CliError, CliResult};
use super::{asked, many, session};
use crate::app::exec;
use crate::model::name::Name;
use crate::runtime::byte_string::ByteString;
use crate::runtime::protocol::ExecRequest;

/// Programs at once, at most; each costs this host a process.
const AT_ONCE: usize = 32;

/// Runs `request` in all containers that `given` stands for. The highest code is the result.
pub fn run(given: &str, request: &ExecRequest) -> CliResult<i32> {
    let names = names(given)?;
    let program = request.argv.first().map(ByteString::to_string);
    Ok(many::share_out(names, AT_ONCE, |name| {
        let app = super::open()?;
        // Who ends this command ends the programs too.
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
        let event = match request.detach {
            true => session::detached(app, name, request.clone())?,
            false => session::with_streams(app, name, request.clone(), Some(name))?,
        };
        match session::code(event, program.as_deref(), name)? {
            0 => Ok(()),
            code => Err(CliError::Ended(code)),
        }
    }))
}

/// Looked up in a child: opening the instance gives up root, which each program needs anew.
fn names(given: &str) -> CliResult<Vec<Name>> {
    asked::in_child("look the containers up", || Ok(exec::several(&mut super::open()?, given)?))
}
