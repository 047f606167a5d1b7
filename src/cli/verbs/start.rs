use crate::api::containers::Start;
use crate::cli::arguments::names::Containers;
use crate::cli::arguments::wait::WaitArgs;
use crate::cli::error::CliResult;
use crate::cli::request::ask;
use crate::cli::several::share;

/// Start containers
///
/// Several containers start at the same time; one that fails does not hold up the others.
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
    /// Leave running containers alone
    #[arg(long)]
    if_stopped: bool,
}

pub fn run(args: StartArgs) -> CliResult<i32> {
    share::each(&args.which, |app, name| {
        ask(app, Start { name: name.clone(), if_stopped: args.if_stopped, with_host: false })?;
        args.wait.wait(app, name)
    })
}
