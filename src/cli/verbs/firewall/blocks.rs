use std::io::Read;
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;

use super::caution::caution;
use crate::api::firewall::{AddBlocks, ListBlocks, RemoveBlocks};
use crate::app::AppError;
use crate::cli::error::{CliError, CliResult, DONE};
use crate::cli::output::table::Table;
use crate::cli::output::{RowsFormat, note, print_rows};
use crate::cli::request::ask;
use crate::model::firewall::{block, duration};

/// Block addresses
///
/// Blocks traffic in both directions, at once: existing connections end. Blocks come before all
/// rules. They may overlap, and each ends by itself.
///
/// Examples:
///   nagaya firewall block 203.0.113.66 --for 2h --reason scans
///   nagaya firewall block 203.0.113.0/24 2001:db8::/32
///   nagaya firewall block 198.51.100.7 --from web01
///   nagaya firewall block --from-file list.txt --for 1d
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct BlockArgs {
    #[command(flatten)]
    addresses: AddressArgs,
    /// How long, such as 90s, 30m, 2h or 1d [default: until 'nagaya firewall unblock']
    #[arg(long = "for", value_name = "TIME", value_parser = span)]
    seconds: Option<u64>,
    /// Why; 'nagaya firewall blocks' shows it
    #[arg(long)]
    reason: Option<String>,
    /// Apply even if it cuts your own ssh connection
    #[arg(long)]
    force: bool,
}

/// Remove blocks
///
/// Name blocks exactly as they were made: you cannot unblock single addresses of a blocked subnet.
///
/// Examples:
///   nagaya firewall unblock 203.0.113.66
///   nagaya firewall unblock 198.51.100.7 --from web01
///   nagaya firewall unblock --from-file list.txt
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct UnblockArgs {
    #[command(flatten)]
    addresses: AddressArgs,
}

#[derive(clap::Args)]
struct AddressArgs {
    /// Addresses and subnets
    #[arg(value_name = "ADDRESS", required_unless_present = "file")]
    addresses: Vec<String>,
    /// Block for this container only
    #[arg(long = "from", value_name = "CONTAINER")]
    container: Option<String>,
    /// A file with one address a line, '-' for standard input
    #[arg(long = "from-file", value_name = "FILE")]
    file: Option<PathBuf>,
}

/// List blocks and their hit counts
///
/// Examples:
///   nagaya firewall blocks
///   nagaya firewall blocks --format json | jq '.[] | select(.hits.packets == 0).address'
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct BlocksArgs {
    /// How to print them
    #[arg(short, long, value_enum, default_value = "table")]
    format: RowsFormat,
}

fn span(text: &str) -> Result<u64, String> {
    duration::seconds(text).ok_or_else(|| "it must be a time such as 90s, 30m, 2h or 1d".to_owned())
}

impl AddressArgs {
    fn read(&self) -> CliResult<Vec<IpNetwork>> {
        let parse = |text: &String| block::parse(text);
        let mut all: Vec<IpNetwork> =
            self.addresses.iter().map(parse).collect::<Result<_, _>>().map_err(AppError::from)?;
        if let Some(file) = &self.file {
            let text = contents(file)?;
            all.extend(block::parse_list(&text).map_err(AppError::from)?);
        }
        all.sort_unstable();
        all.dedup();
        if all.is_empty() {
            return Err(AppError::Refused("there is no address in that list".to_owned()).into());
        }
        Ok(all)
    }
}

/// Longest file, in bytes.
const MOST: u64 = 64 << 20;

pub fn contents(path: &Path) -> CliResult<String> {
    let read = |mut from: Box<dyn Read>| -> std::io::Result<String> {
        let mut text = String::new();
        from.by_ref().take(MOST).read_to_string(&mut text)?;
        Ok(text)
    };
    let text = match path == Path::new("-") {
        true => read(Box::new(std::io::stdin())),
        false => std::fs::File::open(path).and_then(|file| read(Box::new(file))),
    };
    text.map_err(|source| CliError::OpenFile { path: path.to_owned(), source })
}

pub fn block(args: BlockArgs) -> CliResult<i32> {
    let caution = caution(args.force);
    let container = args.addresses.container.as_deref().map(crate::cli::name).transpose()?;
    let addresses = args.addresses.read()?;
    let request = AddBlocks { addresses, container, seconds: args.seconds, reason: args.reason, caution };
    ask(&mut crate::cli::open()?, request)?;
    Ok(DONE)
}

pub fn unblock(args: UnblockArgs) -> CliResult<i32> {
    let container = args.addresses.container.as_deref().map(crate::cli::name).transpose()?;
    let addresses = args.addresses.read()?;
    let request = RemoveBlocks { addresses: addresses.clone(), container: container.clone() };
    let gone = ask(&mut crate::cli::open()?, request)?;
    match addresses.len() - gone {
        0 => Ok(DONE),
        left if gone == 0 && left == 1 => {
            let of = container.map(|name| format!(" for '{name}'")).unwrap_or_default();
            let what = format!("{} was not blocked{of}", block::text(addresses[0]));
            Err(AppError::advised(what, "see what is: nagaya firewall blocks").into())
        }
        left => {
            note(&format!("{gone} taken back; {left} were not blocked so"));
            Ok(DONE)
        }
    }
}

pub fn blocks(args: BlocksArgs) -> CliResult<i32> {
    let rows = ask(&mut crate::cli::open()?, ListBlocks {})?;
    let mut table =
        Table::new(&["address", "container", "packets", "bytes", "until", "reason", "created_at"]);
    for row in &rows {
        table.row(vec![
            row.address.clone(),
            row.container.clone().unwrap_or_default(),
            row.hits.packets.to_string(),
            row.hits.bytes.to_string(),
            row.until.map(|until| until.to_string()).unwrap_or_default(),
            row.reason.clone().unwrap_or_default(),
            row.created_at.to_string(),
        ]);
    }
    print_rows(args.format, &rows, &table)?;
    Ok(DONE)
}
