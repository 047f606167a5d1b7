use std::time::Duration;

use crate::app::AppError;
use crate::cli::error::{CliResult, DONE};
use crate::host::broker::listener;
use crate::host::front::hostd;

/// Serve ordinary users on the system bus
///
/// The system bus starts it when somebody calls org.nagaya.Host1, and it ends when nobody has for a
/// while. It runs as the unprivileged user nagaya-hostd and reaches the broker through a socket.
/// Started by root, it starts a broker beside it and becomes that user: for hosts without systemd.
///
/// Examples:
///   nagaya hostd
///   nagaya hostd --idle 3600
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct HostdArgs {
    /// After how many seconds without a caller it ends
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    idle: u64,
}

/// Be the broker of ordinary users
///
/// systemd starts it as root with a listening socket when nagaya-hostd connects, and it ends when
/// nobody has for a while. It parses nothing that a guest, the network or an archive holds.
///
/// Examples:
///   systemctl status nagaya-broker.service
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct BrokerArgs {
    /// After how many seconds without a connection it ends
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    idle: u64,
}

pub fn run(args: &HostdArgs) -> CliResult<i32> {
    let (instance, idle) = (crate::cli::base_instance()?, Duration::from_secs(args.idle));
    hostd::run(&instance, idle, listener::beside).map_err(AppError::from)?;
    Ok(DONE)
}

pub fn broker(args: &BrokerArgs) -> CliResult<i32> {
    listener::run(&crate::cli::base_instance()?, Duration::from_secs(args.idle)).map_err(AppError::from)?;
    Ok(DONE)
}
