use std::net::IpAddr;

use crate::app::network::Connect;

/// Where a new container is connected.
#[derive(clap::Args)]
pub struct ConnectArgs {
    /// Attach to NETWORK ('none': no network); may be repeated [default: nagaya0]
    #[arg(long, value_name = "NETWORK")]
    network: Vec<String>,
    /// Static IPv4 or IPv6 address for the interface on that network; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    ip: Vec<IpAddr>,
}

impl From<ConnectArgs> for Connect {
    fn from(args: ConnectArgs) -> Self {
        Self { networks: args.network, addresses: args.ip }
    }
}
