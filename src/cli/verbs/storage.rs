use crate::api::snapshots::Optimize;
use crate::cli::arguments::names::Containers;
use crate::cli::error::CliResult;
use crate::cli::output::note;
use crate::cli::request::ask;
use crate::cli::several::share;

/// Look after what containers are stored in
///
/// Examples:
///   nagaya storage optimize web01
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct StorageArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    Optimize(OptimizeArgs),
}

/// Merge the layers that stopped containers stand on
///
/// Each snapshot and each copy of a stopped container leaves it with a layer more. Merged, they are one
/// directory that the container has of its own: it takes the disk of all that they hold, files are found
/// as fast as in a new container, and directories can be renamed in one step. Snapshots and copies that
/// stand on the same layers keep them.
///
/// Examples:
///   nagaya storage optimize web01
///   nagaya storage optimize --all
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct OptimizeArgs {
    #[command(flatten)]
    which: Containers,
}

pub fn run(args: StorageArgs) -> CliResult<i32> {
    let Verb::Optimize(args) = args.verb;
    share::each(&args.which, |app, name| {
        let count = ask(app, Optimize { container: name.clone() })?;
        note(&match count {
            0 => format!("{name} stands on its template alone"),
            1 => format!("{name}: 1 layer was merged"),
            count => format!("{name}: {count} layers were merged"),
        });
        Ok(())
    })
}
