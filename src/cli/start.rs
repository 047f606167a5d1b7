use super::many;
use super::names::Containers;
use super::report::CliResult;
use super::wait::WaitArgs;
use crate::app::{AppError, lifecycle};

/// Start containers
///
/// Several are started at once; one that fails does not hold up the others.
///
/// Examples:
///   nagaya start web01
///   nagaya start web01 web02 db01 --wait
///   nagaya start web01 --wait=network --timeout 30
///   nagaya start --all --if-stopped
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct StartArgs {
    #[command(flatten)]
    which: Containers,
    #[command(flatten)]
    wait: WaitArgs,
    /// Leave containers alone that run already
    #[arg(long)]
    if_stopped: bool,
}

pub fn run(args: StartArgs) -> CliResult<i32> {
    many::each(&args.which, |app, name| {
        match lifecycle::start(app, name) {
            Err(AppError::AlreadyRunning(_) | AppError::Frozen(_)) if args.if_stopped => {}
            other => other?,
        }
        args.wait.wait(app, name)
    })
}
