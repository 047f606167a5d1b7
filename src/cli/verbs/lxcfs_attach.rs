use crate::app::containers::lxcfs;
use crate::cli::error::{CliResult, DONE};
use crate::cli::report::report;
use crate::cli::several::owners;

/// Reconnect running containers to a restarted lxcfs
///
/// nagaya-lxcfs.service runs this after each start of lxcfs. Guests whose lxcfs has crashed get their
/// own /proc/meminfo and the like back, without a restart. As root, it does this for every owner.
///
/// Examples:
///   nagaya lxcfs-attach
///   nagaya lxcfs-attach --wait 30
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct LxcfsAttachArgs {
    /// For how many seconds to wait until lxcfs is mounted
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u64,
    /// For one owner only
    #[arg(long, hide = true)]
    own: bool,
}

pub fn run(args: LxcfsAttachArgs) -> CliResult<i32> {
    lxcfs::wait(std::time::Duration::from_secs(args.wait));
    if owners::for_all(args.own) {
        return owners::each(&["lxcfs-attach"]);
    }
    let failed = lxcfs::attach_all(&mut crate::cli::open()?)?;
    let codes = failed.into_iter().map(|(name, error)| report(&error.into(), Some(&name)));
    Ok(codes.max().unwrap_or(DONE))
}
