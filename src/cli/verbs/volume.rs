use std::path::Path;

use super::device;
use crate::api::devices::{Add, Device, List, Remove};
use crate::api::firewall::Caution;
use crate::api::pairs::Pairs;
use crate::api::storage::{
    CreateVolume, DeleteVolume, ListVolumes, RenameVolume, SetVolume, ShowVolume, Volume,
};
use crate::app::AppError;
use crate::cli::arguments::keys::{self, UnsetKeysArgs, pair};
use crate::cli::error::{CliResult, DONE};
use crate::cli::output::table::{Table, pairs};
use crate::cli::output::text::size;
use crate::cli::output::{Format, FormatArgs, RowsArgs, RowsFormat, print, print_json, print_rows};
use crate::cli::request::ask;
use crate::model::device::DeviceType;
use crate::model::pool::{PoolName, VOLUME_KEYS, VolumeName};

/// Manage volumes: data that outlives containers
///
/// A volume is a directory in a storage pool. Containers have it as a disk, several at once if you
/// want, and their roots own what is in it. It stays when they are deleted, rebuilt, or put back to a
/// snapshot.
///
/// The keys size and inodes bound what may be in it, where the pool's file system can do that.
///
/// Examples:
///   nagaya storage volume create default mail size=100GiB
///   nagaya storage volume attach default mail web01 /var/mail
///   nagaya storage volume set default mail size=200GiB
///   nagaya storage volume detach default mail web01
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct VolumeArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    Create(CreateArgs),
    #[command(visible_alias = "ls")]
    List(ListArgs),
    Show(ShowArgs),
    Set(SetArgs),
    Unset(UnsetArgs),
    Rename(RenameArgs),
    #[command(visible_alias = "rm")]
    Delete(DeleteArgs),
    Attach(AttachArgs),
    Detach(DetachArgs),
    /// List the keys of volumes
    ///
    /// Examples:
    ///   nagaya storage volume keys
    #[command(verbatim_doc_comment)]
    Keys(RowsArgs),
}

/// Make an empty volume
///
/// Examples:
///   nagaya storage volume create default mail
///   nagaya storage volume create fast db size=50GiB --description "the shop's database"
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct CreateArgs {
    /// The storage pool
    pool: PoolName,
    /// The volume's name
    volume: VolumeName,
    /// Keys and values; 'nagaya storage volume keys' lists them
    #[arg(value_name = "KEY=VALUE", value_parser = pair)]
    pairs: Vec<(String, String)>,
    /// A line for people
    #[arg(long, default_value = "", hide_default_value = true)]
    description: String,
}

/// List volumes, of one pool or of all
///
/// Examples:
///   nagaya storage volume list
///   nagaya storage volume list fast --format json
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct ListArgs {
    /// The storage pool [default: all]
    pool: Option<PoolName>,
    #[command(flatten)]
    shown: RowsArgs,
}

/// Show a volume: its keys, what it takes of the disk, and what has it
///
/// Examples:
///   nagaya storage volume show default mail
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct ShowArgs {
    /// The storage pool
    pool: PoolName,
    /// The volume
    volume: VolumeName,
    #[command(flatten)]
    shown: FormatArgs,
}

/// Change a volume
///
/// A limit holds at once, also in running containers. It cannot be below what is in the volume.
///
/// Examples:
///   nagaya storage volume set default mail size=200GiB
///   nagaya storage volume set default mail --description "the mail of all customers"
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct SetArgs {
    /// The storage pool
    pool: PoolName,
    /// The volume
    volume: VolumeName,
    /// Keys and values; 'nagaya storage volume keys' lists them
    #[arg(value_name = "KEY=VALUE", value_parser = pair, required_unless_present = "description")]
    pairs: Vec<(String, String)>,
    /// A line for people
    #[arg(long)]
    description: Option<String>,
}

/// Take limits from a volume
///
/// Examples:
///   nagaya storage volume unset default mail size
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct UnsetArgs {
    /// The storage pool
    pool: PoolName,
    /// The volume
    volume: VolumeName,
    #[command(flatten)]
    unset: UnsetKeysArgs,
}

/// Give a volume that nothing has another name
///
/// Examples:
///   nagaya storage volume rename default mail post
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct RenameArgs {
    /// The storage pool
    pool: PoolName,
    /// The volume
    volume: VolumeName,
    /// Its name from now on
    new_name: VolumeName,
}

/// Delete a volume that nothing has, with all that is in it
///
/// Examples:
///   nagaya storage volume delete default mail
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct DeleteArgs {
    /// The storage pool
    pool: PoolName,
    /// The volume
    volume: VolumeName,
}

/// Give a container a volume as a disk
///
/// A running container has it at once. 'nagaya device add NAME DEVICE disk pool=POOL source=VOLUME
/// path=PATH' is the same, and 'nagaya profile device add' gives it to all containers of a profile.
///
/// Examples:
///   nagaya storage volume attach default mail web01 /var/mail
///   nagaya storage volume attach default mail web01 maildisk /var/mail --readonly
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct AttachArgs {
    /// The storage pool
    pool: PoolName,
    /// The volume
    volume: VolumeName,
    /// The container
    name: String,
    /// The device's name [default: the volume's], and where it is in the guest
    #[arg(value_name = "[DEVICE] PATH", num_args = 1..=2, required = true)]
    place: Vec<String>,
    /// The guest may only read it
    #[arg(long)]
    readonly: bool,
}

/// Take a volume away from a container
///
/// What is in the volume stays.
///
/// Examples:
///   nagaya storage volume detach default mail web01
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct DetachArgs {
    /// The storage pool
    pool: PoolName,
    /// The volume
    volume: VolumeName,
    /// The container
    name: String,
    /// Take it away also while programs use it: they keep it until they end
    #[arg(long)]
    force: bool,
}

pub fn run(args: VolumeArgs) -> CliResult<i32> {
    match args.verb {
        Verb::Create(CreateArgs { pool, volume: name, pairs, description }) => {
            let create = CreateVolume { pool, name, config: Pairs(pairs), description };
            ask(&mut crate::cli::open_to_make()?, create)?;
        }
        Verb::List(args) => list(args.pool, args.shown.format)?,
        Verb::Show(args) => show(args)?,
        Verb::Set(SetArgs { pool, volume: name, pairs, description }) => {
            let set = SetVolume { pool, name, config: Pairs(pairs), unset: Vec::new(), description };
            ask(&mut crate::cli::open()?, set)?;
        }
        Verb::Unset(UnsetArgs { pool, volume: name, unset }) => {
            let config = Pairs::default();
            ask(
                &mut crate::cli::open()?,
                SetVolume { pool, name, config, unset: unset.keys, description: None },
            )?;
        }
        Verb::Rename(RenameArgs { pool, volume: name, new_name }) => {
            ask(&mut crate::cli::open()?, RenameVolume { pool, name, new_name })?;
        }
        Verb::Delete(DeleteArgs { pool, volume: name }) => {
            ask(&mut crate::cli::open()?, DeleteVolume { pool, name })?;
        }
        Verb::Attach(args) => attach(&args)?,
        Verb::Detach(args) => detach(&args)?,
        Verb::Keys(args) => keys::list(args.format, &VOLUME_KEYS)?,
    }
    Ok(DONE)
}

fn list(pool: Option<PoolName>, format: RowsFormat) -> CliResult<()> {
    let rows = ask(&mut crate::cli::open()?, ListVolumes { pool })?;
    let mut table = Table::new(&["pool", "name", "size", "used_by", "description"]);
    for row in &rows {
        table.row(vec![
            row.pool.to_string(),
            row.name.to_string(),
            row.config.get("size").cloned().unwrap_or_default(),
            row.used_by.join(", "),
            row.description.clone(),
        ]);
    }
    print_rows(format, &rows, &table)
}

fn show(args: ShowArgs) -> CliResult<()> {
    let found = ask(&mut crate::cli::open()?, ShowVolume { pool: args.pool, name: args.volume })?;
    match args.shown.format {
        Format::Json => print_json(&found),
        Format::Table => print(&sheet(&found)),
    }
}

fn sheet(volume: &Volume) -> String {
    let mut lines = vec![("Name", volume.name.to_string()), ("Storage", volume.pool.to_string())];
    if !volume.description.is_empty() {
        lines.push(("Description", volume.description.clone()));
    }
    lines.push(("Created", volume.created_at.to_string()));
    if let (Some(bytes), Some(files)) = (volume.bytes, volume.files) {
        lines.push(("Taken", format!("{} in {files} files", size(bytes))));
    }
    lines.extend(volume.config.iter().map(|(key, value)| (key.as_str(), value.clone())));
    if !volume.used_by.is_empty() {
        lines.push(("Used by", volume.used_by.join(", ")));
    }
    pairs(&lines)
}

fn attach(args: &AttachArgs) -> CliResult<()> {
    let AttachArgs { pool, volume, name, place, readonly } = args;
    let (device, path) = match place.as_slice() {
        [device, path] => (device.clone(), path),
        [path] => (volume.to_string(), path),
        _ => unreachable!("clap takes one or two"),
    };
    let mut config = vec![
        ("pool".to_owned(), pool.to_string()),
        ("source".to_owned(), volume.to_string()),
        ("path".to_owned(), Path::new(path).to_string_lossy().into_owned()),
    ];
    if *readonly {
        config.push(("readonly".to_owned(), "true".to_owned()));
    }
    let container = crate::cli::name(name)?;
    let (device_type, config, caution) = (DeviceType::Disk, Pairs(config), Caution::default());
    let changed =
        ask(&mut crate::cli::open()?, Add { name: container, device, device_type, config, caution })?;
    device::tell(name, &changed);
    Ok(())
}

fn detach(args: &DetachArgs) -> CliResult<()> {
    let DetachArgs { pool, volume, name, force } = args;
    let container = crate::cli::name(name)?;
    let mut app = crate::cli::open()?;
    let is =
        |device: &Device, key: &str, value: &str| device.config.get(key).is_some_and(|found| found == value);
    let all = ask(&mut app, List { name: container.clone() })?;
    let own: Vec<Device> = all
        .into_iter()
        .filter(|device| is(device, "pool", pool.as_str()) && is(device, "source", volume.as_str()))
        .collect();
    if own.is_empty() {
        return Err(
            AppError::Refused(format!("'{name}' does not have volume '{volume}' of pool '{pool}'")).into()
        );
    }
    for device in own {
        ask(&mut app, Remove { name: container.clone(), device: device.device, force: *force })?;
    }
    Ok(())
}
