use super::report::{self, CliResult, DONE};
use super::{asked, many, owners};
use crate::app::autostart::{self, Candidate};
use crate::model::name::Name;

/// Start the containers that start with the host
///
/// nagaya.service runs it when the host boots. It starts what was running when the host went down,
/// and what is set to start always: higher 'boot.autostart.priority' first, several at a time. A
/// guest that had shut itself down stays down. One that fails does not hold up the others. As root
/// it does so for every owner.
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
        return owners::each("autostart");
    }
    let candidates = candidates()?;
    let most = std::thread::available_parallelism().map_or(1, |n| n.get()).max(2);
    let mut worst = DONE;
    for group in candidates.chunk_by(|a, b| a.priority == b.priority) {
        let names = group.iter().map(|c| c.name.clone()).collect();
        worst = worst.max(many::share_out(names, most, |name| start(group, name)));
    }
    Ok(worst)
}

/// Those of lower priority wait for the end of this process, and so for the delay.
fn start(group: &[Candidate], name: &Name) -> CliResult<()> {
    if autostart::start(&mut super::open()?, name)? {
        report::note(&format!("{name} is started"));
    }
    if let Some(candidate) = group.iter().find(|c| c.name == *name) {
        std::thread::sleep(candidate.delay);
    }
    Ok(())
}

/// Looked up in a child: opening the instance gives up root, which each start needs anew.
fn candidates() -> CliResult<Vec<Candidate>> {
    asked::in_child("list the containers to start", || Ok(autostart::candidates(&mut super::open()?)?))
}
