use super::many;
use super::names::Containers;
use super::report::CliResult;
use crate::app::{AppError, lifecycle};

/// Freeze containers
///
/// Their processes stay in memory and get no CPU time until 'nagaya resume'.
///
/// Examples:
///   nagaya pause web01
///   nagaya pause web01 web02
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct PauseArgs {
    #[command(flatten)]
    which: Containers,
    /// Leave containers alone that do not run, or are frozen already
    #[arg(long)]
    if_running: bool,
}

pub fn run(args: PauseArgs) -> CliResult<i32> {
    many::each(&args.which, |app, name| match lifecycle::pause(app, name) {
        Err(AppError::NotRunning(_) | AppError::Frozen(_)) if args.if_running => Ok(()),
        other => Ok(other?),
    })
}
