use std::collections::BTreeMap;

use super::keys::{self, pair};
use super::output::{Format, FormatArgs, RowsArgs, RowsFormat, print, print_json};
use super::report::{CliResult, DONE, note};
use super::table::pairs;
use super::{many, names};
use crate::app::config::{self, Pending};
use crate::model::config::{Config, KEYS, Live, find};

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

/// Set keys of containers
///
/// All of them or, where one is refused, none. A container that runs has its limits changed at
/// once; what takes effect later is told.
///
/// Examples:
///   nagaya config set web01 limits.memory=512MiB
///   nagaya config set web01 limits.cpu=0-1 limits.cpu.allowance=50ms/100ms limits.processes=500
///   nagaya config set web01 environment.LANG=de_DE.UTF-8 boot.autostart=true
///   nagaya config set web01 web02 'db*' limits.memory=1GiB
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct SetArgs {
    /// The container, or several, or patterns such as 'web*'
    #[arg(value_name = "NAME", required = true)]
    name: String,
    /// Keys and values, behind all the names
    #[arg(value_name = "KEY=VALUE", required = true)]
    words: Vec<String>,
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

/// Reset keys to their defaults
///
/// Several containers, or patterns such as 'web*', stand before the keys.
///
/// Examples:
///   nagaya config unset web01 limits.memory limits.cpu
///   nagaya config unset web01 web02 limits.cpu
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct UnsetArgs {
    /// The container, or several, or patterns such as 'web*'
    #[arg(value_name = "NAME", required = true)]
    name: String,
    /// The keys, behind all the names
    #[arg(value_name = "KEY", required = true)]
    words: Vec<String>,
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
        Verb::Set(args) => return set(&args),
        Verb::Unset(args) => return unset(&args),
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

/// Each on its own: all of it holds for a container, or nothing.
fn set(args: &SetArgs) -> CliResult<i32> {
    let (names, pairs) = apart(&args.name, &args.words, |word| !word.contains('='));
    let pairs = pairs.iter().map(|text| pair(text)).collect::<Result<Vec<_>, _>>();
    let pairs = pairs.unwrap_or_else(|why| wrong("set", why));
    if pairs.is_empty() {
        wrong("set", key_and_value(&args.words));
    }
    many::each_of(names::expand(&names)?, |app, name| {
        tell(name.as_str(), &config::set(app, name, &pairs)?);
        Ok(())
    })
}

fn unset(args: &UnsetArgs) -> CliResult<i32> {
    // Every key has a dot, and no name has one.
    let (names, keys) = apart(&args.name, &args.words, |word| !word.contains('.'));
    if keys.is_empty() {
        wrong("unset", "no key is said: they stand behind the names, as in limits.cpu".to_owned());
    }
    many::each_of(names::expand(&names)?, |app, name| {
        tell(name.as_str(), &config::unset(app, name, &keys)?);
        Ok(())
    })
}

/// The names that stand first, and all behind them.
fn apart(first: &str, words: &[String], is_name: impl Fn(&String) -> bool) -> (Vec<String>, Vec<String>) {
    let count = words.iter().take_while(|word| is_name(word)).count();
    let names = [&[first.to_owned()], &words[..count]].concat();
    (names, words[count..].to_vec())
}

/// What was typed where KEY=VALUE is missing.
fn key_and_value(words: &[String]) -> String {
    match words {
        [key, value, ..] if find(key).is_some() => {
            format!("a key and its value are one word: {key}={value}")
        }
        [key, ..] if find(key).is_some() => format!("a key needs a value: {key}=VALUE"),
        _ => "no key and value are said: they have the form KEY=VALUE".to_owned(),
    }
}

/// Ends the command as clap does where it cannot read one.
fn wrong(verb: &str, why: String) -> ! {
    use clap::CommandFactory;
    let mut command = super::Cli::command();
    let path = command.find_subcommand_mut("config").and_then(|config| config.find_subcommand_mut(verb));
    let usage = format!("nagaya config {verb}");
    let kind = clap::error::ErrorKind::ValueValidation;
    match path {
        Some(verb) => verb.clone().bin_name(usage).error(kind, why).exit(),
        None => command.error(kind, why).exit(),
    }
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
