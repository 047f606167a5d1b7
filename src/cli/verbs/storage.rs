use std::path::Path;

use super::volume::{self, VolumeArgs};
use crate::api::snapshots::Optimize;
use crate::api::storage::{Create, Delete, Disk, List, Pool, Set, Show};
use crate::app::AppError;
use crate::cli::arguments::names::Containers;
use crate::cli::error::{CliResult, DONE};
use crate::cli::output::table::{Table, pairs};
use crate::cli::output::text::size;
use crate::cli::output::{Format, FormatArgs, RowsArgs, RowsFormat, note, print, print_json, print_rows};
use crate::cli::request::ask;
use crate::cli::several::share;
use crate::model::name::Name;
use crate::model::pool::PoolName;

/// Manage storage pools, and look after what containers are stored in
///
/// A pool is a directory with containers' files, on some file system. The pool 'default' is always
/// there and has the templates, too; others put containers on other disks.
///
/// Examples:
///   nagaya storage create fast /srv/nvme
///   nagaya launch debian12 db01 --storage fast
///   nagaya storage list
///   nagaya storage show fast
///   nagaya storage volume create fast mail size=100GiB
///   nagaya storage volume attach fast mail web01 /var/mail
///   nagaya storage optimize web01
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct StorageArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    Create(CreateArgs),
    /// List storage pools
    ///
    /// Examples:
    ///   nagaya storage list
    ///   nagaya storage list --format json | jq -r '.[].path'
    #[command(verbatim_doc_comment, visible_alias = "ls")]
    List(RowsArgs),
    Show(ShowArgs),
    Set(SetArgs),
    #[command(visible_alias = "rm")]
    Delete(DeleteArgs),
    Volume(VolumeArgs),
    Optimize(OptimizeArgs),
}

/// Make a storage pool in a directory that is there
///
/// The pool is a new directory in it, which belongs to the containers' ids. Nobody but root may be able
/// to write to the directory that you name, and all may pass through those above it. An ordinary user
/// names a directory that the administrator has granted: nagaya grant NAME pools=/srv/nvme.
///
/// Examples:
///   nagaya storage create fast /srv/nvme
///   nagaya storage create archive /mnt/big --description "slow disks"
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct CreateArgs {
    /// Its name
    name: PoolName,
    /// The directory
    #[arg(value_hint = clap::ValueHint::AnyPath)]
    directory: String,
    /// A line for people
    #[arg(long, default_value = "", hide_default_value = true)]
    description: String,
}

/// Show a storage pool: what its file system can do, how full it is, and which containers are in it
///
/// Examples:
///   nagaya storage show default
///   nagaya storage show fast --format json | jq '.disk.free'
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct ShowArgs {
    /// The pool
    pool: PoolName,
    #[command(flatten)]
    shown: FormatArgs,
}

/// Change what is said of a storage pool
///
/// Examples:
///   nagaya storage set fast --description "two disks, mirrored"
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct SetArgs {
    /// The pool
    pool: PoolName,
    /// A line for people
    #[arg(long)]
    description: String,
}

/// Delete a storage pool in which no container is
///
/// Examples:
///   nagaya storage delete fast
///   nagaya storage delete fast --lost        its disk is gone for good, and so are its containers
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct DeleteArgs {
    /// The pool
    pool: PoolName,
    /// Delete a pool whose disk is gone, with the containers in it
    #[arg(long)]
    lost: bool,
}

/// Merge the layers that stopped containers stand on
///
/// Each snapshot and each copy of a stopped container leaves it with a layer more. Merged, they are one
/// directory that the container has of its own: it takes the disk of all that they hold, files are
/// found as fast as in a new container, and directories can be renamed in one step. Snapshots and
/// copies that stand on the same layers keep them.
///
/// Examples:
///   nagaya storage optimize web01
///   nagaya storage optimize --all
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct OptimizeArgs {
    #[command(flatten)]
    which: Containers,
}

pub fn run(args: StorageArgs) -> CliResult<i32> {
    match args.verb {
        Verb::Create(args) => create(args)?,
        Verb::List(args) => list(args.format)?,
        Verb::Show(args) => show(&args)?,
        Verb::Set(SetArgs { pool, description }) => {
            ask(&mut crate::cli::open()?, Set { name: pool, description })?;
        }
        Verb::Delete(args) => ask(&mut crate::cli::open()?, Delete { name: args.pool, lost: args.lost })?,
        Verb::Volume(args) => return volume::run(args),
        Verb::Optimize(args) => return optimize(&args),
    }
    Ok(DONE)
}

fn create(args: CreateArgs) -> CliResult<()> {
    let CreateArgs { name, directory, description } = args;
    let directory = absolute(&directory);
    if !Path::new(&directory).is_dir() {
        let (what, fix) =
            (format!("there is no directory {directory}"), format!("make it first: mkdir {directory}"));
        return Err(AppError::advised(what, fix).into());
    }
    let mut app = crate::cli::open_with_directory(&directory)?;
    let made = ask(&mut app, Create { name, directory, description })?;
    note(&format!(
        "{} has {} free",
        made.path,
        made.disk.map_or_else(|| "?".to_owned(), |disk| size(disk.free))
    ));
    Ok(())
}

/// The directory as the pool's record names it.
fn absolute(directory: &str) -> String {
    let path = std::path::absolute(directory).map(|path| path.to_string_lossy().into_owned());
    let path = path.unwrap_or_else(|_| directory.to_owned());
    path.strip_suffix('/').filter(|path| !path.is_empty()).map(str::to_owned).unwrap_or(path)
}

fn list(format: RowsFormat) -> CliResult<()> {
    let rows = ask(&mut crate::cli::open()?, List {})?;
    let mut table = Table::new(&["name", "filesystem", "size", "free", "used_by", "path", "description"]);
    for row in &rows {
        let of_disk = |text: fn(&Disk) -> String| row.disk.as_ref().map(text).unwrap_or_default();
        table.row(vec![
            row.name.to_string(),
            match &row.disk {
                Some(disk) => disk.filesystem.clone().unwrap_or_default(),
                None => "(not there)".to_owned(),
            },
            of_disk(|disk| size(disk.size)),
            of_disk(|disk| size(disk.free)),
            row.used_by.len().to_string(),
            row.path.clone(),
            row.description.clone(),
        ]);
    }
    print_rows(format, &rows, &table)
}

fn show(args: &ShowArgs) -> CliResult<()> {
    let found = ask(&mut crate::cli::open()?, Show { name: args.pool.clone() })?;
    match args.shown.format {
        Format::Json => print_json(&found),
        Format::Table => print(&sheet(&found)),
    }
}

fn sheet(pool: &Pool) -> String {
    let mut lines = vec![("Name", pool.name.to_string()), ("Path", pool.path.clone())];
    if !pool.description.is_empty() {
        lines.push(("Description", pool.description.clone()));
    }
    match &pool.disk {
        Some(disk) => lines.extend(of_disk(disk)),
        None => lines.push(("File system", "not there: is its disk mounted?".to_owned())),
    }
    let users: Vec<&str> = pool.used_by.iter().map(Name::as_str).collect();
    if !users.is_empty() {
        lines.push(("Used by", users.join(", ")));
    }
    pairs(&lines)
}

fn of_disk(disk: &Disk) -> Vec<(&'static str, String)> {
    let can =
        |yes: bool, then: &str, otherwise: &str| if yes { then.to_owned() } else { otherwise.to_owned() };
    let mut lines = vec![
        ("File system", disk.filesystem.clone().unwrap_or_default()),
        ("Space", format!("{} free of {}", size(disk.free), size(disk.size))),
    ];
    if disk.inodes > 0 {
        lines.push(("Inodes", format!("{} free of {}", disk.free_inodes, disk.inodes)));
    }
    lines.push(("Quota", can(disk.quota, "yes: root,size=10GiB holds", "no: roots cannot be bounded")));
    lines.push(("Reflink", can(disk.reflink, "yes: copies share blocks", "no: files are copied whole")));
    lines
}

fn optimize(args: &OptimizeArgs) -> CliResult<i32> {
    share::each(&args.which, |app, name| {
        let count = ask(app, Optimize { container: name.clone() })?;
        note(&match count {
            0 => format!("{name} stands on its template alone"),
            1 => format!("{name}: 1 layer was merged"),
            count => format!("{name}: {count} layers were merged"),
        });
        Ok(())
    })
}
