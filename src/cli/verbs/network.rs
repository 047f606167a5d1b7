use crate::api::networks::{Create, Delete, List, Repair, Set, Show};
use crate::api::pairs::Pairs;
use crate::cli::arguments::keys;
use crate::cli::arguments::keys::{PairsArgs, UnsetKeysArgs, pair};
use crate::cli::error::{CliResult, DONE};
use crate::cli::output::table::{Table, pairs};
use crate::cli::output::{Format, FormatArgs, RowsArgs, RowsFormat, note, print, print_json, print_rows};
use crate::cli::request::ask;
use crate::model::name::Name;
use crate::model::network::NETWORK_KEYS;

/// Manage networks: bridges, their subnets, translation, DHCP and names
///
/// Containers are on the network that 'nagaya setup' made, unless you name another. Each further
/// network is a bridge of its own; guests of different networks reach one another through the host.
///
/// Examples:
///   nagaya network create dmz ipv4.address=10.20.0.1/24
///   nagaya launch debian12 web01 --network dmz --ip 10.20.0.10
///   nagaya network create lan parent=br0        join a bridge that the host has
///   nagaya network set dmz dns.domain=dmz.example ipv4.dhcp=true
///   nagaya network show dmz
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct NetworkArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    Create(CreateArgs),
    #[command(visible_alias = "rm")]
    Delete(DeleteArgs),
    /// List networks
    ///
    /// Examples:
    ///   nagaya network list
    ///   nagaya network list --format json | jq -r '.[].name'
    #[command(verbatim_doc_comment, visible_alias = "ls")]
    List(RowsArgs),
    Show(ShowArgs),
    Set(SetArgs),
    Unset(UnsetArgs),
    /// List the keys of networks
    ///
    /// Examples:
    ///   nagaya network keys
    #[command(verbatim_doc_comment)]
    Keys(RowsArgs),
    Repair(RepairArgs),
}

/// Make a network
///
/// The network's bridge is there at once. If you give no addresses, the network gets a private IPv4
/// subnet and a unique local IPv6 one that the host does not use. Traffic from both to the outside is
/// translated to the host's addresses.
///
/// Examples:
///   nagaya network create dmz
///   nagaya network create dmz ipv4.address=10.20.0.1/24 ipv6.address=none
///   nagaya network create pub ipv4.address=203.0.113.1/26 ipv4.nat=false
///   nagaya network create lan parent=br0
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct CreateArgs {
    /// Its name
    name: String,
    /// Keys and values; 'nagaya network keys' lists them
    #[arg(value_name = "KEY=VALUE", value_parser = pair)]
    pairs: Vec<(String, String)>,
}

/// Delete a network that no container is on
///
/// Examples:
///   nagaya network delete dmz
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct DeleteArgs {
    /// The network
    name: String,
}

/// Show a network's keys, and the containers on it with their addresses
///
/// Examples:
///   nagaya network show dmz
///   nagaya network show dmz --format json | jq '.config'
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct ShowArgs {
    /// The network
    name: String,
    #[command(flatten)]
    shown: FormatArgs,
}

/// Change keys of a network
///
/// Sets all of them or, if one is refused, none. The host's side changes at once. Guests see another
/// gateway or MTU at their next start.
///
/// Examples:
///   nagaya network set dmz ipv4.nat.address=203.0.113.7
///   nagaya network set dmz security.port_isolation=true
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct SetArgs {
    /// The network
    name: String,
    #[command(flatten)]
    set: PairsArgs,
}

/// Reset keys of a network to their defaults
///
/// Examples:
///   nagaya network unset dmz dns.domain mtu
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct UnsetArgs {
    /// The network
    name: String,
    #[command(flatten)]
    unset: UnsetKeysArgs,
}

/// Put back what others have changed in bridges, links and firewall
///
/// Repairs the host's side of all running containers, and prints what it has repaired. If a link was
/// deleted, only a restart of its container makes it again: the command names such containers and
/// ends with exit code 1. nagaya-watch.service runs this when another program has changed links or
/// firewall.
///
/// Examples:
///   nagaya network repair
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct RepairArgs {}

pub fn run(args: NetworkArgs) -> CliResult<i32> {
    match args.verb {
        Verb::Create(args) => {
            let request = Create { name: args.name, config: Pairs(args.pairs) };
            let name = ask(&mut crate::cli::open_to_make()?, request)?;
            print(&format!("{name}\n"))?;
        }
        Verb::Delete(args) => ask(&mut crate::cli::open()?, Delete { name: args.name })?,
        Verb::List(args) => list(args.format)?,
        Verb::Show(args) => show(args)?,
        Verb::Set(args) => set(args.name, args.set.pairs)?,
        Verb::Unset(args) => {
            let pairs = args.unset.keys.into_iter().map(|key| (key, String::new()));
            set(args.name, pairs.collect())?;
        }
        Verb::Keys(args) => keys::list(args.format, &NETWORK_KEYS)?,
        Verb::Repair(RepairArgs {}) => {
            ask(&mut crate::cli::open()?, Repair {})?.iter().for_each(|what| note(what));
        }
    }
    Ok(DONE)
}

fn set(name: String, pairs: Vec<(String, String)>) -> CliResult<()> {
    let changed = ask(&mut crate::cli::open()?, Set { name, config: Pairs(pairs) })?;
    // What the keys alone do not tell.
    if !changed.waiting.is_empty() {
        let names: Vec<&str> = changed.waiting.iter().map(Name::as_str).collect();
        let (listed, typed) = (names.join(", "), names.join(" "));
        note(&format!("takes effect at the next start of: {listed} (nagaya restart {typed})"));
    }
    if changed.foreign {
        note(&format!("bridge {} is the host's own and stays as it is", changed.bridge));
    }
    Ok(())
}

fn list(format: RowsFormat) -> CliResult<()> {
    let rows = ask(&mut crate::cli::open()?, List {})?;
    let mut table = Table::new(&["name", "bridge", "up", "ipv4", "ipv6", "used_by"]);
    for row in &rows {
        table.row(vec![
            row.name.clone(),
            row.bridge.clone(),
            if row.up { "yes" } else { "no" }.to_owned(),
            row.ipv4.clone().unwrap_or_default(),
            row.ipv6.clone().unwrap_or_default(),
            row.used_by.len().to_string(),
        ]);
    }
    print_rows(format, &rows, &table)
}

fn show(args: ShowArgs) -> CliResult<()> {
    let row = ask(&mut crate::cli::open()?, Show { name: args.name })?;
    if args.shown.format == Format::Json {
        return print_json(&row);
    }
    let mut lines = vec![
        ("Name", row.name.clone()),
        ("Bridge", format!("{}, {}", row.bridge, if row.up { "up" } else { "not there: nothing needs it" })),
    ];
    lines.extend(row.config.iter().map(|(key, value)| (key.as_str(), value.clone())));
    let users: Vec<(String, String)> = row
        .used_by
        .iter()
        .map(|user| (format!("{} {}", user.container, user.device), user.addresses.join(" ")))
        .collect();
    lines.extend(users.iter().map(|(who, addresses)| (who.as_str(), addresses.clone())));
    print(&pairs(&lines))
}
