use super::firewall::{caution, rules};
use crate::api::forwards::{Add, List, Remove};
use crate::cli::error::{CliResult, DONE};
use crate::cli::output::table::Table;
use crate::cli::output::{RowsArgs, RowsFormat, note, print_rows};
use crate::cli::request::ask;
use crate::model::firewall::policy::{Forward, Proto};

/// Forward host ports to containers
///
/// A forward comes before a default of deny, but not before a rule that denies. Connections to the
/// host's loopback address are not forwarded.
///
/// Examples:
///   nagaya forward add web01 tcp 8080:80
///   nagaya forward list
///   nagaya forward remove web01 tcp 8080
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ForwardArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    Add(AddArgs),
    #[command(visible_alias = "rm")]
    Remove(RemoveArgs),
    /// List forwarded ports
    ///
    /// Examples:
    ///   nagaya forward list --format json | jq -r '.[].listen'
    #[command(verbatim_doc_comment, visible_alias = "ls")]
    List(RowsArgs),
}

/// Forward ports
///
/// Forwards them at all of the host's addresses, or at one.
///
/// Examples:
///   nagaya forward add web01 tcp 8080:80
///   nagaya forward add web01 udp 5000-5010
///   nagaya forward add mail tcp 25 --address 203.0.113.9
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct AddArgs {
    /// The container
    container: String,
    /// tcp, udp or sctp
    #[arg(value_parser = proto)]
    proto: Proto,
    /// The host's port or ports, and the container's if they differ
    #[arg(value_name = "PORTS[:PORTS]")]
    ports: String,
    /// The host's address [default: all]
    #[arg(long, default_value = "", hide_default_value = true)]
    address: String,
    /// Apply even if it cuts your own ssh connection
    #[arg(long)]
    force: bool,
}

/// Remove a forward
///
/// Examples:
///   nagaya forward remove web01 tcp 8080
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct RemoveArgs {
    /// The container
    container: String,
    /// tcp, udp or sctp
    #[arg(value_parser = proto)]
    proto: Proto,
    /// The host's port or ports
    #[arg(value_name = "PORTS")]
    ports: String,
    /// The host's address, if the forward has one
    #[arg(long, default_value = "", hide_default_value = true)]
    address: String,
}

fn proto(text: &str) -> Result<Proto, String> {
    let known = text.parse().ok().filter(|proto: &Proto| proto.has_ports());
    known.ok_or_else(|| "it must be tcp, udp or sctp".to_owned())
}

pub fn run(args: ForwardArgs) -> CliResult<i32> {
    match args.verb {
        Verb::Add(args) => {
            let (listen, to) = args.ports.split_once(':').unwrap_or((&args.ports, ""));
            let listen = rules::numbers(listen, args.proto)?;
            let to = if to.is_empty() { String::new() } else { rules::numbers(to, args.proto)? };
            let forward = Forward {
                container: crate::cli::name(&args.container)?.to_string(),
                proto: args.proto,
                listen,
                address: args.address,
                to,
                device: String::new(),
                by_profile: false,
            };
            let caution = caution(args.force);
            let shadowed = ask(&mut crate::cli::open()?, Add { forward, caution })?;
            shadowed.iter().for_each(|what| note(what));
        }
        Verb::Remove(args) => {
            let listen = rules::numbers(args.ports.split(':').next().unwrap_or_default(), args.proto)?;
            let forward = Forward {
                container: crate::cli::name(&args.container)?.to_string(),
                proto: args.proto,
                listen,
                address: args.address,
                to: String::new(),
                device: String::new(),
                by_profile: false,
            };
            let caution = caution(false);
            ask(&mut crate::cli::open()?, Remove { forward, caution })?;
        }
        Verb::List(args) => list(args.format)?,
    }
    Ok(DONE)
}

fn list(format: RowsFormat) -> CliResult<()> {
    let rows = ask(&mut crate::cli::open()?, List {})?;
    let mut table = Table::new(&["container", "proto", "address", "listen", "to"]);
    for row in &rows {
        let address = row.address.as_deref().unwrap_or("any");
        let cells = [row.container.as_str(), row.proto, address, &row.listen, &row.to];
        table.row(cells.map(str::to_owned).to_vec());
    }
    print_rows(format, &rows, &table)
}
