use crate::api::containers::{Ending, Stop};
use crate::cli::arguments::names::Containers;
use crate::cli::error::CliResult;
use crate::cli::request::ask;
use crate::cli::several::share;

/// Shut containers down
///
/// Asks the guest's init to shut down. If the guest takes too long, it keeps running and the command
/// fails. With --force every process of the guest is ended at once.
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
    /// Leave stopped containers alone
    #[arg(long)]
    if_running: bool,
}

/// How a running guest is ended.
#[derive(clap::Args)]
pub struct StopHow {
    /// How long a guest may take to shut down
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u32,
    /// End every process of the guest at once instead of shutting it down cleanly
    #[arg(short, long)]
    force: bool,
}

impl StopHow {
    /// Whether processes are ended at once.
    pub fn is_forced(&self) -> bool {
        self.force
    }

    pub fn ending(&self) -> Ending {
        Ending { timeout: self.timeout, force: self.force }
    }
}

pub fn run(args: StopArgs) -> CliResult<i32> {
    share::each(&args.which, |app, name| {
        let (ending, if_running) = (args.how.ending(), args.if_running);
        ask(app, Stop { name: name.clone(), ending, if_running }).map(drop)
    })
}
