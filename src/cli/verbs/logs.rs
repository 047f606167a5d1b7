use crate::api::consoles::ShowLog;
use crate::cli::error::{CliResult, DONE};
use crate::cli::output::progress::Shown;
use crate::cli::request::{STDOUT, ask_with};

/// Show what a container's console has printed
///
/// Works for stopped containers too. Control sequences are left out, because a guest can print any.
///
/// Examples:
///   nagaya logs web01 -n 50
///   nagaya logs web01 -f
///   nagaya logs web01 --raw > console.bin
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct LogsArgs {
    /// The container
    name: String,
    /// Follow what comes, through starts and stops, until Ctrl-C or the container's deletion
    #[arg(short, long)]
    follow: bool,
    /// Only this number of last lines
    #[arg(short = 'n', long, value_name = "NUMBER")]
    lines: Option<usize>,
    /// Print the bytes as the guest printed them
    #[arg(long)]
    raw: bool,
}

pub fn run(args: LogsArgs) -> CliResult<i32> {
    let name = crate::cli::name(&args.name)?;
    let request = ShowLog { name, output: STDOUT, lines: args.lines, follow: args.follow, plain: !args.raw };
    ask_with(crate::cli::open()?, request, &mut Shown::default())?;
    Ok(DONE)
}
