use std::time::Duration;

use super::many;
use super::names::Containers;
use super::report::CliResult;
use crate::app::AppError;
use crate::app::lifecycle::{self, StopOptions};

/// Shut containers down
///
/// The guest's init is asked to shut down; a guest that has not done so in time goes on running,
/// and the command fails. With --force every process of the guest is ended at once.
///
/// Examples:
///   nagaya stop web01
///   nagaya stop web01 web02 --timeout 300
///   nagaya stop web01 --force
///   nagaya stop --all --if-running
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct StopArgs {
    #[command(flatten)]
    which: Containers,
    #[command(flatten)]
    how: StopHow,
    /// Leave containers alone that do not run
    #[arg(long)]
    if_running: bool,
}

/// How a running guest is ended.
#[derive(clap::Args)]
pub struct StopHow {
    /// How long a guest may take to shut down
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u32,
    /// Kill it at once instead of shutting it down cleanly
    #[arg(short, long)]
    force: bool,
}

impl StopHow {
    pub fn options(&self) -> StopOptions {
        StopOptions { timeout: Duration::from_secs(self.timeout.into()), force: self.force }
    }
}

pub fn run(args: StopArgs) -> CliResult<i32> {
    many::each(&args.which, |app, name| match lifecycle::stop(app, name, args.how.options()) {
        Err(AppError::NotRunning(_)) if args.if_running => Ok(()),
        other => Ok(other?),
    })
}
