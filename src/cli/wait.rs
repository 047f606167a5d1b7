//! Waiting for a container that was started to be of use.

use std::time::Duration;

use super::report::CliResult;
use crate::app::App;
use crate::app::lifecycle::{self, WaitFor};
use crate::model::name::Name;

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Condition {
    /// The guest's init says that it is up.
    Running,
    /// The guest can be reached over its network.
    Network,
}

#[derive(clap::Args)]
pub struct WaitArgs {
    /// Wait until the guest has booted (running) or answers on its address (network)
    #[arg(
        long,
        value_name = "CONDITION",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "running"
    )]
    wait: Option<Condition>,
    /// Timeout for --wait in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, requires = "wait")]
    timeout: u32,
}

impl WaitArgs {
    /// Waits as asked, if asked.
    pub fn wait(&self, app: &mut App, name: &Name) -> CliResult<()> {
        let what = match self.wait {
            None => return Ok(()),
            Some(Condition::Running) => WaitFor::Running,
            Some(Condition::Network) => WaitFor::Network,
        };
        Ok(lifecycle::wait(app, name, what, Duration::from_secs(self.timeout.into()))?)
    }
}
