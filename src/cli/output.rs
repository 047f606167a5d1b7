//! What a verb prints on standard output.

use std::io::{ErrorKind, IsTerminal, Write};

use serde::Serialize;

use super::report::{CliError, CliResult};
use super::table::Table;

/// How rows are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum RowsFormat {
    /// Columns, for people.
    Table,
    /// An array of objects.
    Json,
    /// Comma-separated values (RFC 4180, lines ended by LF), a line with the columns' names first.
    Csv,
}

/// How a single thing is shown.
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
    print_bytes(text.as_bytes())
}

pub fn print_bytes(bytes: &[u8]) -> CliResult<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Err(CliError::ReaderGone),
        Err(e) => Err(CliError::Output(e)),
    }
}

/// Each on a line of its own, harmless.
pub fn print_lines(lines: &[String]) -> CliResult<()> {
    print(&lines.iter().map(|l| super::text::line(l) + "\n").collect::<String>())
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

/// A colour of the terminal's palette, as SGR numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    Red = 31,
    Green = 32,
    Yellow = 33,
    Blue = 34,
}

impl Colour {
    pub fn paint(self, text: &str) -> String {
        format!("\x1b[{}m{text}\x1b[0m", self as u8)
    }
}

/// Whether `stream` takes colours: a terminal that can, and nobody who objects (no-color.org).
pub fn coloured(stream: &impl IsTerminal) -> bool {
    stream.is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && std::env::var_os("TERM").is_some_and(|v| v != "dumb")
}
