use super::stop::StopHow;
use crate::api::snapshots::Rebuild;
use crate::cli::error::{CliResult, DONE};
use crate::cli::output::{note, print};
use crate::cli::request::ask;

/// Give a container a fresh root filesystem
///
/// It keeps its name, its addresses, its keys and its rules. Its old root is kept as a snapshot, whose
/// name is printed.
///
/// Examples:
///   nagaya rebuild web01
///   nagaya rebuild web01 debian13 --stop
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct RebuildArgs {
    /// The container
    name: String,
    /// The template [default: the one that it was launched from]
    template: Option<String>,
    /// If it runs, shut it down for that, and start it again afterwards
    #[arg(long)]
    stop: bool,
    #[command(flatten)]
    how: StopHow,
}

pub fn run(args: RebuildArgs) -> CliResult<i32> {
    let stop = (args.stop || args.how.is_forced()).then(|| args.how.ending());
    let container = crate::cli::name(&args.name)?;
    let request = Rebuild { container, template: args.template, stop };
    let kept = ask(&mut crate::cli::open()?, request)?;
    print(&format!("{kept}\n"))?;
    note(&format!("the old root is snapshot {kept}: nagaya snapshot restore {} {kept}", args.name));
    Ok(DONE)
}
