use super::many;
use super::names::Containers;
use super::report::CliResult;
use crate::app::{AppError, delete};

/// Delete containers and all that is in them
///
/// A container that runs is refused, unless --force ends it first. The template stays.
///
/// Examples:
///   nagaya delete web01
///   nagaya delete web01 web02 --force
///   nagaya delete 'test-*' --force
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct DeleteArgs {
    #[command(flatten)]
    which: Containers,
    /// Kill running containers first
    #[arg(short, long)]
    force: bool,
    /// Do not complain of containers that are not there
    #[arg(long)]
    if_exists: bool,
}

pub fn run(args: DeleteArgs) -> CliResult<i32> {
    many::each(&args.which, |app, name| match delete::delete(app, name, args.force) {
        Err(AppError::NoContainer { .. }) if args.if_exists => Ok(()),
        other => Ok(other?),
    })
}
