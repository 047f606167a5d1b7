use super::many;
use super::report::CliResult;
use crate::app::lifecycle;

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
    /// The containers
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

pub fn run(args: PauseArgs) -> CliResult<i32> {
    many::each(&args.names, |app, name| Ok(lifecycle::pause(app, name)?))
}
