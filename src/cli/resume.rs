use super::many;
use super::names::Containers;
use super::report::CliResult;
use crate::app::{AppError, lifecycle};

/// Unfreeze containers
///
/// Examples:
///   nagaya resume web01
///   nagaya resume web01 web02
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ResumeArgs {
    #[command(flatten)]
    which: Containers,
    /// Leave containers alone that are not frozen
    #[arg(long)]
    if_frozen: bool,
}

pub fn run(args: ResumeArgs) -> CliResult<i32> {
    many::each(&args.which, |app, name| match lifecycle::resume(app, name) {
        Err(AppError::NotRunning(_) | AppError::NotFrozen(_)) if args.if_frozen => Ok(()),
        other => Ok(other?),
    })
}
