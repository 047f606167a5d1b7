use ipnetwork::Ipv4Network;

use crate::api::setup::{Remove, SetUp};
use crate::cli::error::{CliResult, DONE};
use crate::cli::output::note;
use crate::cli::output::print_lines;
use crate::cli::request::ask_host;
use crate::model::instance::Instance;
use crate::model::network::bridge_address;

/// Prepare this host, or undo that
///
/// The first 'nagaya launch' does this by itself; use 'nagaya setup' to choose ids or a subnet. It
/// makes a service user with subordinate ids, directories and a bridge, and prints what it made.
/// --remove removes all of that; if there are containers or templates, it needs --yes.
///
/// Examples:
///   nagaya setup
///   nagaya setup --id-ranges 1024 --subnet 10.1.0.1/20
///   nagaya setup --remove --yes
///   nagaya setup --remove --yes --everyone
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct SetupArgs {
    /// How many ranges of 65,536 ids to set aside: one for storage and one for each container
    // The second was its name until version 0.1.0.
    #[arg(long, alias = "slices", value_name = "N", value_parser = clap::value_parser!(u32).range(2..=65_535))]
    id_ranges: Option<u32>,
    /// The containers' subnet, as the bridge's own address with its prefix length
    #[arg(long, value_name = "CIDR", value_parser = bridge_address)]
    subnet: Option<Ipv4Network>,
    /// Remove what was made
    #[arg(long, conflicts_with_all = ["id_ranges", "subnet"])]
    remove: bool,
    /// Really delete all containers and templates
    #[arg(long, requires = "remove")]
    yes: bool,
    /// Also those of all ordinary users, with their grants
    #[arg(long, requires = "remove")]
    everyone: bool,
}

pub fn run(args: SetupArgs) -> CliResult<i32> {
    let instance = crate::cli::instance()?;
    let lines = match args.remove {
        true => ask_host(Remove { delete_data: args.yes, everyone: args.everyone })?,
        false => ask_host(SetUp { id_ranges: args.id_ranges, subnet: args.subnet })?,
    };
    if args.remove && lines.is_empty() {
        note(&nothing(&instance, args.everyone));
    }
    print_lines(&lines)?;
    Ok(DONE)
}

/// The message if there was nothing to remove.
fn nothing(instance: &Instance, everyone: bool) -> String {
    let whose = match (everyone, instance.uid_of_user()) {
        (true, _) => " for anybody".to_owned(),
        (false, Some(_)) => format!(" for user {}", instance.user()),
        (false, None) => String::new(),
    };
    format!("nothing to remove: '{}' is not set up on this host{whose}", instance.name())
}
