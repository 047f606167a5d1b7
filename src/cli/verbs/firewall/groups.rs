use super::caution::caution;
use crate::api::groups::{Create, Delete, Join, Leave, List};
use crate::cli::error::{CliResult, DONE};
use crate::cli::output::table::Table;
use crate::cli::output::{RowsArgs, RowsFormat, print_rows};
use crate::cli::request::ask;
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
    /// Add containers to a group: its rules hold for them, after their own
    Join(MembersArgs),
    /// Remove containers from a group
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
    /// Delete it even if containers are in it or it cuts your own ssh connection
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
    /// Apply even if it cuts your own ssh connection
    #[arg(long)]
    force: bool,
}

pub fn run(args: GroupArgs) -> CliResult<i32> {
    match args.verb {
        Verb::Create(args) => ask(&mut crate::cli::open()?, Create { name: args.name })?,
        Verb::Delete(args) => {
            let request = Delete { name: args.name, caution: caution(args.force) };
            ask(&mut crate::cli::open()?, request)?;
        }
        Verb::Join(args) => {
            let (caution, containers) = (caution(args.force), names(&args.containers)?);
            ask(&mut crate::cli::open()?, Join { name: args.name, containers, caution })?;
        }
        Verb::Leave(args) => {
            let (caution, containers) = (caution(args.force), names(&args.containers)?);
            ask(&mut crate::cli::open()?, Leave { name: args.name, containers, caution })?;
        }
        Verb::List(args) => list(args.format)?,
    }
    Ok(DONE)
}

fn names(texts: &[String]) -> CliResult<Vec<Name>> {
    texts.iter().map(|text| crate::cli::name(text)).collect()
}

fn list(format: RowsFormat) -> CliResult<()> {
    let rows = ask(&mut crate::cli::open()?, List {})?;
    let mut table = Table::new(&["name", "rules", "containers"]);
    for row in &rows {
        table.row(vec![row.name.clone(), row.rules.to_string(), row.containers.join(" ")]);
    }
    print_rows(format, &rows, &table)
}
