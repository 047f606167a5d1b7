use std::time::Duration;

use crate::api::containers::{ListStarts, Start, ToStart};
use crate::cli::error::{CliResult, DONE};
use crate::cli::output::note;
use crate::cli::request::ask;
use crate::cli::several::{child, owners, share};
use crate::model::name::Name;

/// Start the containers that start with the host
///
/// nagaya.service runs this when the host boots. It starts the containers that were running when the
/// host went down, and those with 'boot.autostart=true': a higher 'boot.autostart.priority' first,
/// several at a time. A guest that had shut itself down stays down. A container that fails does not
/// hold up the others. As root, it does this for every owner.
///
/// Exit codes: 0 when all are started, 1 or more when one has failed.
///
/// Examples:
///   nagaya autostart
///   systemctl start nagaya
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct AutostartArgs {
    /// For one owner only
    #[arg(long, hide = true)]
    own: bool,
}

pub fn run(args: AutostartArgs) -> CliResult<i32> {
    if owners::for_all(args.own) {
        return owners::each(&["autostart"]);
    }
    let to_start =
        child::in_child("list the containers to start", || ask(&mut crate::cli::open()?, ListStarts {}))?;
    let most = std::thread::available_parallelism().map_or(1, |n| n.get()).max(2);
    let mut worst = DONE;
    for group in to_start.chunk_by(|a, b| a.priority == b.priority) {
        let names = group.iter().map(|c| c.name.clone()).collect();
        worst = worst.max(share::share_out(names, most, |name| start(group, name)));
    }
    Ok(worst)
}

/// It runs in a process of its own, so its delay holds up the groups of lower priority alone.
fn start(group: &[ToStart], name: &Name) -> CliResult<()> {
    let request = Start { name: name.clone(), if_stopped: false, with_host: true };
    if ask(&mut crate::cli::open()?, request)? {
        note(&format!("{name} is started"));
    }
    if let Some(container) = group.iter().find(|c| c.name == *name) {
        std::thread::sleep(Duration::from_secs(container.delay));
    }
    Ok(())
}
