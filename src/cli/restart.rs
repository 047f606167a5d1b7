use super::many;
use super::names::Containers;
use super::report::CliResult;
use super::stop::StopHow;
use super::wait::ConditionArg;
use crate::app::lifecycle;

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
    /// Leave containers alone that do not run
    #[arg(long)]
    if_running: bool,
}

pub fn run(args: RestartArgs) -> CliResult<i32> {
    many::each(&args.which, |app, name| {
        let done = match args.if_running {
            true => lifecycle::restart_running(app, name, args.how.options())?,
            false => lifecycle::restart(app, name, args.how.options()).map(|()| true)?,
        };
        if done { args.condition.wait(app, name, args.wait_timeout) } else { Ok(()) }
    })
}
