use serde::Serialize;

use super::keys::{self, PairsArgs, UnsetKeysArgs, pair};
use super::output::{Format, FormatArgs, RowsArgs, RowsFormat, print, print_json, print_rows};
use super::report::{CliResult, DONE, note};
use super::table::{Table, pairs};
use crate::app::mending;
use crate::app::network::{self, NetworkRow};
use crate::model::name::Name;
use crate::model::network::{NETWORK_KEYS, Network};

/// Manage networks: bridges, their subnets, translation, DHCP and names
///
/// Containers are on the network that 'nagaya setup' made unless another is said. Each further one
/// is a bridge of its own; guests of different networks reach one another through the host.
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
    /// List the keys that networks have
    ///
    /// Examples:
    ///   nagaya network keys
    #[command(verbatim_doc_comment)]
    Keys(RowsArgs),
    Repair(RepairArgs),
}

/// Make a network
///
/// Its bridge is there at once. Without addresses it gets a private IPv4 subnet and a unique local
/// IPv6 one that the host does not use, both translated to the host's addresses on the way out.
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

/// Show a network's keys, and who is on it with which addresses
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
/// All of them or, where one is refused, none; the host's side changes at once. Guests see another
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

/// Put back what others have changed of bridges, links and firewall
///
/// Of the host's side of all running containers. Where the link itself was deleted, only a restart of
/// the container makes it anew; those are named, and the exit code is 1. nagaya-watch.service runs it when
/// somebody else has changed links or firewall.
///
/// Examples:
///   nagaya network repair
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct RepairArgs {}

/// A network as programs see it.
#[derive(Serialize)]
struct NetworkJson {
    name: String,
    bridge: String,
    /// Its bridge is there.
    up: bool,
    ipv4: Option<String>,
    ipv6: Option<String>,
    /// Sorted by container.
    used_by: Vec<UserJson>,
    config: std::collections::BTreeMap<String, String>,
}

#[derive(Serialize)]
struct UserJson {
    container: String,
    device: String,
    mac: String,
    addresses: Vec<String>,
}

impl From<&NetworkRow> for NetworkJson {
    fn from(row: &NetworkRow) -> Self {
        let network = &row.network;
        let users = row.users.iter().map(|(container, nic)| UserJson {
            container: container.to_string(),
            device: nic.device.clone(),
            mac: nic.mac.to_string(),
            addresses: nic.addresses().map(|ip| ip.to_string()).collect(),
        });
        Self {
            name: network.name.clone(),
            bridge: network.bridge.clone(),
            up: row.up,
            ipv4: network.ipv4.map(|net| net.to_string()),
            ipv6: network.ipv6.map(|net| net.to_string()),
            used_by: users.collect(),
            config: network.config(),
        }
    }
}

pub fn run(args: NetworkArgs) -> CliResult<i32> {
    match args.verb {
        Verb::Create(args) => {
            let network = network::create(&mut super::open_to_make()?, &args.name, &args.pairs)?;
            print(&format!("{}\n", network.name))?;
        }
        Verb::Delete(args) => network::delete(&mut super::open()?, &args.name)?,
        Verb::List(args) => list(args.format)?,
        Verb::Show(args) => show(&args)?,
        Verb::Set(args) => changed(network::set(&mut super::open()?, &args.name, &args.set.pairs)?),
        Verb::Unset(args) => {
            let pairs: Vec<_> = args.unset.keys.into_iter().map(|key| (key, String::new())).collect();
            changed(network::set(&mut super::open()?, &args.name, &pairs)?);
        }
        Verb::Keys(args) => {
            let all = NETWORK_KEYS.iter().map(|(key, default, help)| {
                [Some(*key), Some(*default).filter(|default| !default.is_empty()), Some(*help)]
            });
            keys::list(args.format, &["key", "default", "help"], all)?;
        }
        Verb::Repair(RepairArgs {}) => {
            mending::repair(&mut super::open()?)?.iter().for_each(|what| note(what));
        }
    }
    Ok(DONE)
}

/// What of it is not told by the keys alone.
fn changed((network, waiting): (Network, Vec<Name>)) {
    if !waiting.is_empty() {
        let names: Vec<&str> = waiting.iter().map(Name::as_str).collect();
        let (listed, typed) = (names.join(", "), names.join(" "));
        note(&format!("takes effect at the next start of: {listed} (nagaya restart {typed})"));
    }
    if network.foreign {
        note(&format!("bridge {} is the host's own and stays as it is", network.bridge));
    }
}

fn list(format: RowsFormat) -> CliResult<()> {
    let rows: Vec<NetworkJson> = network::list(&super::open()?)?.iter().map(NetworkJson::from).collect();
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

fn show(args: &ShowArgs) -> CliResult<()> {
    let row = NetworkJson::from(&network::show(&super::open()?, &args.name)?);
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
