use serde::Serialize;

use super::super::output::{RowsArgs, RowsFormat, print_rows};
use super::super::report::{CliResult, DONE};
use super::super::table::Table;
use super::caution;
use crate::app::firewall;
use crate::model::name::Name;

/// Share rules among containers
///
/// Examples:
///   nagaya firewall group create web
///   nagaya firewall allow group:web tcp 80,443
///   nagaya firewall group join web web01 web02
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct GroupArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Make a group
    Create(NameArgs),
    /// Delete a group
    Delete(DeleteArgs),
    /// List groups with their containers
    List(RowsArgs),
    /// Put containers into a group: its rules hold for them, after their own
    Join(MembersArgs),
    /// Take containers out of a group
    Leave(MembersArgs),
}

#[derive(clap::Args)]
struct NameArgs {
    /// Its name: 1 to 15 of a-z, 0-9 and '-', a letter first
    name: String,
}

#[derive(clap::Args)]
struct DeleteArgs {
    /// The group
    name: String,
    /// Also if containers are in it, or if that would shut yourself out
    #[arg(long)]
    force: bool,
}

#[derive(clap::Args)]
struct MembersArgs {
    /// The group
    name: String,
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
    /// Apply it even if that cuts your own ssh connection
    #[arg(long)]
    force: bool,
}

/// A group as programs see it.
#[derive(Serialize)]
struct GroupJson {
    name: String,
    /// Rules of both directions.
    rules: usize,
    containers: Vec<String>,
}

pub fn run(args: GroupArgs) -> CliResult<i32> {
    match args.verb {
        Verb::Create(args) => firewall::create_group(&mut super::super::open()?, &args.name)?,
        Verb::Delete(args) => {
            let caution = caution(args.force);
            firewall::delete_group(&mut super::super::open()?, &caution, &args.name)?;
        }
        Verb::Join(args) => {
            let (caution, names) = (caution(args.force), names(&args.containers)?);
            firewall::join_group(&mut super::super::open()?, &caution, &args.name, &names)?;
        }
        Verb::Leave(args) => {
            let (caution, names) = (caution(args.force), names(&args.containers)?);
            firewall::leave_group(&mut super::super::open()?, &caution, &args.name, &names)?;
        }
        Verb::List(args) => list(args.format)?,
    }
    Ok(DONE)
}

fn names(texts: &[String]) -> CliResult<Vec<Name>> {
    texts.iter().map(|text| super::super::name(text)).collect()
}

fn list(format: RowsFormat) -> CliResult<()> {
    let policy = firewall::export(&super::super::open()?)?;
    let group = |(name, group): (&String, &crate::model::firewall::policy::GroupPolicy)| {
        let member = |groups: &[String]| groups.contains(name);
        let containers = policy.containers.iter().filter(|(_, c)| member(&c.groups));
        GroupJson {
            name: name.clone(),
            rules: group.inward.len() + group.outward.len(),
            containers: containers.map(|(container, _)| container.clone()).collect(),
        }
    };
    let rows: Vec<GroupJson> = policy.groups.iter().map(group).collect();
    let mut table = Table::new(&["name", "rules", "containers"]);
    for row in &rows {
        table.row(vec![row.name.clone(), row.rules.to_string(), row.containers.join(" ")]);
    }
    print_rows(format, &rows, &table)
}
