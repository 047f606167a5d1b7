use super::report::CliResult;
use super::{exec, session, terminal};

/// Open a login shell in a container
///
/// Whichever shell the guest has for the user. Without a terminal on input and output, it reads
/// commands from its input.
///
/// Examples:
///   nagaya shell web01
///   nagaya shell web01 --user deploy
///   nagaya shell web01 < commands.sh
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ShellArgs {
    /// The container
    name: String,
    /// User: a name or number of the guest
    #[arg(long, default_value = "root")]
    user: String,
}

pub fn run(args: ShellArgs) -> CliResult<i32> {
    let name = super::name(&args.name)?;
    let request = exec::request(Vec::new(), Vec::new(), None, args.user, terminal::is_interactive());
    session::run(&name, request)
}
