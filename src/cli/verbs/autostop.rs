use crate::api::containers::StopAll;
use crate::cli::error::{CliResult, DONE};
use crate::cli::report::report;
use crate::cli::request::ask;
use crate::cli::several::owners;
use crate::host::services::systemd;

/// Shut all running containers down, because the host does
///
/// nagaya.service runs this when the host shuts down. It asks all guests at once to shut down, those
/// with a higher 'boot.stop.priority' first. A guest that takes longer than its
/// 'boot.host_shutdown_timeout' is ended by force. The containers start again with the host. As root,
/// it does this for every owner.
///
/// Examples:
///   nagaya autostop
///   nagaya autostop --unit nagaya.service   nothing, while systemd only restarts that unit
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct AutostopArgs {
    /// Leave the containers running if systemd is about to start this unit again
    #[arg(long, value_name = "UNIT")]
    unit: Option<String>,
    /// For one owner only
    #[arg(long, hide = true)]
    own: bool,
}

pub fn run(args: AutostopArgs) -> CliResult<i32> {
    if args.unit.is_some_and(|unit| systemd::is_restarting(&unit)) {
        return Ok(DONE);
    }
    if owners::for_all(args.own) {
        return owners::each(&["autostop"]);
    }
    let failed = ask(&mut crate::cli::open()?, StopAll {})?;
    let codes = failed.into_iter().map(|failed| report(&failed.error.into(), Some(&failed.name)));
    Ok(codes.max().unwrap_or(DONE))
}
