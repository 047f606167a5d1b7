use super::super::output::{RowsArgs, RowsFormat, print_rows};
use super::super::report::{CliResult, DONE};
use super::super::table::Table;
use super::caution;
use crate::app::firewall;

/// Name addresses, for rules to speak of as set:NAME
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
    /// Put addresses into a set
    Add(SomeMembersArgs),
    /// Take addresses out of a set
    Remove(SomeMembersArgs),
    /// Delete a set that no rule speaks of
    Delete(NameArgs),
    /// List sets with what they hold
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
    /// Apply it even if that cuts your own ssh connection
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
            firewall::create_set(&mut super::super::open()?, &args.name, &args.members)?;
        }
        Verb::Add(args) => {
            let caution = caution(args.force);
            firewall::add_to_set(&mut super::super::open()?, &caution, &args.name, &args.members)?;
        }
        Verb::Remove(args) => {
            let caution = caution(args.force);
            firewall::remove_from_set(&mut super::super::open()?, &caution, &args.name, &args.members)?;
        }
        Verb::Delete(args) => {
            let caution = caution(false);
            firewall::delete_set(&mut super::super::open()?, &caution, &args.name)?;
        }
        Verb::List(args) => list(args.format)?,
    }
    Ok(DONE)
}

fn list(format: RowsFormat) -> CliResult<()> {
    let sets = firewall::export(&super::super::open()?)?.sets;
    let mut table = Table::new(&["name", "addresses"]);
    for (name, members) in &sets {
        table.row(vec![name.clone(), members.join(" ")]);
    }
    print_rows(format, &sets, &table)
}
