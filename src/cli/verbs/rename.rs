use crate::api::containers::Rename;
use crate::cli::error::{CliResult, DONE};
use crate::cli::request::ask;

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
    let (name, new_name) = (crate::cli::name(&args.from)?, crate::cli::name(&args.to)?);
    ask(&mut crate::cli::open()?, Rename { name, new_name })?;
    Ok(DONE)
}
