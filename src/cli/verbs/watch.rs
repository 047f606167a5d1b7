use crate::app::AppError;
use crate::app::services::watch;
use crate::cli::error::{CliResult, DONE};
use crate::sys::systemd::notify::Notifier;

/// Repair containers' networks when other programs change firewall or links
///
/// nagaya-watch.service runs this. When a table or a link of nagaya's was changed, or another firewall
/// was loaded, it runs 'nagaya network repair' for every owner within a second.
///
/// Examples:
///   nagaya watch
///   systemctl status nagaya-watch
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct WatchArgs {}

pub fn run(_: &WatchArgs) -> CliResult<i32> {
    let notifier = Notifier::from_environment().map_err(AppError::from)?;
    watch::run(&crate::cli::base_instance()?, || notifier.tell("READY=1"))?;
    Ok(DONE)
}
