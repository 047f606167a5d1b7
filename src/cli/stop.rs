use std::time::Duration;

use super::many;
use super::report::{CliResult, note};
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
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct StopArgs {
    /// The containers
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    #[command(flatten)]
    how: StopHow,
}

/// How a running guest is ended.
#[derive(clap::Args)]
pub struct StopHow {
    /// How long a guest may take to shut down
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u32,
    /// Do not ask the guest
    #[arg(short, long)]
    force: bool,
}

impl StopHow {
    pub fn options(&self) -> StopOptions {
        StopOptions { timeout: Duration::from_secs(self.timeout.into()), force: self.force, tell: note }
    }
}

pub fn run(args: StopArgs) -> CliResult<i32> {
    many::each(&args.names, |app, name| Ok(lifecycle::stop(app, name, args.how.options())?))
}
