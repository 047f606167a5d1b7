use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use crate::api::templates::{Build, Delete, Import, List, Recipes, Show, Template};
use crate::app::run::{Passed, run_with};
use crate::cli::error::{CliError, CliResult, DONE};
use crate::cli::output::progress::Shown;
use crate::cli::output::table::{Table, pairs};
use crate::cli::output::{Format, FormatArgs, RowsArgs, RowsFormat, print, print_json, print_rows};
use crate::cli::output::{text, time};
use crate::cli::request::ask;

/// Manage the root filesystems that containers are made from
///
/// Containers that are made from a template share it: it is stored once, and never changes.
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
/// The build downloads the distribution's packages, so it takes minutes. 'nagaya template recipes'
/// lists the recipes.
///
/// Examples:
///   nagaya template build debian12
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct BuildArgs {
    /// The recipe, which is the template's name too
    name: String,
}

/// Make a template from a tar archive
///
/// The archive holds a root filesystem. It may be compressed with gzip, xz or zstd, and may come from
/// standard input. The process that unpacks it has no right to the host's files.
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
/// A template that containers use is refused.
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
        Verb::Build(args) => build(args)?,
        Verb::Import(args) => import(&args)?,
        Verb::List(args) => list(args.format)?,
        Verb::Recipes(args) => recipes(args.format)?,
        Verb::Show(args) => show(args)?,
        Verb::Delete(args) => ask(&mut crate::cli::open()?, Delete { name: args.name })?,
    }
    Ok(DONE)
}

/// As Docker's and LXD's users have it.
pub fn images(args: &RowsArgs) -> CliResult<i32> {
    list(args.format)?;
    Ok(DONE)
}

fn build(args: BuildArgs) -> CliResult<()> {
    let template = ask(&mut crate::cli::open_to_make()?, Build { name: args.name })?;
    print(&made(&template))
}

/// The archive is opened while the process has the caller's own rights.
fn import(args: &ImportArgs) -> CliResult<()> {
    let (archive, bytes) = open_archive(args)?;
    let request = Import { name: args.name.clone(), archive: archive.as_raw_fd(), bytes };
    let passed = Passed::of([archive.as_fd()]);
    let made_of = run_with(crate::cli::open_to_make()?, request, &passed, &mut Shown::default())?;
    print(&made(&made_of))
}

pub fn made(template: &Template) -> String {
    let os = if template.os.is_empty() { "unknown system" } else { &template.os };
    let line = format!("{}: {os}, {}, {}", template.name, text::size(template.bytes), template.short_id());
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
    let rows = ask(&mut crate::cli::open()?, List {})?;
    match format {
        RowsFormat::Json => print_json(&rows),
        RowsFormat::Csv => print(&csv(&rows)),
        RowsFormat::Table if rows.is_empty() => Ok(()),
        RowsFormat::Table => print(&table(&rows, time::now())),
    }
}

fn csv(rows: &[Template]) -> String {
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
            row.created_at.to_string(),
            row.used_by.to_string(),
        ]);
    }
    table.csv()
}

fn table(rows: &[Template], now: i64) -> String {
    let mut table = Table::new(&["name", "id", "system", "arch", "size", "containers", "created"])
        .optional(&["arch", "created", "id"]);
    for row in rows {
        table.row(vec![
            row.name.clone(),
            row.short_id().to_owned(),
            row.os.clone(),
            row.arch.clone(),
            text::size(row.bytes),
            row.used_by.to_string(),
            time::age(now, row.created_at.0),
        ]);
    }
    table.text()
}

fn recipes(format: RowsFormat) -> CliResult<()> {
    let rows = ask(&mut crate::cli::open()?, Recipes {})?;
    let mut table = Table::new(&["name", "description"]);
    for row in &rows {
        table.row(vec![row.name.clone(), row.description.clone()]);
    }
    print_rows(format, &rows, &table)
}

fn show(args: ShowArgs) -> CliResult<()> {
    let json = ask(&mut crate::cli::open()?, Show { name: args.name })?;
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
        ("Created", format!("{} ({})", json.created_at, time::age(time::now(), json.created_at.0))),
        ("Containers", json.used_by.to_string()),
        ("Id", json.id),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::images::templates::Entry;
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
        let json = Template::from(&entry());
        let id = "0a".repeat(32);
        assert_eq!(
            csv(std::slice::from_ref(&json)).lines().nth(1).unwrap(),
            format!(
                "debian12,{id},\"Debian GNU/Linux 12, \"\"bookworm\"\"\",x86_64,systemd,ifupdown,327155712,\
                 2025-11-21T10:03:10Z,2"
            )
        );
        let text = table(std::slice::from_ref(&json), 1_763_719_390 + 86_400);
        assert!(
            text.lines().nth(1).unwrap().ends_with("x86_64   312 MiB   2            1 day ago"),
            "{text}"
        );
        assert_eq!(made(&json), "debian12: Debian GNU/Linux 12, \"bookworm\", 312 MiB, 0a0a0a0a0a0a\n");
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
