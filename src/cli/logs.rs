use super::output::print_bytes;
use super::report::{CliResult, DONE};
use super::text::Plain;
use crate::app::console;

/// Show what a container's console has printed
///
/// Also of a container that is stopped. Control sequences are left out, for a guest can print any.
///
/// Examples:
///   nagaya logs web01 | tail -n 50
///   nagaya logs web01 --raw > console.bin
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct LogsArgs {
    /// The container
    name: String,
    /// The bytes as the guest printed them
    #[arg(long)]
    raw: bool,
}

pub fn run(args: LogsArgs) -> CliResult<i32> {
    let name = super::name(&args.name)?;
    let history = console::history(&mut super::open()?, &name)?;
    if args.raw {
        print_bytes(&history)?;
    } else {
        print_bytes(Plain::default().push(&history).as_bytes())?;
    }
    Ok(DONE)
}
