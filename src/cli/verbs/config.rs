use std::collections::BTreeMap;

use super::device::{self, DeviceArgs};
use crate::api::config::{Diff, Expand, Set, Show, Unset, Value};
use crate::api::pairs::Pairs;
use crate::cli::arguments::keys;
use crate::cli::arguments::keys::pair;
use crate::cli::arguments::names;
use crate::cli::error::{CliResult, DONE};
use crate::cli::output::pending;
use crate::cli::output::table::{Table, pairs};
use crate::cli::output::{Format, FormatArgs, RowsArgs, RowsFormat, note, print, print_json, print_rows};
use crate::cli::request::ask;
use crate::cli::several::share;
use crate::model::config::{CONFIG_KEYS, Config};

/// Configure containers: limits, environment, start with the host
///
/// The keys have LXD's names; 'nagaya config keys' lists them.
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
    Edit(EditArgs),
    Diff(DiffArgs),
    /// List the keys
    ///
    /// Prints their types, their defaults, and when a change takes effect in a running container.
    ///
    /// Examples:
    ///   nagaya config keys
    ///   nagaya config keys --format json | jq -r '.[] | select(.live == "at once").key'
    #[command(verbatim_doc_comment)]
    Keys(RowsArgs),
    /// As LXD's users type it: nagaya device
    #[command(hide = true)]
    Device(DeviceArgs),
}

/// Set keys of containers
///
/// Sets all of them or, if one is refused, none. Limits of a running container change at once; the
/// command tells you what takes effect later.
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
    /// Keys and values, after all the names
    #[arg(value_name = "KEY=VALUE", required = true)]
    words: Vec<String>,
}

/// Print the value of a key
///
/// Prints what was set for the container itself. If nothing was, prints nothing where a profile sets the
/// key, and the default where none does. With --expanded it prints what holds.
///
/// Examples:
///   nagaya config get web01 limits.memory
///   nagaya config get web01 limits.memory --expanded
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct GetArgs {
    /// The container
    name: String,
    /// The key
    key: String,
    /// What holds, with what the container's profiles set
    #[arg(short, long)]
    expanded: bool,
}

/// Reset keys to their defaults
///
/// To name several containers, or patterns such as 'web*', put them before the keys.
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
    /// The keys, after all the names
    #[arg(value_name = "KEY", required = true)]
    words: Vec<String>,
}

/// Show what was set for a container
///
/// With --expanded, shows all that holds, and which profile a value comes from.
///
/// Examples:
///   nagaya config show web01
///   nagaya config show web01 --expanded
///   nagaya config show web01 --format json | jq -r '."limits.memory"'
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct ShowArgs {
    /// The container
    name: String,
    /// All that holds, with what the container's profiles set
    #[arg(short, long)]
    expanded: bool,
    #[command(flatten)]
    shown: FormatArgs,
}

/// Edit a container's settings as a text
///
/// Opens the keys that were set for the container, and its profiles, as TOML in the editor that VISUAL or
/// EDITOR names. Comments are kept. On a mistake you see its line and can edit again. Without a terminal,
/// the text is read from standard input.
///
/// Examples:
///   nagaya config edit web01
///   nagaya config edit web01 < web01.toml
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct EditArgs {
    /// The container
    name: String,
}

/// Show where a running container differs from its configuration
///
/// Compares what is set, profiles included, with what the container was started with and what the kernel
/// holds it to. Prints nothing if all of it holds.
///
/// Examples:
///   nagaya config diff web01
///   nagaya config diff web01 --format json | jq -r '.[].key'
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct DiffArgs {
    /// The container
    name: String,
    #[command(flatten)]
    rows: RowsArgs,
}

/// `-c KEY=VALUE` of the verbs that make a container.
#[derive(clap::Args)]
pub struct NewConfigArgs {
    /// Set a key of the container's configuration, as 'nagaya config set' does; may be repeated
    #[arg(short = 'c', long = "config", value_name = "KEY=VALUE", value_parser = pair)]
    config: Vec<(String, String)>,
}

impl NewConfigArgs {
    /// Checked, so that a mistake is told before anything is opened.
    pub fn pairs(self) -> CliResult<Pairs> {
        let pairs = self.config.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        Config::of(pairs).map_err(crate::app::AppError::from)?;
        Ok(Pairs(self.config))
    }
}

pub fn run(args: ConfigArgs) -> CliResult<i32> {
    match args.verb {
        Verb::Set(args) => return set(&args),
        Verb::Unset(args) => return unset(&args),
        Verb::Edit(args) => return super::edit::container(&crate::cli::name(&args.name)?),
        Verb::Diff(args) => diff(&args)?,
        Verb::Get(args) => get(&args)?,
        Verb::Show(args) if args.expanded => show_expanded(&args)?,
        Verb::Show(args) => {
            let config = show(&args.name)?;
            match args.shown.format {
                Format::Json => print_json(&BTreeMap::from(config))?,
                Format::Table => {
                    let lines: Vec<_> = config.iter().map(|(key, value)| (key, value.to_owned())).collect();
                    print(&pairs(&lines))?;
                }
            }
        }
        Verb::Keys(args) => keys::list(args.format, &CONFIG_KEYS)?,
        Verb::Device(args) => return device::run(args),
    }
    Ok(DONE)
}

/// Each container by itself: for each, all keys are set or none.
fn set(args: &SetArgs) -> CliResult<i32> {
    let (names, pairs) = apart(&args.name, &args.words, |word| !word.contains('='));
    let pairs = pairs.iter().map(|text| pair(text)).collect::<Result<Vec<_>, _>>();
    let pairs = pairs.unwrap_or_else(|why| wrong("set", why));
    if pairs.is_empty() {
        wrong("set", key_and_value(&args.words));
    }
    share::each_of(names::expand(&names)?, |app, name| {
        let waits = ask(app, Set { name: name.clone(), config: Pairs(pairs.clone()) })?;
        pending::of_container(name.as_str(), &waits);
        Ok(())
    })
}

fn get(args: &GetArgs) -> CliResult<()> {
    let default = CONFIG_KEYS.known(&args.key).map_err(crate::app::AppError::from)?.default;
    let name = crate::cli::name(&args.name)?;
    let mut all = ask(&mut crate::cli::open()?, Expand { name })?;
    match all.remove(&args.key) {
        Some(Value { profile: Some(profile), .. }) if !args.expanded => {
            let (name, key) = (&args.name, &args.key);
            note(&format!("profile '{profile}' sets it: nagaya config get {name} {key} --expanded"));
            print("\n")
        }
        Some(Value { value, .. }) => print(&format!("{value}\n")),
        None => print(&format!("{default}\n")),
    }
}

fn diff(args: &DiffArgs) -> CliResult<()> {
    let rows = ask(&mut crate::cli::open()?, Diff { name: crate::cli::name(&args.name)? })?;
    if rows.is_empty() && args.rows.format == RowsFormat::Table {
        return Ok(());
    }
    let mut table = Table::new(&["key", "wanted", "live", "holds"]);
    for row in &rows {
        let live = row.live.clone().unwrap_or_default();
        let live = row.file.map_or_else(|| live.clone(), |file| format!("{file} {live}"));
        let (key, wanted) = (row.key.clone(), row.wanted.clone().unwrap_or_default());
        table.row(vec![key, wanted, live, row.holds.as_str().to_owned()]);
    }
    print_rows(args.rows.format, &rows, &table)
}

/// Where each value comes from stands behind it.
fn show_expanded(args: &ShowArgs) -> CliResult<()> {
    let all = ask(&mut crate::cli::open()?, Expand { name: crate::cli::name(&args.name)? })?;
    if args.shown.format == Format::Json {
        return print_json(&all);
    }
    let mut table = Table::new(&["key", "value", "from"]);
    for (key, Value { value, profile }) in all {
        let from = profile.map_or_else(|| "own".to_owned(), |profile| format!("profile {profile}"));
        table.row(vec![key, value, from]);
    }
    print(&table.text())
}

fn show(name: &str) -> CliResult<Config> {
    let name = crate::cli::name(name)?;
    ask(&mut crate::cli::open()?, Show { name })
}

fn unset(args: &UnsetArgs) -> CliResult<i32> {
    // Every key has a dot, and no name has one.
    let (names, keys) = apart(&args.name, &args.words, |word| !word.contains('.'));
    if keys.is_empty() {
        wrong("unset", "no key is said: they stand behind the names, as in limits.cpu".to_owned());
    }
    share::each_of(names::expand(&names)?, |app, name| {
        pending::of_container(name.as_str(), &ask(app, Unset { name: name.clone(), keys: keys.clone() })?);
        Ok(())
    })
}

/// The names at the beginning, and everything after them.
fn apart(first: &str, words: &[String], is_name: impl Fn(&String) -> bool) -> (Vec<String>, Vec<String>) {
    let count = words.iter().take_while(|word| is_name(word)).count();
    let names = [&[first.to_owned()], &words[..count]].concat();
    (names, words[count..].to_vec())
}

/// What was typed in place of KEY=VALUE.
fn key_and_value(words: &[String]) -> String {
    match words {
        [key, value, ..] if CONFIG_KEYS.find(key).is_some() => {
            format!("a key and its value are one word: {key}={value}")
        }
        [key, ..] if CONFIG_KEYS.find(key).is_some() => format!("a key needs a value: {key}=VALUE"),
        _ => "no key and value are said: they have the form KEY=VALUE".to_owned(),
    }
}

/// Ends the command as clap does for wrong usage.
fn wrong(verb: &str, why: String) -> ! {
    let mut command = <ConfigArgs as clap::Args>::augment_args(clap::Command::new("config"));
    let path = command.find_subcommand_mut(verb);
    let usage = format!("nagaya config {verb}");
    let kind = clap::error::ErrorKind::ValueValidation;
    match path {
        Some(verb) => verb.clone().bin_name(usage).error(kind, why).exit(),
        None => command.error(kind, why).exit(),
    }
}
