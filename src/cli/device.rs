use serde::Serialize;

use super::keys::{self, PairsArgs, UnsetKeysArgs, pair};
use super::output::{RowsArgs, RowsFormat, print_rows};
use super::report::{CliResult, DONE, note};
use super::table::Table;
use crate::app::device::{self, Changed};
use crate::model::nic::{NIC_KEYS, Nic};

/// Manage the network interfaces of containers
///
/// Examples:
///   nagaya device add web01 eth1 nic network=dmz ipv4.address=10.20.0.10
///   nagaya device add web01 wan nic nictype=routed ipv4.address=203.0.113.9
///   nagaya device set web01 eth0 limits.egress=100Mbit
///   nagaya device list web01
///   nagaya device remove web01 eth1
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct DeviceArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    Add(AddArgs),
    Set(SetArgs),
    Unset(UnsetArgs),
    #[command(visible_alias = "rm")]
    Remove(RemoveArgs),
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// List the keys that devices have
    ///
    /// Examples:
    ///   nagaya device keys
    #[command(verbatim_doc_comment)]
    Keys(RowsArgs),
}

/// The kinds of device.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Type {
    /// A network interface.
    Nic,
}

/// Give a container one more network interface
///
/// A running container gets it at its next start. Six are the most.
///
/// Examples:
///   nagaya device add web01 eth1 nic network=dmz
///   nagaya device add web01 eth1 nic network=dmz ipv4.address=10.20.0.10 limits.ingress=50Mbit
///   nagaya device add web01 wan nic nictype=routed ipv4.address=203.0.113.9 ipv6.address=2001:db8::9
///   nagaya device add web01 lan nic nictype=macvlan parent=eth0
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct AddArgs {
    /// The container
    name: String,
    /// The device's name
    device: String,
    /// What it is
    #[arg(value_enum)]
    r#type: Type,
    /// Keys and values; 'nagaya device keys' lists them
    #[arg(value_name = "KEY=VALUE", value_parser = pair)]
    pairs: Vec<(String, String)>,
}

/// Change keys of a device
///
/// Rates and isolation change at once, the rest at the container's next start.
///
/// Examples:
///   nagaya device set web01 eth0 limits.ingress=100Mbit limits.egress=20Mbit
///   nagaya device set web01 eth0 ipv4.address=10.20.0.11
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct SetArgs {
    /// The container
    name: String,
    /// The device
    device: String,
    #[command(flatten)]
    set: PairsArgs,
}

/// Reset keys of a device to their defaults
///
/// Examples:
///   nagaya device unset web01 eth0 limits.ingress limits.egress
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct UnsetArgs {
    /// The container
    name: String,
    /// The device
    device: String,
    #[command(flatten)]
    unset: UnsetKeysArgs,
}

/// Remove a device from a container that is stopped, or that has yet to get it
///
/// Examples:
///   nagaya device remove web01 eth1
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct RemoveArgs {
    /// The container
    name: String,
    /// The device
    device: String,
}

/// List the devices of a container
///
/// Examples:
///   nagaya device list web01
///   nagaya device list web01 --format json | jq '.[0].config'
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct ListArgs {
    /// The container
    name: String,
    #[command(flatten)]
    rows: RowsArgs,
}

#[derive(Serialize)]
struct DeviceJson {
    device: String,
    #[serde(rename = "type")]
    kind: &'static str,
    nictype: &'static str,
    interface: String,
    network: Option<String>,
    mac: String,
    addresses: Vec<String>,
    config: std::collections::BTreeMap<String, String>,
}

impl From<&Nic> for DeviceJson {
    fn from(nic: &Nic) -> Self {
        let (ipv4, ipv6) = (nic.ipv4.map(|net| net.to_string()), nic.ipv6.map(|net| net.to_string()));
        Self {
            device: nic.device.clone(),
            kind: "nic",
            nictype: nic.kind.as_str(),
            interface: nic.name.clone(),
            network: nic.network().map(str::to_owned),
            mac: nic.mac.to_string(),
            addresses: ipv4.into_iter().chain(ipv6).collect(),
            config: nic.config(),
        }
    }
}

pub fn run(args: DeviceArgs) -> CliResult<i32> {
    match args.verb {
        Verb::Add(args) => {
            let (name, Type::Nic) = (super::name(&args.name)?, args.r#type);
            tell(&args.name, &device::add(&mut super::open()?, &name, &args.device, &args.pairs)?);
        }
        Verb::Set(args) => {
            let name = super::name(&args.name)?;
            tell(&args.name, &device::set(&mut super::open()?, &name, &args.device, &args.set.pairs, &[])?);
        }
        Verb::Unset(args) => {
            let name = super::name(&args.name)?;
            tell(&args.name, &device::set(&mut super::open()?, &name, &args.device, &[], &args.unset.keys)?);
        }
        Verb::Remove(args) => device::remove(&mut super::open()?, &super::name(&args.name)?, &args.device)?,
        Verb::List(args) => {
            let nics = device::list(&super::open()?, &super::name(&args.name)?)?;
            list(&nics, args.rows.format)?;
        }
        Verb::Keys(args) => {
            let all = NIC_KEYS.iter().map(|(key, default, help)| {
                [Some(*key), Some(*default).filter(|default| !default.is_empty()), Some(*help)]
            });
            keys::list(args.format, &["key", "default", "help"], all)?;
        }
    }
    Ok(DONE)
}

fn tell(name: &str, changed: &Changed) {
    if changed.pending {
        note(&format!("{} takes effect at the next start: nagaya restart {name}", changed.nic.device));
    }
}

fn list(nics: &[Nic], format: RowsFormat) -> CliResult<()> {
    let rows: Vec<DeviceJson> = nics.iter().map(DeviceJson::from).collect();
    let mut table = Table::new(&["device", "type", "nictype", "interface", "network", "mac", "addresses"]);
    for row in &rows {
        table.row(vec![
            row.device.clone(),
            row.kind.to_owned(),
            row.nictype.to_owned(),
            row.interface.clone(),
            row.network.clone().unwrap_or_default(),
            row.mac.clone(),
            row.addresses.join(" "),
        ]);
    }
    print_rows(format, &rows, &table)
}
