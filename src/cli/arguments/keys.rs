//! Keys and their values, of whatever has some.

use serde::Serialize;

use crate::cli::error::CliResult;
use crate::cli::output::{self, RowsFormat, print_rows};
use crate::model::keys::{Key, Subject, Table};

/// What is to be set.
#[derive(clap::Args)]
pub struct PairsArgs {
    /// Keys and values
    #[arg(value_name = "KEY=VALUE", required = true, value_parser = pair)]
    pub pairs: Vec<(String, String)>,
}

/// What is to be taken back.
#[derive(clap::Args)]
pub struct UnsetKeysArgs {
    /// The keys
    #[arg(value_name = "KEY", required = true)]
    pub keys: Vec<String>,
}

pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("it must have the form KEY=VALUE".to_owned()),
    }
}

/// A key as programs see it.
#[derive(Serialize)]
struct KeyJson {
    key: &'static str,
    r#type: &'static str,
    default: Option<&'static str>,
    live: &'static str,
    /// What is otherwise in LXD.
    lxd: Option<&'static str>,
    help: &'static str,
}

/// Prints the keys of a table.
pub fn list<S: Subject>(format: RowsFormat, table: &Table<S>) -> CliResult<()> {
    let row = |key: &'static Key<S>| KeyJson {
        key: key.name,
        r#type: key.kind.name,
        default: Some(key.default).filter(|default| !default.is_empty()),
        live: key.live.as_str(),
        lxd: key.lxd.as_str(),
        help: key.help,
    };
    let rows: Vec<KeyJson> = table.keys.iter().map(row).collect();
    let mut shown = output::table::Table::new(&["key", "type", "default", "live", "lxd", "help"]);
    for row in &rows {
        let cells = [row.key, row.r#type, row.default.unwrap_or_default(), row.live];
        let cells = cells.into_iter().chain([row.lxd.unwrap_or_default(), row.help]);
        shown.row(cells.map(str::to_owned).collect());
    }
    print_rows(format, &rows, &shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_keys_and_values() {
        assert_eq!(pair("user.a=b=c"), Ok(("user.a".into(), "b=c".into())));
        assert!(pair("user.a").is_err() && pair("=x").is_err());
    }
}
