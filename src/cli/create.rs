use super::config::NewConfigArgs;
use super::connect::ConnectArgs;
use super::output::print;
use super::progress::Shown;
use super::report::{CliResult, DONE};
use crate::app::launch::{self, LaunchRequest};

/// Make a container from a template without starting it
///
/// Like 'nagaya launch' otherwise. Prints the container's name.
///
/// Examples:
///   nagaya create debian12 web01
///   nagaya create debian12 web02 -c limits.memory=512MiB
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct CreateArgs {
    /// The template
    template: String,
    /// The container's name [default: one is made up]
    name: Option<String>,
    #[command(flatten)]
    config: NewConfigArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub fn run(args: CreateArgs) -> CliResult<i32> {
    let name = args.name.as_deref().map(super::name).transpose()?;
    let request = LaunchRequest {
        template: args.template,
        name,
        start: false,
        config: args.config.config()?,
        connect: args.connect.into(),
    };
    let name = launch::launch(&mut super::open()?, &request, &Shown::default())?;
    print(&format!("{name}\n"))?;
    Ok(DONE)
}
