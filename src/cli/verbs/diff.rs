use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::api::snapshots::{ArchiveDiff, Diff, Difference, Kind};
use crate::app::AppError;
use crate::app::run::{Passed, run_with};
use crate::cli::error::{CliError, CliResult, DONE};
use crate::cli::output::progress::Shown;
use crate::cli::output::{Format, FormatArgs, note, print, print_json, text};
use crate::cli::request::ask;
use crate::model::snapshot::{SnapshotName, Source};

/// List what differs in a container from its template
///
/// Or from one of its snapshots. A line begins with A for what was added, C for what was changed, D for
/// what was deleted. Below a directory that was added, all that is in it is listed too.
///
/// With --tar, writes what differs as a tar archive, as the layers of OCI images are: it has what was added
/// or changed, with owners, modes and extended attributes as the guest sees them, and for what was deleted an
/// empty file '.wh.NAME' beside it. Sockets, and the guest's own files whose names begin with '.wh.', are left
/// out and told. Of a running container, files are read one after the other; a snapshot is of one moment.
///
/// Examples:
///   nagaya diff web01
///   nagaya diff web01 --from before-upgrade
///   nagaya diff web01/before-upgrade --format json
///   nagaya diff web01/before-upgrade --tar web01.tar
///   nagaya diff web01 --tar - | zstd > web01.tar.zst
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct DiffArgs {
    /// The container, or one of its snapshots
    #[arg(value_name = "NAME[/SNAPSHOT]", value_parser = Source::new)]
    source: Source,
    /// Compare with this snapshot of the container [default: with its template]
    #[arg(long, value_name = "SNAPSHOT", value_parser = SnapshotName::new)]
    from: Option<SnapshotName>,
    /// Write a tar archive of what differs; '-' for standard output
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::AnyPath, conflicts_with = "format")]
    tar: Option<PathBuf>,
    #[command(flatten)]
    shown: FormatArgs,
}

pub fn run(args: DiffArgs) -> CliResult<i32> {
    if let Some(path) = &args.tar {
        return archive(path, args.source, args.from);
    }
    let found = ask(&mut crate::cli::open()?, Diff { source: args.source, from: args.from })?;
    match args.shown.format {
        Format::Json => print_json(&found)?,
        Format::Table => print(&found.iter().map(shown).collect::<String>())?,
    }
    Ok(DONE)
}

/// The file is opened while the process has the caller's own rights.
fn archive(path: &Path, source: Source, from: Option<SnapshotName>) -> CliResult<i32> {
    let file = created(path, &source)?;
    let request = ArchiveDiff { source, from, archive: file.as_raw_fd() };
    let passed = Passed::of([file.as_fd()]);
    let written = run_with(crate::cli::open()?, request, &passed, &mut Shown::default())?;
    for line in &written.named {
        note(&format!("left out {line}"));
    }
    let more = written.left_out.saturating_sub(written.named.len() as u64);
    if more > 0 {
        note(&format!("left out {more} more"));
    }
    Ok(DONE)
}

/// For its owner alone: what is in a container may be secret.
fn created(path: &Path, source: &Source) -> CliResult<File> {
    let failed = |error| CliError::OpenFile { path: path.to_owned(), source: error };
    let file = match path.to_str() {
        Some("-") => File::from(std::io::stdout().as_fd().try_clone_to_owned().map_err(failed)?),
        _ => {
            let mut options = File::options();
            options.write(true).create(true).truncate(true).mode(0o600);
            options.custom_flags(libc::O_NOCTTY | libc::O_CLOEXEC).open(path).map_err(failed)?
        }
    };
    match file.is_terminal() {
        false => Ok(file),
        true => Err(AppError::advised(
            "an archive is not written to a terminal",
            format!("name a file: nagaya diff {source} --tar FILE"),
        )
        .into()),
    }
}

fn shown(difference: &Difference) -> String {
    let letter = match difference.kind {
        Kind::Added => 'A',
        Kind::Changed => 'C',
        Kind::Deleted => 'D',
    };
    format!("{letter} {}\n", text::line(&difference.path))
}
