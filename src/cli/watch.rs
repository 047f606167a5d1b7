use super::report::{CliResult, DONE};
use crate::app::{AppError, watch};
use crate::sys::notify::Notifier;

/// Repair containers' networks when somebody else changes the host's firewall or links
///
/// nagaya-watch.service runs it. Within a second after a table or a link of nagaya's was changed, or another
/// firewall was loaded, it runs 'nagaya network repair' for every owner.
///
/// Examples:
///   nagaya watch
///   systemctl status nagaya-watch
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct WatchArgs {}

pub fn run(_: &WatchArgs) -> CliResult<i32> {
    let notifier = Notifier::from_environment().map_err(AppError::from)?;
    watch::run(&super::base_instance()?, || notifier.tell("READY=1"))?;
    Ok(DONE)
}
