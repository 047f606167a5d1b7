use crate::api::containers::Delete;
use crate::cli::arguments::names::Containers;
use crate::cli::error::CliResult;
use crate::cli::request::ask;
use crate::cli::several::share;

/// Delete containers and all that is in them
///
/// A running container is refused, unless you use --force, which ends it first. The template stays.
///
/// Examples:
///   nagaya delete web01
///   nagaya delete web01 web02 --force
///   nagaya delete 'test-*' --force
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct DeleteArgs {
    #[command(flatten)]
    which: Containers,
    /// Kill running containers first
    #[arg(short, long)]
    force: bool,
    /// Take no error from containers that do not exist
    #[arg(long)]
    if_exists: bool,
}

pub fn run(args: DeleteArgs) -> CliResult<i32> {
    share::each(&args.which, |app, name| {
        let (force, if_exists) = (args.force, args.if_exists);
        ask(app, Delete { name: name.clone(), force, if_exists }).map(drop)
    })
}
