use super::create::NewArgs;
use super::output::print;
use super::progress::Shown;
use super::report::{CliResult, DONE};
use super::wait::WaitArgs;
use crate::app::launch;

/// Make a container from a template and start it
///
/// A template that is not there yet is built first, if its recipe is known; 'nagaya template
/// recipes' lists those. Prints the container's name.
///
/// Examples:
///   nagaya launch debian12 web01
///   nagaya launch debian12 web01 --wait=network --timeout 30
///   nagaya launch debian12 web02 -c limits.memory=512MiB -c limits.cpu=1
///   nagaya launch debian12 web03 --network dmz --ip 10.20.0.10 --ip fd00:20::10
///   name=$(nagaya launch debian12)
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct LaunchArgs {
    #[command(flatten)]
    new: NewArgs,
    #[command(flatten)]
    wait: WaitArgs,
}

pub fn run(args: LaunchArgs) -> CliResult<i32> {
    let request = args.new.request(true)?;
    let mut app = super::open_to_make()?;
    let name = launch::launch(&mut app, &request, &Shown::default())?;
    // Before the wait: the container is there, however that goes.
    print(&format!("{name}\n"))?;
    args.wait.wait(&mut app, &name)?;
    Ok(DONE)
}
