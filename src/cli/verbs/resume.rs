use crate::api::containers::Resume;
use crate::cli::arguments::names::Containers;
use crate::cli::error::CliResult;
use crate::cli::request::ask;
use crate::cli::several::share;

/// Unfreeze containers
///
/// Examples:
///   nagaya resume web01
///   nagaya resume web01 web02
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ResumeArgs {
    #[command(flatten)]
    which: Containers,
    /// Leave containers alone that are not frozen
    #[arg(long)]
    if_frozen: bool,
}

pub fn run(args: ResumeArgs) -> CliResult<i32> {
    share::each(&args.which, |app, name| {
        ask(app, Resume { name: name.clone(), if_paused: args.if_frozen }).map(drop)
    })
}
