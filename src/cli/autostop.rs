use super::owners;
use super::report::{CliError, CliResult, DONE, report};
use crate::app::autostop;
use crate::host::systemd;

/// Shut all running containers down, because the host does
///
/// nagaya.service runs it when the host shuts down. All guests are asked at once, higher
/// 'boot.stop.priority' first; one that takes longer than its 'boot.host_shutdown_timeout' is ended
/// by force. The containers start again with the host. As root it does so for every owner.
///
/// Examples:
///   nagaya autostop
///   nagaya autostop --unit nagaya.service   nothing, while systemd only restarts that unit
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct AutostopArgs {
    /// Leave the containers running if systemd is to start this unit again at once
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
        return owners::each("autostop");
    }
    let failed = autostop::stop_all(&mut super::open()?)?;
    let codes = failed.into_iter().map(|(name, error)| report(&CliError::App(error), Some(&name)));
    Ok(codes.max().unwrap_or(DONE))
}
