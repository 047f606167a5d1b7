use crate::api::setup::RepairDatabase;
use crate::cli::error::{CliResult, DONE};
use crate::cli::output::print_lines;
use crate::cli::request::ask_host;

/// Rebuild the database from the files beside the containers' data
///
/// Use it if the database is lost or damaged: each container's manifest has all that is needed.
/// Prints a line for each container.
///
/// Examples:
///   nagaya repair
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct RepairArgs {}

pub fn run(_: RepairArgs) -> CliResult<i32> {
    print_lines(&ask_host(RepairDatabase {})?)?;
    Ok(DONE)
}
