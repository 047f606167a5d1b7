use super::many;
use super::report::CliResult;
use super::stop::StopHow;
use crate::app::lifecycle;

/// Shut containers down and start them again
///
/// Examples:
///   nagaya restart web01
///   nagaya restart web01 web02 --force
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct RestartArgs {
    /// The containers
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    #[command(flatten)]
    how: StopHow,
}

pub fn run(args: RestartArgs) -> CliResult<i32> {
    many::each(&args.names, |app, name| Ok(lifecycle::restart(app, name, args.how.options())?))
}
