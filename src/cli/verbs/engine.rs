use crate::cli::error::CliResult;
use crate::engine::{self, Mode};

/// Perform one request of a program
///
/// It reads one line of JSON from standard input, after it has given up root, and writes lines of JSON to
/// standard output: events while it works, then a response or an error. The exit code is the error's.
/// docs/engine.md lists the requests.
///
/// With --host, the request is about the host: set-up, grants, repair, what the host lacks. As root, that is
/// read and done as root, so it must not be somebody else's.
///
/// Examples:
///   echo '{"request":"list_containers"}' | nagaya engine
///   echo '{"request":"start_container","name":"web01"}' | nagaya --owner ann engine
///   echo '{"request":"check_host"}' | nagaya engine --host
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct EngineArgs {
    /// Set up an owner who has nothing yet, for requests that make something
    #[arg(long)]
    make: bool,
    /// Perform a request about the host
    #[arg(long, conflicts_with = "make")]
    host: bool,
}

pub fn run(args: &EngineArgs) -> CliResult<i32> {
    let mode = if args.host { Mode::Host } else { Mode::Owner { make: args.make } };
    Ok(engine::run(&crate::cli::place()?, mode))
}
