use serde::Serialize;

use super::firewall::{caution, rules};
use super::output::{RowsArgs, RowsFormat, print_rows};
use super::report::{CliResult, DONE, note};
use super::table::Table;
use crate::app::firewall;
use crate::model::firewall::policy::{Forward, Proto};

/// Forward host ports to containers
///
/// A forward goes before a default of deny, but not before a rule that denies. Who connects to a
/// port of the host's loopback address is not forwarded.
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
/// At any of the host's addresses, or at one.
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
    /// The host's port or ports, and the container's if those are others
    #[arg(value_name = "PORTS[:PORTS]")]
    ports: String,
    /// The host's address [default: any]
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
    /// The host's address, if one was said
    #[arg(long, default_value = "", hide_default_value = true)]
    address: String,
}

fn proto(text: &str) -> Result<Proto, String> {
    let known = text.parse().ok().filter(|proto: &Proto| proto.has_ports());
    known.ok_or_else(|| "it must be tcp, udp or sctp".to_owned())
}

/// A forward as programs see it.
#[derive(Serialize)]
struct ForwardJson {
    container: String,
    proto: &'static str,
    /// None: any of the host's.
    address: Option<String>,
    listen: String,
    to: String,
}

impl From<Forward> for ForwardJson {
    fn from(forward: Forward) -> Self {
        let to = if forward.to.is_empty() { forward.listen.clone() } else { forward.to };
        Self {
            container: forward.container,
            proto: forward.proto.as_str(),
            address: Some(forward.address).filter(|address| !address.is_empty()),
            listen: forward.listen,
            to,
        }
    }
}

pub fn run(args: ForwardArgs) -> CliResult<i32> {
    match args.verb {
        Verb::Add(args) => {
            let (listen, to) = args.ports.split_once(':').unwrap_or((&args.ports, ""));
            let listen = rules::numbers(listen, args.proto)?;
            let to = if to.is_empty() { String::new() } else { rules::numbers(to, args.proto)? };
            let forward = Forward {
                container: super::name(&args.container)?.to_string(),
                proto: args.proto,
                listen,
                address: args.address,
                to,
            };
            let caution = caution(args.force);
            let shadowed = firewall::add_forward(&mut super::open()?, &caution, forward)?;
            shadowed.iter().for_each(|what| note(what));
        }
        Verb::Remove(args) => {
            let listen = rules::numbers(args.ports.split(':').next().unwrap_or_default(), args.proto)?;
            let forward = Forward {
                container: super::name(&args.container)?.to_string(),
                proto: args.proto,
                listen,
                address: args.address,
                to: String::new(),
            };
            let caution = caution(false);
            firewall::remove_forward(&mut super::open()?, &caution, &forward)?;
        }
        Verb::List(args) => list(args.format)?,
    }
    Ok(DONE)
}

fn list(format: RowsFormat) -> CliResult<()> {
    let rows: Vec<ForwardJson> =
        firewall::forwards(&super::open()?)?.into_iter().map(ForwardJson::from).collect();
    let mut table = Table::new(&["container", "proto", "address", "listen", "to"]);
    for row in &rows {
        let address = row.address.as_deref().unwrap_or("any");
        let cells = [row.container.as_str(), row.proto, address, &row.listen, &row.to];
        table.row(cells.map(str::to_owned).to_vec());
    }
    print_rows(format, &rows, &table)
}
