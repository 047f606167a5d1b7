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
    #[command(flatten)]
    new: NewArgs,
}

/// What a container is made of.
#[derive(clap::Args)]
pub struct NewArgs {
    /// The template
    template: String,
    /// The container's name [default: one is made up]
    name: Option<String>,
    #[command(flatten)]
    config: NewConfigArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

impl NewArgs {
    pub fn request(self, start: bool) -> CliResult<LaunchRequest> {
        Ok(LaunchRequest {
            name: self.name.as_deref().map(super::name).transpose()?,
            template: self.template,
            start,
            config: self.config.config()?,
            connect: self.connect.into(),
        })
    }
}

pub fn run(args: CreateArgs) -> CliResult<i32> {
    let request = args.new.request(false)?;
    let name = launch::launch(&mut super::open_to_make()?, &request, &Shown::default())?;
    print(&format!("{name}\n"))?;
    Ok(DONE)
}
