use std::collections::BTreeMap;

use super::device::{Type, known};
use crate::api::pairs::Pairs;
use crate::api::profiles::{AddDevice, RemoveDevice, SetDevice, Show};
use crate::app::AppError;
use crate::cli::arguments::keys::{PairsArgs, UnsetKeysArgs, pair};
use crate::cli::arguments::profiles::profile;
use crate::cli::error::{CliResult, DONE};
use crate::cli::output::table::Table;
use crate::cli::output::{RowsArgs, RowsFormat, pending, print, print_rows};
use crate::cli::request::ask;

/// Manage the devices of profiles, which containers that use them have
///
/// A container's own device of the same name counts before a profile's, and a later profile's before an
/// earlier one's. 'nagaya device add NAME DEVICE none' takes a profile's device from one container.
///
/// Examples:
///   nagaya profile device add gold shared disk source=/srv/shared path=/srv/shared readonly=true
///   nagaya profile device list gold
///   nagaya profile device remove gold shared
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ProfileDeviceArgs {
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
}

/// Give a profile one more device
///
/// Running containers that use the profile get it at once; the command tells you which of them get it at
/// their next start. If one of them cannot have it, none gets it. A port of the host's leads to one container,
/// so a profile with a proxy fits one container at a time. Interfaces are each container's own.
///
/// Examples:
///   nagaya profile device add gold shared disk source=/srv/shared path=/srv/shared readonly=true
///   nagaya profile device add gold cache disk source=tmpfs: path=/var/cache/app size=256MiB
///   nagaya profile device add gold kvm unix-char source=/dev/kvm
///   nagaya profile device add web http proxy listen=tcp:0.0.0.0:8080 connect=tcp:127.0.0.1:80
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct AddArgs {
    /// The profile
    profile: String,
    /// The device's name
    device: String,
    /// The kind of device
    #[arg(value_enum)]
    r#type: Type,
    /// Keys and values; 'nagaya device keys TYPE' lists them
    #[arg(value_name = "KEY=VALUE", value_parser = pair)]
    pairs: Vec<(String, String)>,
}

/// Print the value of a key of a profile's device
///
/// Prints nothing if the key has its default.
///
/// Examples:
///   nagaya profile device get gold shared source
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct GetArgs {
    /// The profile
    profile: String,
    /// The device
    device: String,
    /// The key
    key: String,
}

/// Change keys of a profile's device
///
/// Running containers see a changed directory or node at their next start.
///
/// Examples:
///   nagaya profile device set gold shared readonly=false
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct SetArgs {
    /// The profile
    profile: String,
    /// The device
    device: String,
    #[command(flatten)]
    set: PairsArgs,
}

/// Reset keys of a profile's device to their defaults
///
/// Examples:
///   nagaya profile device unset gold shared readonly
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct UnsetArgs {
    /// The profile
    profile: String,
    /// The device
    device: String,
    #[command(flatten)]
    unset: UnsetKeysArgs,
}

/// Take a device from a profile
///
/// Running containers lose it at once. One in which a program uses a directory keeps it until its next start.
///
/// Examples:
///   nagaya profile device remove gold shared
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct RemoveArgs {
    /// The profile
    profile: String,
    /// The device
    device: String,
}

/// List the devices of a profile
///
/// Examples:
///   nagaya profile device list gold
///   nagaya profile device list gold --format json | jq -r '.[].device'
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct ListArgs {
    /// The profile
    profile: String,
    #[command(flatten)]
    rows: RowsArgs,
}

/// A device of a profile.
#[derive(serde::Serialize)]
struct Row {
    device: String,
    r#type: String,
    config: BTreeMap<String, String>,
}

pub fn run(args: ProfileDeviceArgs) -> CliResult<i32> {
    match args.verb {
        Verb::Add(args) => {
            let name = profile(&args.profile)?;
            let disks = Some(&args.pairs[..]).filter(|_| matches!(args.r#type, Type::Disk));
            let mut app = crate::cli::open_with_devices(disks)?;
            let (device, device_type, config) = (args.device, args.r#type.into(), Pairs(args.pairs));
            pending::of_profile(&ask(&mut app, AddDevice { name, device, device_type, config })?);
        }
        Verb::Get(args) => {
            let found = all(&args.profile)?.into_iter().find(|row| row.device == args.device);
            let (profile, device) = (profile(&args.profile)?, args.device);
            let found = found.ok_or(AppError::NoDeviceOfProfile { profile, device })?;
            match found.config.get(&args.key) {
                Some(value) => print(&format!("{value}\n"))?,
                None => known(&found.r#type, &args.key).map_err(AppError::from)?,
            }
        }
        Verb::Set(args) => change(&args.profile, args.device, args.set.pairs, Vec::new())?,
        Verb::Unset(args) => change(&args.profile, args.device, Vec::new(), args.unset.keys)?,
        Verb::Remove(args) => {
            let request = RemoveDevice { name: profile(&args.profile)?, device: args.device };
            pending::of_profile(&ask(&mut crate::cli::open()?, request)?);
        }
        Verb::List(args) => list(&all(&args.profile)?, args.rows.format)?,
    }
    Ok(DONE)
}

fn change(name: &str, device: String, pairs: Vec<(String, String)>, unset: Vec<String>) -> CliResult<()> {
    let name = profile(name)?;
    let mut app = crate::cli::open_with_devices([&pairs[..]])?;
    let request = SetDevice { name, device, config: Pairs(pairs), unset };
    pending::of_profile(&ask(&mut app, request)?);
    Ok(())
}

fn all(name: &str) -> CliResult<Vec<Row>> {
    let found = ask(&mut crate::cli::open()?, Show { name: profile(name)? })?;
    let row = |(device, mut config): (String, BTreeMap<String, String>)| {
        let r#type = config.remove("type").unwrap_or_default();
        Row { device, r#type, config }
    };
    Ok(found.devices.into_iter().map(row).collect())
}

fn list(rows: &[Row], format: RowsFormat) -> CliResult<()> {
    let mut table = Table::new(&["device", "type", "keys"]);
    for row in rows {
        let pairs: Vec<String> = row.config.iter().map(|(key, value)| format!("{key}={value}")).collect();
        table.row(vec![row.device.clone(), row.r#type.clone(), pairs.join(" ")]);
    }
    print_rows(format, &rows, &table)
}
