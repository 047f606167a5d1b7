use std::collections::BTreeMap;

use super::keys::{self, UnsetKeysArgs, pair};
use super::output::{Format, FormatArgs, RowsArgs, RowsFormat, print, print_json};
use super::report::{CliResult, DONE, note};
use super::table::pairs;
use crate::app::config::{self, Pending};
use crate::model::config::{Config, KEYS, Live};

/// Configure containers: limits, environment, start with the host
///
/// Keys have the names that LXD's users know; 'nagaya config keys' lists them.
///
/// Examples:
///   nagaya config set web01 limits.memory=512MiB limits.cpu=2
///   nagaya config get web01 limits.memory
///   nagaya config unset web01 limits.cpu
///   nagaya config keys
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ConfigArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    Set(SetArgs),
    Get(GetArgs),
    Unset(UnsetArgs),
    Show(ShowArgs),
    /// List the keys that there are
    ///
    /// With their types, their defaults, and when a change takes effect in a container that runs.
    ///
    /// Examples:
    ///   nagaya config keys
    ///   nagaya config keys --format json | jq -r '.[] | select(.live == "at once").key'
    #[command(verbatim_doc_comment)]
    Keys(RowsArgs),
}

/// Set keys of a container
///
/// All of them or, where one is refused, none. A container that runs has its limits changed at
/// once; what takes effect later is told.
///
/// Examples:
///   nagaya config set web01 limits.memory=512MiB
///   nagaya config set web01 limits.cpu=0-1 limits.cpu.allowance=50ms/100ms limits.processes=500
///   nagaya config set web01 environment.LANG=de_DE.UTF-8 boot.autostart=true
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct SetArgs {
    /// The container
    name: String,
    /// A key and its value
    #[arg(value_name = "KEY=VALUE", required = true, value_parser = pair)]
    pairs: Vec<(String, String)>,
}

/// Print the value of a key
///
/// The default where it was not set; nothing where it has none.
///
/// Examples:
///   nagaya config get web01 limits.memory
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct GetArgs {
    /// The container
    name: String,
    /// The key
    key: String,
}

/// Take keys of a container back
///
/// Their defaults hold from then on.
///
/// Examples:
///   nagaya config unset web01 limits.memory limits.cpu
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct UnsetArgs {
    /// The container
    name: String,
    #[command(flatten)]
    unset: UnsetKeysArgs,
}

/// Show what was set for a container
///
/// Examples:
///   nagaya config show web01
///   nagaya config show web01 --format json | jq -r '."limits.memory"'
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct ShowArgs {
    /// The container
    name: String,
    #[command(flatten)]
    shown: FormatArgs,
}

/// `-c KEY=VALUE` of the verbs that make a container.
#[derive(clap::Args)]
pub struct NewConfigArgs {
    /// Set a key of its configuration, as 'nagaya config set' does; may be repeated
    #[arg(short = 'c', long = "config", value_name = "KEY=VALUE", value_parser = pair)]
    config: Vec<(String, String)>,
}

impl NewConfigArgs {
    pub fn config(&self) -> CliResult<Config> {
        let pairs = self.config.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        Ok(Config::of(pairs).map_err(crate::app::AppError::from)?)
    }
}

pub fn run(args: ConfigArgs) -> CliResult<i32> {
    match args.verb {
        Verb::Set(args) => {
            let name = super::name(&args.name)?;
            tell(&args.name, &config::set(&mut super::open()?, &name, &args.pairs)?);
        }
        Verb::Unset(args) => {
            let name = super::name(&args.name)?;
            tell(&args.name, &config::unset(&mut super::open()?, &name, &args.unset.keys)?);
        }
        Verb::Get(args) => {
            let config = config::show(&super::open()?, &super::name(&args.name)?)?;
            let value = config.effective(&args.key).map_err(crate::app::AppError::from)?;
            print(&format!("{value}\n"))?;
        }
        Verb::Show(args) => {
            let config = config::show(&super::open()?, &super::name(&args.name)?)?;
            match args.shown.format {
                Format::Json => print_json(&BTreeMap::from(config))?,
                Format::Table => {
                    let lines: Vec<_> = config.iter().map(|(key, value)| (key, value.to_owned())).collect();
                    print(&pairs(&lines))?;
                }
            }
        }
        Verb::Keys(args) => list_keys(args.format)?,
    }
    Ok(DONE)
}

fn tell(name: &str, pending: &[Pending]) {
    for Pending { key, live } in pending {
        note(&match live {
            Live::NewPrograms => {
                format!(
                    "{key}: programs see it from now on, the container's init after: nagaya restart {name}"
                )
            }
            _ => format!("{key} takes effect at the next start: nagaya restart {name}"),
        });
    }
}

fn list_keys(format: RowsFormat) -> CliResult<()> {
    let all = KEYS.iter().map(|key| {
        let default = (!key.default.is_empty()).then_some(key.default);
        [Some(key.name), Some(key.kind.as_str()), default, Some(key.live.as_str()), Some(key.help)]
    });
    keys::list(format, &["key", "type", "default", "live", "help"], all)
}
