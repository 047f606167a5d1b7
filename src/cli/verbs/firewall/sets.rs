use super::caution::caution;
use crate::api::sets::{Add, Create, Delete, List, Remove};
use crate::cli::error::{CliResult, DONE};
use crate::cli::output::table::Table;
use crate::cli::output::{RowsArgs, RowsFormat, print_rows};
use crate::cli::request::ask;

/// Manage named lists of addresses, which rules call set:NAME
///
/// Examples:
///   nagaya firewall set create office 198.51.100.0/24 2001:db8:1::/48
///   nagaya firewall set add office 203.0.113.7
///   nagaya firewall allow web01 tcp 22 --from set:office
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct SetArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Make a set
    Create(MembersArgs),
    /// Add addresses to a set
    Add(SomeMembersArgs),
    /// Remove addresses from a set
    Remove(SomeMembersArgs),
    /// Delete a set that no rule uses
    Delete(NameArgs),
    /// List sets with their addresses
    List(RowsArgs),
}

#[derive(clap::Args)]
struct MembersArgs {
    /// Its name: 1 to 15 of a-z, 0-9 and '-', a letter first
    name: String,
    /// Addresses and subnets
    #[arg(value_name = "ADDRESS")]
    members: Vec<String>,
}

#[derive(clap::Args)]
struct SomeMembersArgs {
    /// The set
    name: String,
    /// Addresses and subnets
    #[arg(value_name = "ADDRESS", required = true)]
    members: Vec<String>,
    /// Apply even if it cuts your own ssh connection
    #[arg(long)]
    force: bool,
}

#[derive(clap::Args)]
struct NameArgs {
    /// The set
    name: String,
}

pub fn run(args: SetArgs) -> CliResult<i32> {
    match args.verb {
        Verb::Create(args) => {
            ask(&mut crate::cli::open()?, Create { name: args.name, addresses: args.members })?;
        }
        Verb::Add(args) => {
            let request = Add { name: args.name, addresses: args.members, caution: caution(args.force) };
            ask(&mut crate::cli::open()?, request)?;
        }
        Verb::Remove(args) => {
            let request = Remove { name: args.name, addresses: args.members, caution: caution(args.force) };
            ask(&mut crate::cli::open()?, request)?;
        }
        Verb::Delete(args) => {
            let request = Delete { name: args.name, caution: caution(false) };
            ask(&mut crate::cli::open()?, request)?;
        }
        Verb::List(args) => list(args.format)?,
    }
    Ok(DONE)
}

fn list(format: RowsFormat) -> CliResult<()> {
    let sets = ask(&mut crate::cli::open()?, List {})?;
    let mut table = Table::new(&["name", "addresses"]);
    for (name, members) in &sets {
        table.row(vec![name.clone(), members.join(" ")]);
    }
    print_rows(format, &sets, &table)
}
