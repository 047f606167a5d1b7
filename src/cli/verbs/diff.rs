use crate::api::snapshots::{Diff, Difference, Kind};
use crate::cli::error::{CliResult, DONE};
use crate::cli::output::text;
use crate::cli::output::{Format, FormatArgs, print, print_json};
use crate::cli::request::ask;
use crate::model::snapshot::{SnapshotName, Source};

/// List what differs in a container from its template
///
/// Or from one of its snapshots. A line begins with A for what was added, C for what was changed, D for
/// what was deleted. Below a directory that was added, all that is in it is listed too.
///
/// Examples:
///   nagaya diff web01
///   nagaya diff web01 --from before-upgrade
///   nagaya diff web01/before-upgrade --format json
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct DiffArgs {
    /// The container, or one of its snapshots
    #[arg(value_name = "NAME[/SNAPSHOT]", value_parser = Source::new)]
    source: Source,
    /// Compare with this snapshot of the container [default: with its template]
    #[arg(long, value_name = "SNAPSHOT", value_parser = SnapshotName::new)]
    from: Option<SnapshotName>,
    #[command(flatten)]
    shown: FormatArgs,
}

pub fn run(args: DiffArgs) -> CliResult<i32> {
    let found = ask(&mut crate::cli::open()?, Diff { source: args.source, from: args.from })?;
    match args.shown.format {
        Format::Json => print_json(&found)?,
        Format::Table => print(&found.iter().map(shown).collect::<String>())?,
    }
    Ok(DONE)
}

fn shown(difference: &Difference) -> String {
    let letter = match difference.kind {
        Kind::Added => 'A',
        Kind::Changed => 'C',
        Kind::Deleted => 'D',
    };
    format!("{letter} {}\n", text::line(&difference.path))
}
