use crate::api::snapshots::{Create, Delete, Expire, List, Made, Rename, Restore, Show, Snapshot};
use crate::cli::error::{CliResult, DONE};
use crate::cli::output::table::{Table, pairs};
use crate::cli::output::text::size;
use crate::cli::output::{Format, FormatArgs, RowsFormat, note, print, print_json, print_rows, time};
use crate::cli::request::ask;
use crate::cli::verbs::stop::StopHow;
use crate::model::firewall::duration;
use crate::model::snapshot::SnapshotName;
use crate::model::time::Timestamp;

/// Make snapshots of containers, and go back to them
///
/// A snapshot keeps a container's root filesystem and its configuration as they are at a moment. It
/// shares all data with the container, and takes disk only for what changes later.
///
/// Of a stopped container it is made at once, whatever its size: what the container has written becomes
/// a layer that never changes, and the container goes on above it. Two things differ in the guest from
/// then on: a directory that is in a layer cannot be renamed in one step (programs get 'EXDEV' and copy
/// it, as mv does), and 64 layers are the most. 'nagaya storage optimize' takes both back.
///
/// A running container is copied while it runs; then it is frozen for the moment that it takes to copy
/// what has changed meanwhile. Such a snapshot is what a power cut would leave on the disk: databases
/// recover from it as from that.
///
/// Examples:
///   nagaya snapshot create web01 before-upgrade
///   nagaya snapshot list web01
///   nagaya snapshot restore web01 before-upgrade --stop
///   nagaya copy web01/before-upgrade web02
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct SnapshotArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    Create(CreateArgs),
    #[command(visible_alias = "ls")]
    List(ListArgs),
    Show(ShowArgs),
    Restore(RestoreArgs),
    Rename(RenameArgs),
    Expire(ExpireArgs),
    #[command(visible_alias = "rm")]
    Delete(DeleteArgs),
}

/// Make a snapshot of a container
///
/// Prints the snapshot's name.
///
/// Examples:
///   nagaya snapshot create web01
///   nagaya snapshot create web01 before-upgrade --comment 'PHP 8.2' --expires 14d
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct CreateArgs {
    /// The container
    name: String,
    /// The snapshot's name [default: as 'snapshots.pattern' has it: snap0, snap1 and so on]
    #[arg(value_parser = SnapshotName::new)]
    snapshot: Option<SnapshotName>,
    /// What it is for
    #[arg(long, value_parser = comment)]
    comment: Option<String>,
    /// Delete it by itself after this time: 12h, 14d, 8w
    #[arg(long, value_name = "TIME", value_parser = span)]
    expires: Option<u64>,
}

/// List the snapshots of a container
///
/// Examples:
///   nagaya snapshot list web01
///   nagaya snapshot list web01 --format json | jq -r '.[].name'
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct ListArgs {
    /// The container
    name: String,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "table")]
    format: RowsFormat,
}

/// Show all about a snapshot, with the disk that it takes
///
/// Examples:
///   nagaya snapshot show web01 before-upgrade
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct ShowArgs {
    /// The container
    name: String,
    /// The snapshot
    #[arg(value_parser = SnapshotName::new)]
    snapshot: SnapshotName,
    #[command(flatten)]
    shown: FormatArgs,
}

/// Go back to a snapshot
///
/// The container's root filesystem and its keys are again what they were. What it has written since is
/// lost, unless you make another snapshot first. Its name, its interfaces and its addresses stay.
///
/// Examples:
///   nagaya snapshot restore web01 before-upgrade
///   nagaya snapshot restore web01 before-upgrade --stop
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct RestoreArgs {
    /// The container
    name: String,
    /// The snapshot
    #[arg(value_parser = SnapshotName::new)]
    snapshot: SnapshotName,
    /// If it runs, shut it down for that, and start it again afterwards
    #[arg(long)]
    stop: bool,
    #[command(flatten)]
    how: StopHow,
}

/// Give a snapshot another name
///
/// Examples:
///   nagaya snapshot rename web01 snap0 before-upgrade
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct RenameArgs {
    /// The container
    name: String,
    /// The snapshot
    #[arg(value_parser = SnapshotName::new)]
    snapshot: SnapshotName,
    /// Its new name
    #[arg(value_parser = SnapshotName::new)]
    new_name: SnapshotName,
}

/// Set when a snapshot is deleted by itself
///
/// Examples:
///   nagaya snapshot expire web01 before-upgrade 14d
///   nagaya snapshot expire web01 before-upgrade never
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct ExpireArgs {
    /// The container
    name: String,
    /// The snapshot
    #[arg(value_parser = SnapshotName::new)]
    snapshot: SnapshotName,
    /// After this time from now: 12h, 14d, 8w; or 'never'
    #[arg(value_name = "TIME", value_parser = span_or_never)]
    after: Span,
}

/// Delete snapshots of a container
///
/// What only they have is freed in the background.
///
/// Examples:
///   nagaya snapshot delete web01 before-upgrade
///   nagaya snapshot delete web01 snap0 snap1
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct DeleteArgs {
    /// The container
    name: String,
    /// The snapshots
    #[arg(required = true, value_parser = SnapshotName::new)]
    snapshots: Vec<SnapshotName>,
}

#[derive(Clone, Copy)]
enum Span {
    Never,
    Seconds(u64),
}

fn span(text: &str) -> Result<u64, String> {
    duration::seconds(text).ok_or_else(|| format!("'{text}' is not a time such as 12h, 14d or 8w"))
}

fn span_or_never(text: &str) -> Result<Span, String> {
    match text {
        "never" => Ok(Span::Never),
        text => span(text).map(Span::Seconds),
    }
}

fn comment(text: &str) -> Result<String, String> {
    const MOST: usize = crate::model::snapshot::MOST_COMMENT;
    match text.len() {
        0..=MOST => Ok(text.to_owned()),
        _ => Err(format!("a comment has {MOST} bytes at most")),
    }
}

fn from_now(seconds: u64) -> Timestamp {
    Timestamp(time::now().saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX)))
}

pub fn run(args: SnapshotArgs) -> CliResult<i32> {
    match args.verb {
        Verb::Create(args) => create(args)?,
        Verb::List(args) => list(&args)?,
        Verb::Show(args) => show(args)?,
        Verb::Restore(args) => {
            let request = Restore {
                container: crate::cli::name(&args.name)?,
                name: args.snapshot,
                stop: (args.stop || args.how.is_forced()).then(|| args.how.ending()),
            };
            ask(&mut crate::cli::open()?, request)?;
        }
        Verb::Rename(args) => {
            let container = crate::cli::name(&args.name)?;
            let request = Rename { container, name: args.snapshot, new_name: args.new_name };
            ask(&mut crate::cli::open()?, request)?;
        }
        Verb::Expire(args) => {
            let expires_at = match args.after {
                Span::Never => None,
                Span::Seconds(seconds) => Some(from_now(seconds)),
            };
            let container = crate::cli::name(&args.name)?;
            ask(&mut crate::cli::open()?, Expire { container, name: args.snapshot, expires_at })?;
        }
        Verb::Delete(args) => {
            let container = crate::cli::name(&args.name)?;
            ask(&mut crate::cli::open()?, Delete { container, names: args.snapshots })?;
        }
    }
    Ok(DONE)
}

fn create(args: CreateArgs) -> CliResult<()> {
    let request = Create {
        container: crate::cli::name(&args.name)?,
        name: args.snapshot,
        comment: args.comment,
        expires_at: args.expires.map(from_now),
    };
    let made = ask(&mut crate::cli::open()?, request)?;
    print(&format!("{}\n", made.name))?;
    tell_of_frozen(&made);
    Ok(())
}

/// For how long the guest stood still.
pub fn tell_of_frozen(made: &Made) {
    if let Some(milliseconds) = made.frozen_ms {
        note(&format!("the guest was frozen for {milliseconds} ms"));
    }
}

fn list(args: &ListArgs) -> CliResult<()> {
    let all = ask(&mut crate::cli::open()?, List { container: crate::cli::name(&args.name)? })?;
    let mut table = Table::new(&["name", "made", "expires", "of", "layers", "comment"]);
    for snapshot in &all {
        table.row(vec![
            snapshot.name.clone(),
            time::age(time::now(), snapshot.created_at.0),
            snapshot.expires_at.map(|at| time::rfc3339(at.0)).unwrap_or_default(),
            of_what(snapshot).to_owned(),
            snapshot.layers.to_string(),
            snapshot.comment.clone().unwrap_or_default(),
        ]);
    }
    print_rows(args.format, &all, &table)
}

fn of_what(snapshot: &Snapshot) -> &'static str {
    if snapshot.was_running { "running" } else { "stopped" }
}

fn show(args: ShowArgs) -> CliResult<()> {
    let container = crate::cli::name(&args.name)?;
    let details = ask(&mut crate::cli::open()?, Show { container, name: args.snapshot })?;
    if args.shown.format == Format::Json {
        return print_json(&details);
    }
    let snapshot = &details.snapshot;
    let own = if details.is_own { "" } else { ", shared with others" };
    let mut rows = vec![
        ("container", snapshot.container.clone()),
        ("name", snapshot.name.clone()),
        ("made", time::rfc3339(snapshot.created_at.0)),
        ("of a container", of_what(snapshot).to_owned()),
        ("template", snapshot.template.clone()),
        ("layers", snapshot.layers.to_string()),
        ("disk", format!("{} in {} files{own}", size(details.bytes), details.files)),
    ];
    if let Some(at) = snapshot.expires_at {
        rows.insert(3, ("expires", time::rfc3339(at.0)));
    }
    if let Some(comment) = &snapshot.comment {
        rows.push(("comment", comment.clone()));
    }
    print(&pairs(&rows))
}
