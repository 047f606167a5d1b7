use super::create::{self, NewArgs};
use crate::cli::arguments::wait::WaitArgs;
use crate::cli::error::{CliResult, DONE};
use crate::cli::output::print;
use crate::cli::request::ask;

/// Make a container from a template and start it
///
/// If the template is not there yet, it is built first from its recipe; 'nagaya template recipes'
/// lists the recipes. Prints the container's name.
///
/// Examples:
///   nagaya launch debian12 web01
///   nagaya launch debian12 web01 --wait=network --timeout 30
///   nagaya launch debian12 web02 -c limits.memory=512MiB -c limits.cpu=1
///   nagaya launch debian12 web04 -p default -p gold
///   nagaya launch debian12 web03 --network dmz --ip 10.20.0.10 --ip fd00:20::10
///   nagaya launch debian12 web04 -d data,type=disk,source=/srv/web04,path=/srv
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
    let mut app = create::open(&request)?;
    let name = ask(&mut app, request)?;
    // Printed before the wait: the container exists, however the wait ends.
    print(&format!("{name}\n"))?;
    args.wait.wait(&mut app, &name)?;
    Ok(DONE)
}
