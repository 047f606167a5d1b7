//! Waiting until a container that was started is up.

use crate::api::containers;
use crate::app::App;
use crate::cli::error::CliResult;
use crate::cli::report::misused;
use crate::cli::request::ask;
use crate::model::name::Name;

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Condition {
    /// The guest's init says that it is up.
    Running,
    /// The same, and the guest can be reached over its network.
    Network,
}

#[derive(clap::Args)]
pub struct ConditionArg {
    /// Wait until the guest has booted (running) or answers on its address (network)
    #[arg(
        long,
        value_name = "CONDITION",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "running"
    )]
    wait: Option<Condition>,
}

impl ConditionArg {
    /// Waits as asked, if asked, at most for so many seconds.
    pub fn wait(&self, app: &mut App, name: &Name, seconds: u32) -> CliResult<()> {
        let condition = match self.wait {
            None => return Ok(()),
            Some(Condition::Running) => containers::Condition::Running,
            Some(Condition::Network) => containers::Condition::Network,
        };
        ask(app, containers::WaitFor { name: name.clone(), condition, timeout: seconds })
    }
}

#[derive(clap::Args)]
pub struct WaitArgs {
    #[command(flatten)]
    condition: ConditionArg,
    /// Timeout for --wait in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, requires = "wait")]
    timeout: u32,
}

impl WaitArgs {
    /// Waits as asked, if asked.
    pub fn wait(&self, app: &mut App, name: &Name) -> CliResult<()> {
        self.condition.wait(app, name, self.timeout)
    }
}

/// `--wait network`, without '=': the parser would take the condition for a container's name, make that
/// container, and wait for something else. Returns the exit code if the command line has it.
pub fn misplaced_condition(words: impl Iterator<Item = std::ffi::OsString>) -> Option<i32> {
    let words: Vec<_> = words.take_while(|word| word != "--").collect();
    let misplaced = words
        .windows(2)
        .find(|pair| pair[0] == "--wait" && (pair[1] == "running" || pair[1] == "network"))?;
    let condition = misplaced[1].to_string_lossy();
    let text = format!("'--wait {condition}' reads as a container that is called '{condition}'");
    let hint = format!("write --wait={condition}; for a container of that name, put it before --wait");
    Some(misused(&text, &hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_after_a_space_is_refused() {
        let of = |words: &[&str]| misplaced_condition(words.iter().map(|word| (*word).into()));
        assert_eq!(of(&["nagaya", "launch", "debian12", "--wait", "network"]), Some(2));
        assert_eq!(of(&["nagaya", "start", "web01", "--wait", "running"]), Some(2));
        assert_eq!(of(&["nagaya", "start", "network", "--wait"]), None);
        assert_eq!(of(&["nagaya", "exec", "web01", "--", "x", "--wait", "network"]), None);
    }
}
