use std::net::IpAddr;

use crate::app::network::Connect;

/// Where a new container is connected.
#[derive(clap::Args)]
pub struct ConnectArgs {
    /// A network to be on, or none; may be repeated [default: the one that setup made]
    #[arg(long, value_name = "NETWORK")]
    network: Vec<String>,
    /// An address of its own on one of them, IPv4 or IPv6; may be repeated [default: free ones]
    #[arg(long, value_name = "ADDRESS")]
    ip: Vec<IpAddr>,
}

impl From<ConnectArgs> for Connect {
    fn from(args: ConnectArgs) -> Self {
        Self { networks: args.network, addresses: args.ip }
    }
}
