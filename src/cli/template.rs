use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use serde::Serialize;

use super::output::{Format, FormatArgs, RowsArgs, RowsFormat, print, print_json, print_rows};
use super::progress::Shown;
use super::report::{CliError, CliResult, DONE};
use super::table::{Table, pairs};
use super::{text, time};
use crate::app::templates::{self, Entry};

/// Manage the root filesystems that containers are made from
///
/// Containers share their template: it is stored once, and never changes.
///
/// Examples:
///   nagaya template build debian12
///   nagaya template import rootfs.tar.gz --name centos7
///   nagaya template list
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct TemplateArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    Build(BuildArgs),
    Import(ImportArgs),
    /// List templates
    ///
    /// Examples:
    ///   nagaya template list
    ///   nagaya template list --format csv
    #[command(verbatim_doc_comment, visible_alias = "ls")]
    List(RowsArgs),
    /// List what 'nagaya template build' and 'nagaya launch' can build
    ///
    /// Examples:
    ///   nagaya template recipes
    ///   nagaya template recipes --format json | jq -r '.[].name'
    #[command(verbatim_doc_comment)]
    Recipes(RowsArgs),
    Show(ShowArgs),
    #[command(visible_alias = "rm")]
    Delete(DeleteArgs),
}

/// Build a template from its recipe
///
/// Downloads the distribution's packages, so it takes minutes. 'nagaya template recipes' lists
/// what can be built.
///
/// Examples:
///   nagaya template build debian12
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct BuildArgs {
    /// The recipe, which is the template's name too
    name: String,
}

/// Make a template of a tar archive
///
/// The archive holds a root filesystem; it may be compressed with gzip, xz or zstd, and come
/// over standard input. It is unpacked without any right to the host's files.
///
/// Examples:
///   nagaya template import rootfs.tar.gz --name centos7
///   docker export web | nagaya template import - --name web
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct ImportArgs {
    /// The archive; '-' is standard input
    #[arg(value_name = "FILE")]
    archive: PathBuf,
    /// The template's name
    #[arg(long)]
    name: String,
}

/// Show all about a template
///
/// Examples:
///   nagaya template show debian12
///   nagaya template show debian12 --format json
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct ShowArgs {
    /// The template
    name: String,
    #[command(flatten)]
    shown: FormatArgs,
}

/// Delete a template
///
/// One that containers stand on is refused.
///
/// Examples:
///   nagaya template delete debian12
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct DeleteArgs {
    /// The template
    name: String,
}

pub fn run(args: TemplateArgs) -> CliResult<i32> {
    match args.verb {
        Verb::Build(args) => build(&args)?,
        Verb::Import(args) => import(&args)?,
        Verb::List(args) => list(args.format)?,
        Verb::Recipes(args) => recipes(args.format)?,
        Verb::Show(args) => show(&args)?,
        Verb::Delete(args) => templates::delete(&mut super::open()?, &args.name)?,
    }
    Ok(DONE)
}

/// As Docker's and LXD's users have it.
pub fn images(args: &RowsArgs) -> CliResult<i32> {
    list(args.format)?;
    Ok(DONE)
}

/// A template as programs see it.
#[derive(Serialize)]
struct TemplateJson {
    name: String,
    id: String,
    os: String,
    arch: String,
    init: String,
    network: String,
    bytes: u64,
    /// RFC 3339, UTC.
    created_at: String,
    /// Containers that stand on it.
    used_by: usize,
}

impl From<&Entry> for TemplateJson {
    fn from(entry: &Entry) -> Self {
        Self {
            name: text::line(&entry.name),
            id: entry.id.to_string(),
            os: text::line(&entry.facts.os),
            arch: text::line(&entry.facts.arch),
            init: word(&entry.facts.init),
            network: word(&entry.facts.network),
            bytes: entry.bytes,
            created_at: time::rfc3339(entry.created_at),
            used_by: entry.used_by,
        }
    }
}

/// A unit variant's name, as it is stored.
fn word(value: &impl Serialize) -> String {
    let text = serde_json::to_value(value).ok();
    text.and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

fn build(args: &BuildArgs) -> CliResult<()> {
    let entry = templates::build(&mut super::open_to_make()?, &args.name, &Shown::default())?;
    print(&made(&entry))
}

/// The archive is opened while the process has the caller's own rights.
fn import(args: &ImportArgs) -> CliResult<()> {
    let (archive, size) = open_archive(args)?;
    let mut app = super::open_to_make()?;
    let entry = templates::import(&mut app, archive, size, &args.name, &Shown::default())?;
    print(&made(&entry))
}

fn made(entry: &Entry) -> String {
    let os = if entry.facts.os.is_empty() { "unknown system" } else { &entry.facts.os };
    let line = format!("{}: {os}, {}, {}", entry.name, text::size(entry.bytes), entry.id.short());
    text::line(&line) + "\n"
}

/// The archive and, of a file, its size.
fn open_archive(args: &ImportArgs) -> CliResult<(OwnedFd, Option<u64>)> {
    let path = &args.archive;
    let cannot = |source| CliError::OpenArchive { path: path.clone(), source };
    let not = |what| CliError::NoArchive { path: path.clone(), what };
    let file = if path.as_os_str() == "-" {
        let stdin = std::io::stdin();
        if stdin.is_terminal() {
            return Err(not("your terminal"));
        }
        File::from(stdin.as_fd().try_clone_to_owned().map_err(cannot)?)
    } else {
        File::open(path).map_err(cannot)?
    };
    let metadata = file.metadata().map_err(cannot)?;
    if metadata.is_dir() {
        return Err(not("a directory"));
    }
    Ok((file.into(), metadata.is_file().then_some(metadata.len())))
}

fn list(format: RowsFormat) -> CliResult<()> {
    let entries = templates::list(&mut super::open()?)?;
    let rows: Vec<_> = entries.iter().map(TemplateJson::from).collect();
    match format {
        RowsFormat::Json => print_json(&rows),
        RowsFormat::Csv => print(&csv(&rows)),
        RowsFormat::Table if rows.is_empty() => Ok(()),
        RowsFormat::Table => print(&table(&entries, time::now())),
    }
}

fn csv(rows: &[TemplateJson]) -> String {
    let mut table =
        Table::new(&["name", "id", "os", "arch", "init", "network", "bytes", "created_at", "used_by"]);
    for row in rows {
        table.row(vec![
            row.name.clone(),
            row.id.clone(),
            row.os.clone(),
            row.arch.clone(),
            row.init.clone(),
            row.network.clone(),
            row.bytes.to_string(),
            row.created_at.clone(),
            row.used_by.to_string(),
        ]);
    }
    table.csv()
}

fn table(entries: &[Entry], now: i64) -> String {
    let mut table = Table::new(&["name", "id", "system", "arch", "size", "containers", "created"])
        .optional(&["arch", "created", "id"]);
    for entry in entries {
        table.row(vec![
            entry.name.clone(),
            entry.id.short().to_owned(),
            entry.facts.os.clone(),
            entry.facts.arch.clone(),
            text::size(entry.bytes),
            entry.used_by.to_string(),
            time::age(now, entry.created_at),
        ]);
    }
    table.text()
}

/// A recipe as programs see it.
#[derive(Serialize)]
struct RecipeJson {
    name: String,
    description: String,
}

fn recipes(format: RowsFormat) -> CliResult<()> {
    // Opening gives up root, which is to parse no file that others may have written.
    let _app = super::open()?;
    let all = templates::recipes().into_iter();
    let rows: Vec<_> = all.map(|(name, description)| RecipeJson { name, description }).collect();
    let mut table = Table::new(&["name", "description"]);
    for row in &rows {
        table.row(vec![row.name.clone(), row.description.clone()]);
    }
    print_rows(format, &rows, &table)
}

fn show(args: &ShowArgs) -> CliResult<()> {
    let entry = templates::show(&mut super::open()?, &args.name)?;
    let json = TemplateJson::from(&entry);
    if args.shown.format == Format::Json {
        return print_json(&json);
    }
    print(&pairs(&[
        ("Name", json.name),
        ("System", json.os),
        ("Architecture", json.arch),
        ("Init", json.init),
        ("Network", json.network),
        ("Size", text::size(json.bytes)),
        ("Created", format!("{} ({})", json.created_at, time::age(time::now(), entry.created_at))),
        ("Containers", json.used_by.to_string()),
        ("Id", json.id),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::template::{InitKind, NetworkStyle, TemplateFacts, TemplateId};

    fn entry() -> Entry {
        Entry {
            name: "debian12".to_owned(),
            id: TemplateId::new(&"0a".repeat(32)).unwrap(),
            facts: TemplateFacts {
                init: InitKind::Systemd,
                network: NetworkStyle::Ifupdown,
                os: "Debian GNU/Linux 12, \"bookworm\"".to_owned(),
                arch: "x86_64".to_owned(),
            },
            bytes: 312 << 20,
            created_at: 1_763_719_390,
            used_by: 2,
        }
    }

    #[test]
    fn rows_are_the_same_in_every_form() {
        let json = TemplateJson::from(&entry());
        let id = "0a".repeat(32);
        assert_eq!(
            csv(&[json]).lines().nth(1).unwrap(),
            format!(
                "debian12,{id},\"Debian GNU/Linux 12, \"\"bookworm\"\"\",x86_64,systemd,ifupdown,327155712,\
                 2025-11-21T10:03:10Z,2"
            )
        );
        let text = table(&[entry()], 1_763_719_390 + 86_400);
        assert!(
            text.lines().nth(1).unwrap().ends_with("x86_64   312 MiB   2            1 day ago"),
            "{text}"
        );
        assert_eq!(made(&entry()), "debian12: Debian GNU/Linux 12, \"bookworm\", 312 MiB, 0a0a0a0a0a0a\n");
    }

    #[test]
    fn a_directory_is_no_archive() {
        let archive = |path: &str| open_archive(&ImportArgs { archive: path.into(), name: String::new() });
        assert!(matches!(archive("/"), Err(CliError::NoArchive { .. })));
        assert!(matches!(archive("/nonexistent"), Err(CliError::OpenArchive { .. })));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "1234").unwrap();
        assert_eq!(archive(file.path().to_str().unwrap()).unwrap().1, Some(4));
    }
}
