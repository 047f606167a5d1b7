use super::report::{CliResult, DONE};
use crate::app::rename;

/// Give a container another name
///
/// Examples:
///   nagaya rename web01 web02
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct RenameArgs {
    /// The container
    #[arg(value_name = "OLD")]
    from: String,
    /// Its new name
    #[arg(value_name = "NEW")]
    to: String,
}

pub fn run(args: RenameArgs) -> CliResult<i32> {
    let (from, to) = (super::name(&args.from)?, super::name(&args.to)?);
    rename::rename(&mut super::open()?, &from, &to)?;
    Ok(DONE)
}
