use std::collections::BTreeMap;

use super::firewall::caution;
use crate::api::devices::{Add, Changed, Device, List, Remove, Set};
use crate::api::pairs::Pairs;
use crate::app::AppError;
use crate::cli::arguments::keys;
use crate::cli::arguments::keys::{PairsArgs, UnsetKeysArgs, pair};
use crate::cli::error::{CliResult, DONE};
use crate::cli::output::table::Table;
use crate::cli::output::{Format, FormatArgs, RowsArgs, RowsFormat, note, print, print_json, print_rows};
use crate::cli::request::ask;
use crate::model::device::{DISK_KEYS, DeviceType, PROXY_KEYS, UNIX_CHAR_KEYS};
use crate::model::keys::KeyError;
use crate::model::nic::NIC_KEYS;

/// Manage the devices of containers: interfaces, directories of the host, device nodes
///
/// Examples:
///   nagaya device add web01 eth1 nic network=dmz ipv4.address=10.20.0.10
///   nagaya device add web01 data disk source=/srv/web01 path=/srv
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
    Get(GetArgs),
    Set(SetArgs),
    Unset(UnsetArgs),
    #[command(visible_alias = "rm")]
    Remove(RemoveArgs),
    #[command(visible_alias = "ls")]
    List(ListArgs),
    Show(ShowArgs),
    Keys(KeysArgs),
}

/// The kinds of device.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(super) enum Type {
    /// A network interface.
    Nic,
    /// A directory of the host's, or an empty one in memory.
    Disk,
    /// A device node of the host's: /dev/fuse, /dev/kvm or /dev/net/tun.
    UnixChar,
    /// A port of the host's that leads to the container.
    Proxy,
    /// No device, although a profile of the container has one of that name.
    None,
}

impl From<Type> for DeviceType {
    fn from(of: Type) -> Self {
        match of {
            Type::Nic => Self::Nic,
            Type::Disk => Self::Disk,
            Type::UnixChar => Self::UnixChar,
            Type::Proxy => Self::Proxy,
            Type::None => Self::None,
        }
    }
}

/// Give a container one more device
///
/// A running container gets it at once. A container has at most 6 interfaces and 16 other devices.
///
/// A directory of the host's is the guest's root's as far as it is its owner's: for an ordinary user
/// as far as it is the user's own. Whose other files are in it the guest does not see.
///
/// Type 'none' takes from the container the device of that name that a profile gives it.
///
/// Examples:
///   nagaya device add web01 eth1 nic network=dmz
///   nagaya device add web01 eth1 nic network=dmz ipv4.address=10.20.0.10 limits.ingress=50Mbit
///   nagaya device add web01 wan nic nictype=routed ipv4.address=203.0.113.9 ipv6.address=2001:db8::9
///   nagaya device add web01 lan nic nictype=macvlan parent=eth0
///   nagaya device add web01 site disk source=/srv/www path=/var/www readonly=true
///   nagaya device add web01 cache disk source=tmpfs: path=/var/cache/app size=256MiB
///   nagaya device add web01 kvm unix-char source=/dev/kvm
///   nagaya device add web01 http proxy listen=tcp:0.0.0.0:8080 connect=tcp:127.0.0.1:80
///   nagaya device add web01 shared none
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct AddArgs {
    /// The container
    name: String,
    /// The device's name
    device: String,
    /// The kind of device
    #[arg(value_enum)]
    r#type: Type,
    /// Keys and values; 'nagaya device keys TYPE' lists them
    #[arg(value_name = "KEY=VALUE", value_parser = pair)]
    pairs: Vec<(String, String)>,
}

/// List the keys of a kind of device
///
/// Examples:
///   nagaya device keys
///   nagaya device keys disk
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct KeysArgs {
    /// The kind of device
    #[arg(value_enum, default_value = "nic")]
    r#type: Type,
    #[command(flatten)]
    rows: RowsArgs,
}

/// Print the value of a key of a device
///
/// Prints nothing if the key has its default.
///
/// Examples:
///   nagaya device get web01 data source
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct GetArgs {
    /// The container
    name: String,
    /// The device
    device: String,
    /// The key
    key: String,
}

/// Show the keys of all devices of a container
///
/// Examples:
///   nagaya device show web01
///   nagaya device show web01 --format json
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct ShowArgs {
    /// The container
    name: String,
    #[command(flatten)]
    format: FormatArgs,
}

/// Change keys of a device
///
/// Rates and isolation change at once, other keys at the container's next start.
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

/// Remove a device from a container
///
/// A running guest loses it at once. A directory that a program in the guest uses stays, unless you
/// say --force. What the guest's root has kept of a directory by other mounts ends with the guest.
///
/// Examples:
///   nagaya device remove web01 eth1
///   nagaya device remove web01 data --force
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct RemoveArgs {
    /// The container
    name: String,
    /// The device
    device: String,
    /// Take a directory away although a program in the guest uses it
    #[arg(long)]
    force: bool,
}

/// List the devices of a container
///
/// Lists those that it has by its profiles too.
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

pub fn run(args: DeviceArgs) -> CliResult<i32> {
    match args.verb {
        Verb::Add(args) => {
            let name = crate::cli::name(&args.name)?;
            let caution = caution(false);
            let disks = Some(&args.pairs[..]).filter(|_| matches!(args.r#type, Type::Disk));
            let mut app = crate::cli::open_with_devices(disks)?;
            let (device, device_type, config) = (args.device, args.r#type.into(), Pairs(args.pairs));
            tell(&args.name, &ask(&mut app, Add { name, device, device_type, config, caution })?);
        }
        Verb::Get(args) => {
            let device = one(&args.name, &args.device)?;
            if let Some(value) = device.config.get(&args.key) {
                print(&format!("{value}\n"))?;
            } else {
                known(device.kind, &args.key).map_err(AppError::from)?;
            }
        }
        Verb::Set(args) => change(&args.name, args.device, args.set.pairs, Vec::new())?,
        Verb::Unset(args) => change(&args.name, args.device, Vec::new(), args.unset.keys)?,
        Verb::Remove(args) => {
            let name = crate::cli::name(&args.name)?;
            ask(&mut crate::cli::open()?, Remove { name, device: args.device, force: args.force })?;
        }
        Verb::List(args) => list(&all(&args.name)?, args.rows.format)?,
        Verb::Show(args) => show(&all(&args.name)?, args.format.format)?,
        Verb::Keys(KeysArgs { r#type, rows }) => match r#type {
            Type::Nic => keys::list(rows.format, &NIC_KEYS)?,
            Type::Disk => keys::list(rows.format, &DISK_KEYS)?,
            Type::UnixChar => keys::list(rows.format, &UNIX_CHAR_KEYS)?,
            Type::Proxy => keys::list(rows.format, &PROXY_KEYS)?,
            Type::None => note("a device of type none has no keys"),
        },
    }
    Ok(DONE)
}

fn all(container: &str) -> CliResult<Vec<Device>> {
    let name = crate::cli::name(container)?;
    ask(&mut crate::cli::open()?, List { name })
}

fn one(container: &str, device: &str) -> CliResult<Device> {
    let found = all(container)?.into_iter().find(|other| other.device == device);
    let container = crate::cli::name(container)?;
    Ok(found.ok_or_else(|| AppError::NoDevice { container, device: device.to_owned() })?)
}

/// Whether devices of that kind have the key at all.
pub(super) fn known(kind: &str, key: &str) -> Result<(), KeyError> {
    match kind {
        "disk" => DISK_KEYS.known(key).map(drop),
        "unix-char" => UNIX_CHAR_KEYS.known(key).map(drop),
        "proxy" => PROXY_KEYS.known(key).map(drop),
        "none" => Err(KeyError::not_set(key)),
        _ => NIC_KEYS.known(key).map(drop),
    }
}

fn change(
    container: &str,
    device: String,
    pairs: Vec<(String, String)>,
    unset: Vec<String>,
) -> CliResult<()> {
    let (name, caution) = (crate::cli::name(container)?, caution(false));
    let mut app = crate::cli::open_with_devices([&pairs[..]])?;
    let changed = ask(&mut app, Set { name, device, config: Pairs(pairs), unset, caution })?;
    tell(container, &changed);
    Ok(())
}

pub(super) fn tell(name: &str, changed: &Changed) {
    if changed.pending {
        note(&format!("{} takes effect at the next start: nagaya restart {name}", changed.device.device));
    }
}

fn list(rows: &[Device], format: RowsFormat) -> CliResult<()> {
    let mut table =
        Table::new(&["device", "type", "what", "where", "network", "mac", "addresses", "profile"]);
    for row in rows {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        table.row(vec![
            row.device.clone(),
            row.kind.to_owned(),
            row.source.clone().or(row.nictype.map(str::to_owned)).unwrap_or_default(),
            row.path.clone().or(row.interface.clone()).unwrap_or_default(),
            text(&row.network),
            text(&row.mac),
            row.addresses.join(" "),
            row.profile.as_ref().map(ToString::to_string).unwrap_or_default(),
        ]);
    }
    print_rows(format, &rows, &table)
}

fn show(all: &[Device], format: Format) -> CliResult<()> {
    if format == Format::Json {
        let by_name: BTreeMap<&str, &Device> =
            all.iter().map(|device| (device.device.as_str(), device)).collect();
        return print_json(&by_name);
    }
    let mut text = String::new();
    for device in all {
        text += &format!("{}: {}\n", device.device, device.kind);
        for (key, value) in &device.config {
            text += &format!("  {key}={value}\n");
        }
    }
    print(&text)
}
