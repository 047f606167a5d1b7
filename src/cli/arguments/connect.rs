use std::net::IpAddr;

/// Where a new container is connected.
#[derive(clap::Args)]
pub struct ConnectArgs {
    /// Attach to NETWORK ('none': no network); may be repeated [default: nagaya0]
    #[arg(long, value_name = "NETWORK")]
    pub network: Vec<String>,
    /// Static IPv4 or IPv6 address for the interface on that network; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Vec<IpAddr>,
}
