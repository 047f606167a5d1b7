use super::config::NewConfigArgs;
use super::snapshot::tell_of_frozen;
use crate::api::containers::Start;
use crate::api::snapshots::Copy;
use crate::cli::arguments::connect::ConnectArgs;
use crate::cli::arguments::wait::WaitArgs;
use crate::cli::error::{CliResult, DONE};
use crate::cli::output::print;
use crate::cli::request::ask;
use crate::model::name::Name;
use crate::model::pool::PoolName;
use crate::model::snapshot::Source;

/// Make a container that begins as another one is
///
/// Or as it was when a snapshot was made of it. Both share their data until one of them changes it, so
/// that a copy takes almost no disk, and no time that depends on its size. A running source is copied
/// as 'nagaya snapshot create' does it. The copy has the source's keys and its kind of interfaces, with
/// addresses of its own. In another storage pool it shares no data with the source. What is in the
/// source stays in the copy: host keys and passwords, too.
///
/// Prints the copy's name.
///
/// Examples:
///   nagaya copy web01 web02
///   nagaya copy web01/before-upgrade web02 --start
///   nagaya copy web01 web02 -c limits.memory=1GiB --network dmz
///   nagaya copy web01 web02 --storage fast
///   nagaya copy web01/nightly staging --refresh
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct CopyArgs {
    /// The container, or one of its snapshots
    #[arg(value_name = "NAME[/SNAPSHOT]", value_parser = Source::new)]
    source: Source,
    /// The copy's name [default: a random name]
    #[arg(value_name = "NEW")]
    target: Option<String>,
    #[command(flatten)]
    config: NewConfigArgs,
    #[command(flatten)]
    connect: ConnectArgs,
    /// Copy the source's snapshots too
    #[arg(long, visible_alias = "snapshot", conflicts_with = "refresh")]
    snapshots: bool,
    /// Make a stopped container that there is what the source is; what it has of its own is lost
    #[arg(long, requires = "target")]
    refresh: bool,
    /// Put the copy into this storage pool [default: that of the source]
    #[arg(short, long, value_name = "POOL", conflicts_with_all = ["refresh", "snapshots"])]
    storage: Option<PoolName>,
    /// Start the copy
    #[arg(long)]
    start: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

pub fn run(args: CopyArgs) -> CliResult<i32> {
    let request = Copy {
        source: args.source,
        name: args.target.as_deref().map(crate::cli::name).transpose()?,
        config: args.config.pairs()?,
        networks: args.connect.network,
        addresses: args.connect.ip,
        snapshots: args.snapshots,
        refresh: args.refresh,
        storage: args.storage,
    };
    let mut app = crate::cli::open()?;
    let made = ask(&mut app, request)?;
    print(&format!("{}\n", made.name))?;
    tell_of_frozen(&made);
    if args.start {
        let name: Name = crate::cli::name(&made.name)?;
        ask(&mut app, Start { name: name.clone(), if_stopped: false, with_host: false })?;
        args.wait.wait(&mut app, &name)?;
    }
    Ok(DONE)
}
