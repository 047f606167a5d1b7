use super::many;
use super::report::CliResult;
use super::wait::WaitArgs;
use crate::app::lifecycle;

/// Start containers
///
/// Several are started at once; one that fails does not hold up the others.
///
/// Examples:
///   nagaya start web01
///   nagaya start web01 web02 db01 --wait
///   nagaya start web01 --wait=network --timeout 30
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct StartArgs {
    /// The containers
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    #[command(flatten)]
    wait: WaitArgs,
}

pub fn run(args: StartArgs) -> CliResult<i32> {
    many::each(&args.names, |app, name| {
        lifecycle::start(app, name)?;
        args.wait.wait(app, name)
    })
}
