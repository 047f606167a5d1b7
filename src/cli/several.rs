//! One program in several containers at once.

use std::io::Read;

use super::report::{CliError, CliResult, report};
use super::{many, session};
use crate::app::exec;
use crate::model::name::Name;
use crate::runtime::byte_string::ByteString;
use crate::runtime::protocol::ExecRequest;
use crate::sys::clone::{self, CloneSpec, Exit};
use crate::sys::{Context, SysError};

/// Programs at once, at most; each costs this host a process.
const AT_ONCE: usize = 32;

/// Runs `request` in all containers that `given` stands for. The highest code is the result.
pub fn run(given: &str, request: &ExecRequest) -> CliResult<i32> {
    let names = match names(given)? {
        Ok(names) => names,
        Err(code) => return Ok(code),
    };
    let program = request.argv.first().map(ByteString::to_string);
    Ok(many::share_out(names, AT_ONCE, |name| {
        let app = super::open()?;
        // Who ends this command ends the programs too.
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
        let event = session::with_streams(app, name, request.clone(), Some(name))?;
        match session::code(event, program.as_deref(), name)? {
            0 => Ok(()),
            code => Err(CliError::Ended(code)),
        }
    }))
}

/// Looked up in a child: opening the instance gives up root, which each program needs anew. The exit
/// code of a child that has failed, and said so.
fn names(given: &str) -> CliResult<Result<Vec<Name>, i32>> {
    let (mut reader, writer) = std::io::pipe().cannot(|| "make a pipe").map_err(CliError::Fork)?;
    let child = clone::fork(&CloneSpec::default(), || {
        let found = super::open().and_then(|mut app| Ok(exec::several(&mut app, given)?));
        match found {
            Ok(found) => i32::from(serde_json::to_writer(&writer, &found).is_err()),
            Err(error) => report(&error, None),
        }
    })
    .map_err(CliError::Fork)?;
    drop(writer);
    let mut text = Vec::new();
    let read = reader.read_to_end(&mut text);
    match child.wait().map_err(CliError::Fork)? {
        Exit::Code(0) => {}
        exit => return Ok(Err(exit.code())),
    }
    let failed = |e: std::io::Error| CliError::Fork(SysError::new("look the containers up", e));
    read.map_err(failed)?;
    serde_json::from_slice(&text).map(Ok).map_err(|e| failed(e.into()))
}
