use super::stop::StopHow;
use crate::api::containers::Restart;
use crate::cli::arguments::names::Containers;
use crate::cli::arguments::wait::ConditionArg;
use crate::cli::error::CliResult;
use crate::cli::request::ask;
use crate::cli::several::share;

/// Shut containers down and start them again
///
/// Examples:
///   nagaya restart web01
///   nagaya restart web01 web02 --force
///   nagaya restart 'web*' --wait=network --wait-timeout 120
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct RestartArgs {
    #[command(flatten)]
    which: Containers,
    #[command(flatten)]
    how: StopHow,
    #[command(flatten)]
    condition: ConditionArg,
    /// Timeout for --wait in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, requires = "wait")]
    wait_timeout: u32,
    /// Leave stopped containers alone
    #[arg(long)]
    if_running: bool,
}

pub fn run(args: RestartArgs) -> CliResult<i32> {
    share::each(&args.which, |app, name| {
        let (ending, if_running) = (args.how.ending(), args.if_running);
        let done = ask(app, Restart { name: name.clone(), ending, if_running })?;
        if done { args.condition.wait(app, name, args.wait_timeout) } else { Ok(()) }
    })
}
