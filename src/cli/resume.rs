use super::many;
use super::report::CliResult;
use crate::app::lifecycle;

/// Unfreeze containers
///
/// Examples:
///   nagaya resume web01
///   nagaya resume web01 web02
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ResumeArgs {
    /// The containers
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

pub fn run(args: ResumeArgs) -> CliResult<i32> {
    many::each(&args.names, |app, name| Ok(lifecycle::resume(app, name)?))
}
