//! What a verb prints on standard output.

use std::io::{ErrorKind, Write};

use serde::Serialize;

use super::table::Table;
use super::text;
use crate::cli::error::{CliError, CliResult};

/// How rows are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum RowsFormat {
    /// Columns, for people.
    Table,
    /// An array of objects.
    Json,
    /// Comma-separated values (RFC 4180, lines end with LF); the first line has the columns' names.
    Csv,
}

/// How one object is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// An object or an array of them.
    Json,
}

/// Of verbs that list.
#[derive(clap::Args)]
pub struct RowsArgs {
    /// How to print them
    #[arg(short, long, value_enum, default_value = "table")]
    pub format: RowsFormat,
}

/// Of verbs that show one thing.
#[derive(clap::Args)]
pub struct FormatArgs {
    /// How to print it
    #[arg(short, long, value_enum, default_value = "table")]
    pub format: Format,
}

/// All of it at once, so that several processes' lines do not mix.
pub fn print(text: &str) -> CliResult<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Err(CliError::ReaderGone),
        Err(e) => Err(CliError::Output(e)),
    }
}

/// Each on a line of its own, made harmless.
pub fn print_lines(lines: &[String]) -> CliResult<()> {
    print(&lines.iter().map(|l| text::line(l) + "\n").collect::<String>())
}

pub fn print_json(value: &impl Serialize) -> CliResult<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| CliError::Output(e.into()))?;
    print(&(text + "\n"))
}

/// Rows, for programs and for people.
pub fn print_rows(format: RowsFormat, rows: &impl Serialize, table: &Table) -> CliResult<()> {
    match format {
        RowsFormat::Json => print_json(rows),
        RowsFormat::Csv => print(&table.csv()),
        RowsFormat::Table => print(&table.text()),
    }
}
