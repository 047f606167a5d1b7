use crate::api::containers::Pause;
use crate::cli::arguments::names::Containers;
use crate::cli::error::CliResult;
use crate::cli::request::ask;
use crate::cli::several::share;

/// Freeze containers
///
/// The containers' processes stay in memory and get no CPU time until 'nagaya resume'.
///
/// Examples:
///   nagaya pause web01
///   nagaya pause web01 web02
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct PauseArgs {
    #[command(flatten)]
    which: Containers,
    /// Leave containers alone that are stopped, or frozen already
    #[arg(long)]
    if_running: bool,
}

pub fn run(args: PauseArgs) -> CliResult<i32> {
    share::each(&args.which, |app, name| {
        ask(app, Pause { name: name.clone(), if_running: args.if_running }).map(drop)
    })
}
