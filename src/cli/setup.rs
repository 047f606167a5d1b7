use ipnetwork::Ipv4Network;

use super::output::print_lines;
use super::report::{CliResult, DONE, note};
use crate::app::setup::{self, SetupRequest};
use crate::model::instance::Instance;

/// Prepare this host, or undo that
///
/// The first 'nagaya launch' does it by itself; this is for those who want to choose. It makes a
/// service user with subordinate ids, directories and a bridge, and prints what it made. With
/// --remove all of that goes; containers and templates, if there are any, only with --yes.
///
/// Examples:
///   nagaya setup
///   nagaya setup --slices 1024 --subnet 10.1.0.1/20
///   nagaya setup --remove --yes
///   nagaya setup --remove --yes --everyone
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct SetupArgs {
    /// How many ranges of 65,536 ids to set aside: one for storage and one for each container
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=65_535))]
    slices: Option<u32>,
    /// The containers' subnet, as the bridge's own address with its prefix length
    #[arg(long, value_name = "CIDR", value_parser = subnet)]
    subnet: Option<Ipv4Network>,
    /// Remove what was made
    #[arg(long, conflicts_with_all = ["slices", "subnet"])]
    remove: bool,
    /// Really delete all containers and templates
    #[arg(long, requires = "remove")]
    yes: bool,
    /// Also of all ordinary users, with their grants
    #[arg(long, requires = "remove")]
    everyone: bool,
}

pub fn run(args: SetupArgs) -> CliResult<i32> {
    let instance = super::instance()?;
    let lines = if args.everyone {
        setup::remove_everyone(&super::base_instance()?, args.yes)?
    } else if args.remove {
        setup::remove(&instance, args.yes)?
    } else {
        setup::setup(&instance, &SetupRequest { slices: args.slices, ipv4: args.subnet })?
    };
    if args.remove && lines.is_empty() {
        note(&nothing(&instance, args.everyone));
    }
    print_lines(&lines)?;
    Ok(DONE)
}

/// What is said where there was nothing to remove.
fn nothing(instance: &Instance, everyone: bool) -> String {
    let whose = match (everyone, instance.person()) {
        (true, _) => " for anybody".to_owned(),
        (false, Some(_)) => format!(" for user {}", instance.user()),
        (false, None) => String::new(),
    };
    format!("nothing to remove: '{}' is not set up on this host{whose}", instance.name())
}

/// A subnet's own address stands for its first host, which the bridge usually is.
fn subnet(text: &str) -> Result<Ipv4Network, String> {
    let usage = "it must be an address with a prefix length of 8 to 29, such as 10.1.0.1/20";
    let network: Ipv4Network = text.parse().map_err(|_| usage.to_owned())?;
    if !text.contains('/') || !(8..=29).contains(&network.prefix()) {
        return Err(usage.to_owned());
    }
    if network.ip() == network.broadcast() {
        return Err(format!("{} is the subnet's broadcast address", network.ip()));
    }
    if network.ip() != network.network() {
        return Ok(network);
    }
    let first = u32::from(network.ip()) + 1;
    Ipv4Network::new(first.into(), network.prefix()).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_names_the_bridges_address() {
        assert_eq!(subnet("10.1.0.9/20").unwrap().to_string(), "10.1.0.9/20");
        assert_eq!(subnet("10.1.0.0/20").unwrap().to_string(), "10.1.0.1/20");
        for bad in
            ["10.1.0.1", "10.1.0.1/30", "10.1.0.1/33", "0.0.0.0/0", "fd00::1/64", "10.1.15.255/20", "x"]
        {
            assert!(subnet(bad).is_err(), "{bad}");
        }
    }
}
