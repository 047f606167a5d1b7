//! Keys and their values, of whatever has some.

use serde::{Serialize, Serializer};

use super::output::{RowsFormat, print_rows};
use super::report::CliResult;
use super::table::Table;

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

/// The cells of a key's line under their columns.
struct KeyJson<const N: usize>(&'static [&'static str; N], [Option<&'static str>; N]);

impl<const N: usize> Serialize for KeyJson<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().zip(self.1))
    }
}

/// Prints the keys that there are, each with a cell for every column.
pub fn list<const N: usize>(
    format: RowsFormat,
    columns: &'static [&'static str; N],
    keys: impl Iterator<Item = [Option<&'static str>; N]>,
) -> CliResult<()> {
    let rows: Vec<_> = keys.map(|cells| KeyJson(columns, cells)).collect();
    let mut table = Table::new(columns);
    for KeyJson(_, cells) in &rows {
        table.row(cells.map(|cell| cell.unwrap_or_default().to_owned()).to_vec());
    }
    print_rows(format, &rows, &table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_keys_and_values() {
        assert_eq!(pair("user.a=b=c"), Ok(("user.a".into(), "b=c".into())));
        assert!(pair("user.a").is_err() && pair("=x").is_err());
    }

    #[test]
    fn programs_see_the_columns_in_their_order() {
        let key = KeyJson(&["key", "default", "help"], [Some("mtu"), None, Some("bytes")]);
        assert_eq!(serde_json::to_string(&key).unwrap(), r#"{"key":"mtu","default":null,"help":"bytes"}"#);
    }
}
