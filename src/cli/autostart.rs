use std::io::Read;

use super::report::{CliError, CliResult, DONE, report};
use super::{many, owners};
use crate::app::autostart::{self, Candidate};
use crate::model::name::Name;
use crate::sys::clone::{self, CloneSpec, Exit};
use crate::sys::{Context, SysError};

/// Start the containers that start with the host
///
/// nagaya.service runs it when the host boots. It starts what was running when the host went down,
/// and what is set to start always: higher 'boot.autostart.priority' first, several at a time. A
/// guest that had shut itself down stays down. One that fails does not hold up the others. As root
/// it does so for every owner.
///
/// Exit codes: 0 when all are started, 1 or more when one has failed.
///
/// Examples:
///   nagaya autostart
///   systemctl start nagaya
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct AutostartArgs {
    /// For one owner only
    #[arg(long, hide = true)]
    own: bool,
}

pub fn run(args: AutostartArgs) -> CliResult<i32> {
    if owners::for_all(args.own) {
        return owners::each("autostart");
    }
    let candidates = match candidates()? {
        Ok(candidates) => candidates,
        Err(code) => return Ok(code),
    };
    let most = std::thread::available_parallelism().map_or(1, |n| n.get()).max(2);
    let mut worst = DONE;
    for group in candidates.chunk_by(|a, b| a.priority == b.priority) {
        let names = group.iter().map(|c| c.name.clone()).collect();
        worst = worst.max(many::share_out(names, most, |name| start(group, name)));
    }
    Ok(worst)
}

/// Those of lower priority wait for the end of this process, and so for the delay.
fn start(group: &[Candidate], name: &Name) -> CliResult<()> {
    autostart::start(&mut super::open()?, name)?;
    if let Some(candidate) = group.iter().find(|c| c.name == *name) {
        std::thread::sleep(candidate.delay);
    }
    Ok(())
}

/// Looked up in a child: opening the instance gives up root, which each start needs anew. The exit
/// code of a child that has failed, and said so.
fn candidates() -> CliResult<Result<Vec<Candidate>, i32>> {
    let (mut reader, writer) = std::io::pipe().cannot(|| "make a pipe").map_err(CliError::Fork)?;
    let child = clone::fork(&CloneSpec::default(), || {
        let found = super::open().and_then(|mut app| Ok(autostart::candidates(&mut app)?));
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
    let failed = |e: std::io::Error| CliError::Fork(SysError::new("list the containers to start", e));
    read.map_err(failed)?;
    serde_json::from_slice(&text).map(Ok).map_err(|e| failed(e.into()))
}
