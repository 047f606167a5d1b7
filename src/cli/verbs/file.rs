//! `nagaya file`: files into containers and out of them.

use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, IsTerminal, Read as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};

use crate::api::files::{Delete, File, How, List, Pull, Push, Read, Transferred, Write};
use crate::app::AppError;
use crate::app::files::receiver::{self, Sink};
use crate::app::files::sender::{self, Source};
use crate::app::run::{Passed, run_with};
use crate::cli::editor;
use crate::cli::error::{CliError, CliResult, DONE};
use crate::cli::output::progress::Shown;
use crate::cli::output::table::Table;
use crate::cli::output::{RowsFormat, note, print_rows, text, time};
use crate::cli::request::{STDIN, STDOUT, ask_with};
use crate::cli::several::child::in_child;
use crate::host::setup;
use crate::model::byte_string::ByteString;
use crate::model::name::Name;
use crate::sys::fs::transfer::Meta;
use crate::sys::kernel::random::random;

/// Copy files into containers and out of them
///
/// A file in a container is named NAME/PATH. The container may run or be stopped. Its links lead where
/// they lead in the guest, never to files of the host.
///
/// Examples:
///   nagaya file push index.html web01/var/www/
///   nagaya file pull web01/var/log/syslog .
///   nagaya file edit web01/etc/hosts
///   nagaya file list web01/etc
///   nagaya file delete web01/tmp/core
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct FileArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    Push(PushArgs),
    Pull(PullArgs),
    Edit(EditArgs),
    #[command(visible_alias = "ls")]
    List(ListArgs),
    #[command(visible_alias = "rm")]
    Delete(DeleteArgs),
}

/// Copy files into a container
///
/// Files keep their mode, and the numbers of their owner and group, unless others are given. Where
/// NAME/PATH is a directory, or ends with '/', they are put into it. A file appears under its name when
/// all of it is there: a file that was there before is replaced then.
///
/// With -r, directories are copied with all that is in them into the directory NAME/PATH. Links stay
/// links; fifos, sockets and devices are left out.
///
/// Examples:
///   nagaya file push index.html web01/var/www/
///   nagaya file push --uid 33 --gid 33 --mode 0640 app.conf web01/etc/app.conf
///   nagaya file push -r -p site web01/srv/www
///   mysqldump shop | nagaya file push - db01/root/shop.sql
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct PushArgs {
    /// The files; '-' is standard input
    #[arg(value_name = "FILE", required = true)]
    sources: Vec<PathBuf>,
    /// Where to in the container
    #[arg(value_name = "NAME/PATH")]
    target: OsString,
    /// Copy directories too, with all that is in them
    #[arg(short, long)]
    recursive: bool,
    /// Make directories that are missing on the way
    #[arg(short = 'p', long)]
    create_dirs: bool,
    /// The owner in the guest, as a number
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(..=65535))]
    uid: Option<u32>,
    /// The group in the guest, as a number
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(..=65535))]
    gid: Option<u32>,
    /// The mode of files, in octal
    #[arg(long, value_name = "MODE", value_parser = mode)]
    mode: Option<u32>,
}

/// Copy files out of a container
///
/// What is copied belongs to you, or where root copies into another user's directory, to that user.
/// Modes are kept but for set-id bits and what your umask takes away. Where TARGET is a directory, or
/// ends with '/', files are put into it.
///
/// With -r, directories are copied with all that is in them into the directory TARGET. Links stay
/// links, as the guest has them: look where they lead before you use them. Fifos, sockets, devices and
/// file systems of the kernel are left out.
///
/// Examples:
///   nagaya file pull web01/var/log/syslog .
///   nagaya file pull -r web01/etc backup/
///   nagaya file pull web01/root/shop.sql - | gzip > shop.sql.gz
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct PullArgs {
    /// Files in containers
    #[arg(value_name = "NAME/PATH", required = true)]
    sources: Vec<OsString>,
    /// Where to; '-' is standard output
    #[arg(value_name = "TARGET")]
    target: PathBuf,
    /// Copy directories too, with all that is in them
    #[arg(short, long)]
    recursive: bool,
    /// Make the directory TARGET, and those that it is in
    #[arg(short = 'p', long)]
    create_dirs: bool,
}

/// Edit a file in a container
///
/// The file is copied out, edited with the program that VISUAL or EDITOR names, and put back if it was
/// changed. Its owner and mode stay. Where root edits, the editor runs as the service user: what a guest
/// has written is nothing for root's editor. If standard input is no terminal, it is the new content.
///
/// Examples:
///   nagaya file edit web01/etc/hosts
///   echo web01 | nagaya file edit web01/etc/hostname
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct EditArgs {
    /// The file
    #[arg(value_name = "NAME/PATH")]
    file: OsString,
}

/// List a directory in a container
///
/// Owners and groups are the guest's numbers.
///
/// Examples:
///   nagaya file list web01/etc
///   nagaya file list web01/var/log --format json | jq -r '.[].name'
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct ListArgs {
    /// The directory, or a file
    #[arg(value_name = "NAME/PATH")]
    path: OsString,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "table")]
    format: RowsFormat,
}

/// Delete files in a container
///
/// A link is deleted, not what it leads to.
///
/// Examples:
///   nagaya file delete web01/tmp/core
///   nagaya file delete -r web01/var/cache/apt
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct DeleteArgs {
    /// Files and empty directories
    #[arg(value_name = "NAME/PATH", required = true)]
    paths: Vec<OsString>,
    /// Delete directories with all that is in them
    #[arg(short, long)]
    recursive: bool,
    /// It is no error if there is nothing of that name
    #[arg(long)]
    if_exists: bool,
}

pub fn run(args: FileArgs) -> CliResult<i32> {
    match args.verb {
        Verb::Push(args) => push(args)?,
        Verb::Pull(args) => pull(&args)?,
        Verb::Edit(args) => edit(&args.file)?,
        Verb::List(args) => list(&args)?,
        Verb::Delete(args) => delete(&args)?,
    }
    Ok(DONE)
}

fn mode(text: &str) -> Result<u32, &'static str> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or("it must be octal, such as 0644")
}

/// A container, and a path in it.
fn place(text: &OsStr) -> CliResult<(Name, ByteString)> {
    let bytes = text.as_bytes();
    let Some(at) = bytes.iter().position(|byte| *byte == b'/') else {
        let what = format!("'{}' names no file in a container", text.to_string_lossy());
        return Err(AppError::advised(what, "give container and path, as in: web01/etc/hosts").into());
    };
    let name = String::from_utf8_lossy(&bytes[..at]);
    Ok((crate::cli::name(&name)?, bytes[at..].to_vec().into()))
}

fn cannot_open(path: &Path) -> impl Fn(io::Error) -> CliError {
    move |source| CliError::OpenFile { path: path.to_owned(), source }
}

/// All is opened while the process has the caller's own rights.
fn push(args: PushArgs) -> CliResult<()> {
    let (name, path) = place(&args.target)?;
    let into = args.recursive || args.sources.len() > 1;
    let how = How { uid: args.uid, gid: args.gid, mode: args.mode, parents: args.create_dirs, keep: false };
    if args.sources.iter().any(|source| source.as_os_str() == "-") {
        if into || path.as_bytes().ends_with(b"/") {
            return Err(AppError::advised(
                "standard input has no name that it could have in a directory",
                "name the file: nagaya file push - NAME/DIR/FILE",
            )
            .into());
        }
        let keep = args.uid.is_none() && args.gid.is_none() && args.mode.is_none();
        // Whoever reads it is begun without root's rights, so that an interrupted command can end it: it may wait for
        // input that never comes.
        let request = Write { name, path, input: STDIN, bytes: None, how: How { keep, ..how } };
        return ask_with(crate::cli::open_lazily()?, request, &mut Shown::default()).map(drop);
    }
    let mut bytes = Some(0u64);
    let mut sources = Vec::new();
    for path_here in &args.sources {
        let (source, length) = open_source(path_here, args.recursive)?;
        bytes = bytes.zip(length).map(|(sum, length)| sum + length);
        sources.push(source);
    }
    let (sender, stream) = sender::begin(sources).map_err(AppError::from)?;
    let request = Push { name, path, stream: stream.as_raw_fd(), bytes, how, into };
    let pushed = crate::cli::open_lazily().and_then(|instance| {
        Ok(run_with(instance, request, &Passed::of([stream.as_fd()]), &mut Shown::default())?)
    });
    drop(stream);
    let (_, read) = sender.conclude(pushed)?;
    tell_skipped(read.skipped);
    Ok(())
}

/// The file or directory, and the length of a file.
fn open_source(path: &Path, recursive: bool) -> CliResult<(Source, Option<u64>)> {
    let cannot = cannot_open(path);
    let file = std::fs::File::open(path).map_err(&cannot)?;
    let metadata = file.metadata().map_err(&cannot)?;
    let kind = metadata.file_type();
    if kind.is_dir() && !recursive {
        let what = format!("'{}' is a directory", path.display());
        return Err(AppError::advised(what, "the directory with all that is in it: add -r").into());
    }
    if kind.is_block_device() {
        let what = format!("'{}' is a disk", path.display());
        let hint = format!("as one file: nagaya file push - NAME/PATH < {}", path.display());
        return Err(AppError::advised(what, hint).into());
    }
    // The directory '.' has a name too.
    let whole = || std::fs::canonicalize(path).map_err(&cannot);
    let name = match path.file_name() {
        Some(name) => name.to_owned(),
        None => whole()?.file_name().unwrap_or(OsStr::new("root")).to_owned(),
    };
    let is_stored = kind.is_file() || kind.is_dir();
    let of_stream = Meta { mode: 0o644, uid: metadata.uid(), gid: metadata.gid() };
    let source =
        Source { fd: file.into(), name: name.as_bytes().to_vec(), stream: (!is_stored).then_some(of_stream) };
    Ok((source, kind.is_file().then_some(metadata.len())))
}

fn tell_skipped(count: u64) {
    if count > 0 {
        let what = if count == 1 { "entry was" } else { "entries were" };
        note(&format!("{count} {what} left out: fifos, sockets, devices, and what has gone meanwhile"));
    }
}

fn pull(args: &PullArgs) -> CliResult<()> {
    let places = args.sources.iter().map(|source| place(source)).collect::<CliResult<Vec<_>>>()?;
    let into = args.recursive || places.len() > 1;
    match &places[..] {
        [(name, path)] => pull_one(args, name, path, into),
        // Opening an instance gives root up.
        several => several
            .iter()
            .try_for_each(|(name, path)| in_child("copy the files", || pull_one(args, name, path, into))),
    }
}

fn pull_one(args: &PullArgs, name: &Name, path: &ByteString, into: bool) -> CliResult<()> {
    if args.target.as_os_str() == "-" {
        if args.recursive {
            return Err(AppError::advised(
                "standard output takes no directory",
                format!("as a tar archive: nagaya exec {name} -- tar c -C DIR ."),
            )
            .into());
        }
        let request = Read { name: name.clone(), path: path.clone(), output: STDOUT };
        return ask_with(crate::cli::open_lazily()?, request, &mut Shown::default()).map(drop);
    }
    let (dir, own_name) = open_target(args, into)?;
    let umask = rustix::process::umask(Mode::empty());
    rustix::process::umask(umask);
    let (dir, user) = lend(dir, &args.target, name)?;
    let sink = Sink::Directory { dir, name: own_name };
    let (receiver, stream) = receiver::begin(sink, umask.as_raw_mode(), user).map_err(AppError::from)?;
    let request = Pull {
        name: name.clone(),
        path: path.clone(),
        stream: stream.as_raw_fd(),
        recursive: args.recursive,
    };
    let pulled = crate::cli::open_lazily().and_then(|instance| {
        Ok(run_with(instance, request, &Passed::of([stream.as_fd()]), &mut Shown::default())?)
    });
    drop(stream);
    let (Transferred { skipped, .. }, _) = receiver.conclude(pulled)?;
    tell_skipped(skipped);
    Ok(())
}

/// The directory that is written to, and the name there where it is not the guest's.
fn open_target(args: &PullArgs, into: bool) -> CliResult<(OwnedFd, Option<Vec<u8>>)> {
    let target = &args.target;
    let is_directory = into || target.as_os_str().as_bytes().ends_with(b"/") || target.is_dir();
    let (dir, name) = match target.file_name().filter(|_| !is_directory) {
        Some(name) => (target.parent().unwrap_or(Path::new("")), Some(name.as_bytes().to_vec())),
        None => (target.as_path(), None),
    };
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    if args.create_dirs {
        std::fs::create_dir_all(dir).map_err(cannot_open(dir))?;
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, dir, flags, Mode::empty()) {
        Ok(opened) => Ok((opened, name)),
        Err(rustix::io::Errno::NOENT) => {
            let what = format!("there is no directory '{}'", dir.display());
            Err(AppError::advised(what, "have it made: add -p").into())
        }
        Err(e) => Err(cannot_open(dir)(e.into())),
    }
}

/// The directory as the process may write to it that hears the guest, and as whom that works: never as root.
fn lend(dir: OwnedFd, target: &Path, name: &Name) -> CliResult<(OwnedFd, Option<(u32, u32)>)> {
    if !rustix::process::geteuid().is_root() {
        return Ok((dir, None));
    }
    let none = || AppError::NoContainer { name: name.clone(), nearest: None };
    let owner = setup::is_set_up(&crate::cli::instance()?).ok_or_else(none)?;
    match receiver::mapped(&dir, owner.uid, owner.gid) {
        Ok(mapped) => Ok((mapped, Some((owner.uid, owner.gid)))),
        Err(e) => Err(AppError::advised(
            format!("cannot write to '{}' without root's rights: {}", target.display(), crate::sys::error_text(&e)),
            "choose a directory on ext4, XFS or btrfs, or have the shell write the file: nagaya file pull NAME/PATH - > FILE",
        )
        .into()),
    }
}

fn list(args: &ListArgs) -> CliResult<()> {
    let (name, path) = place(&args.path)?;
    let files = ask_with(crate::cli::open_lazily()?, List { name, path }, &mut Shown::default())?;
    let columns = ["mode", "uid", "gid", "size", "modified", "name"];
    let mut table = Table::new(&columns);
    for file in &files {
        table.row(match args.format {
            RowsFormat::Csv => row(file, file.size.to_string(), file.name.to_string()),
            _ => row(file, text::size(file.size), shown_name(file)),
        });
    }
    match args.format {
        RowsFormat::Table if files.is_empty() => Ok(()),
        format => print_rows(format, &files, &table),
    }
}

fn row(file: &File, size: String, name: String) -> Vec<String> {
    let mode = u32::from_str_radix(&file.mode, 8).unwrap_or_default();
    vec![
        format!("{}{}", file.kind.letter(), permissions(mode)),
        file.uid.to_string(),
        file.gid.to_string(),
        size,
        time::rfc3339(file.modified_at.0),
        name,
    ]
}

/// With the target of a link, on one line whatever the guest has put into it.
fn shown_name(file: &File) -> String {
    let escaped = |name: &ByteString| name.to_string().escape_debug().to_string();
    match &file.target {
        Some(target) => format!("{} -> {}", escaped(&file.name), escaped(target)),
        None => escaped(&file.name),
    }
}

/// As ls(1) has them.
fn permissions(mode: u32) -> String {
    let three = |shift: u32, special: u32, letter: char| {
        let bit = |value: u32, letter: char| if mode >> shift & value != 0 { letter } else { '-' };
        let last = match (mode & special != 0, mode >> shift & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, _) => bit(1, 'x'),
        };
        [bit(4, 'r'), bit(2, 'w'), last]
    };
    [three(6, 0o4000, 's'), three(3, 0o2000, 's'), three(0, 0o1000, 't')].iter().flatten().collect()
}

fn delete(args: &DeleteArgs) -> CliResult<()> {
    let places = args.paths.iter().map(|path| place(path)).collect::<CliResult<Vec<_>>>()?;
    let one = |(name, path): &(Name, ByteString)| {
        let (recursive, if_exists) = (args.recursive, args.if_exists);
        let request = Delete { name: name.clone(), path: path.clone(), recursive, if_exists };
        ask_with(crate::cli::open_lazily()?, request, &mut Shown::default()).map(drop)
    };
    match &places[..] {
        [place] => one(place),
        several => several.iter().try_for_each(|place| in_child("delete the files", || one(place))),
    }
}

/// The instance is opened by children, because that gives root up; the editor has no more rights than they.
fn edit(file: &OsStr) -> CliResult<()> {
    let (name, path) = place(file)?;
    if !io::stdin().is_terminal() {
        let how = How { keep: true, ..How::default() };
        let request = Write { name, path, input: STDIN, bytes: None, how };
        return ask_with(crate::cli::open_lazily()?, request, &mut Shown::default()).map(drop);
    }
    let user = match rustix::process::geteuid().is_root() {
        true => setup::is_set_up(&crate::cli::instance()?).map(|owner| (owner.uid, owner.gid)),
        false => None,
    };
    let (copy, before) = in_child("copy the file", || copy_out(&name, &path))?;
    editor::run_as(&copy, user)?;
    let changed = in_child("put the file back", || put_back(&name, &path, &copy, before))?;
    if !changed {
        note("nothing was changed");
    }
    Ok(())
}

/// A copy that nobody else can read, and what tells whether it was changed.
fn copy_out(name: &Name, path: &ByteString) -> CliResult<(PathBuf, u64)> {
    let instance = crate::cli::open_lazily()?;
    let copy = std::env::temp_dir().join(copy_name(path, random().map_err(AppError::from)?));
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(&copy).map_err(cannot_open(&copy))?;
    let request = Read { name: name.clone(), path: path.clone(), output: file.as_raw_fd() };
    let read = run_with(instance, request, &Passed::of([file.as_fd()]), &mut Shown::default());
    if let Err(error) = read {
        let _ = std::fs::remove_file(&copy);
        return Err(error.into());
    }
    let digest = digest(&mut open_copy(&copy)?).map_err(cannot_open(&copy))?;
    Ok((copy, digest))
}

/// Editors tell by its end what kind of text it is.
fn copy_name(path: &ByteString, number: u64) -> String {
    let text = path.to_string();
    let name = text.rsplit('/').next().unwrap_or_default();
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' };
    let name: String = name.chars().map(safe).rev().take(64).collect();
    format!("nagaya-{number:016x}-{}", name.chars().rev().collect::<String>())
}

fn open_copy(copy: &Path) -> CliResult<std::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    options.read(true).custom_flags(flags).open(copy).map_err(cannot_open(copy))
}

fn digest(file: &mut std::fs::File) -> io::Result<u64> {
    let mut hasher = DefaultHasher::new();
    let mut part = vec![0; 64 << 10];
    loop {
        match file.read(&mut part)? {
            0 => return Ok(hasher.finish()),
            count => hasher.write(&part[..count]),
        }
    }
}

fn put_back(name: &Name, path: &ByteString, copy: &Path, before: u64) -> CliResult<bool> {
    let instance = crate::cli::open_lazily()?;
    let changed = digest(&mut open_copy(copy)?).map_err(cannot_open(copy))? != before;
    if changed {
        let file = open_copy(copy)?;
        let how = How { keep: true, ..How::default() };
        let request =
            Write { name: name.clone(), path: path.clone(), input: file.as_raw_fd(), bytes: None, how };
        let written = run_with(instance, request, &Passed::of([file.as_fd()]), &mut Shown::default());
        if let Err(error) = written {
            crate::cli::report::report(&error.into(), None);
            return Err(CliError::Kept { file: copy.to_owned() });
        }
    }
    let _ = std::fs::remove_file(copy);
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_container_and_a_path() {
        let (name, path) = place(OsStr::new("web01/etc/hosts")).unwrap();
        assert_eq!((name.as_str(), path.as_bytes()), ("web01", &b"/etc/hosts"[..]));
        let (_, path) = place(OsStr::from_bytes(b"web01/a\xff\n")).unwrap();
        assert_eq!(path.as_bytes(), b"/a\xff\n");
        assert_eq!(place(OsStr::new("web01/")).unwrap().1.as_bytes(), b"/");
        assert!(place(OsStr::new("web01")).is_err() && place(OsStr::new("/etc/hosts")).is_err());
    }

    #[test]
    fn permissions_are_those_of_ls() {
        for (mode, shown) in
            [(0o644, "rw-r--r--"), (0o4755, "rwsr-xr-x"), (0o1777, "rwxrwxrwt"), (0o2640, "rw-r-S---")]
        {
            assert_eq!(permissions(mode), shown);
        }
        assert_eq!((mode("0644"), mode("4755")), (Ok(0o644), Ok(0o4755)));
        assert!(mode("9").is_err() && mode("17777").is_err());
    }

    #[test]
    fn a_copys_name_says_what_kind_of_text_it_is_and_leads_nowhere() {
        assert_eq!(copy_name(&"/etc/nginx/site.conf".into(), 1), "nagaya-0000000000000001-site.conf");
        assert_eq!(copy_name(&"/x/..;\n".into(), 2), "nagaya-0000000000000002-..__");
        assert_eq!(copy_name(&"x".repeat(300).as_str().into(), 3).len(), 24 + 64);
    }
}
