use super::many;
use super::report::CliResult;
use crate::app::delete;

/// Delete containers and all that is in them
///
/// A container that runs is refused, unless --force ends it first. The template stays.
///
/// Examples:
///   nagaya delete web01
///   nagaya delete web01 web02 --force
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct DeleteArgs {
    /// The containers
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Kill running containers first
    #[arg(short, long)]
    force: bool,
}

pub fn run(args: DeleteArgs) -> CliResult<i32> {
    many::each(&args.names, |app, name| Ok(delete::delete(app, name, args.force)?))
}
