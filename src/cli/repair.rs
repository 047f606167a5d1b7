use super::output::print_lines;
use super::report::{CliResult, DONE};
use crate::app::repair;

/// Rebuild the database from what lies beside the containers' data
///
/// For a database that is lost or damaged: each container's manifest says all that is needed.
/// Prints a line for each container.
///
/// Examples:
///   nagaya repair
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct RepairArgs {}

pub fn run(_: RepairArgs) -> CliResult<i32> {
    print_lines(&repair::repair(&super::instance()?)?)?;
    Ok(DONE)
}
