use std::collections::BTreeMap;

use super::profile_device::ProfileDeviceArgs;
use crate::api::config::Pending;
use crate::api::pairs::Pairs;
use crate::api::profiles::{Add, Assign, Copy, Create, Delete, List, Profile, Remove, Rename, Set, Show};
use crate::app::App;
use crate::cli::arguments::keys;
use crate::cli::arguments::keys::{UnsetKeysArgs, pair};
use crate::cli::arguments::names;
use crate::cli::arguments::profiles::{parse, profile};
use crate::cli::error::{CliResult, DONE};
use crate::cli::output::pending;
use crate::cli::output::table::{Table, pairs};
use crate::cli::output::{Format, FormatArgs, RowsArgs, RowsFormat, print, print_json, print_rows};
use crate::cli::request::ask;
use crate::cli::several::share;
use crate::model::config::CONFIG_KEYS;
use crate::model::device::device_key;
use crate::model::name::Name;

/// Manage profiles: settings that containers share
///
/// A container uses any number of profiles, in an order. What a later profile sets comes in place of what an
/// earlier one does, and what is set for the container itself before all. New containers use the profile
/// 'default', unless others are named.
///
/// Examples:
///   nagaya profile create gold -c limits.memory=4GiB -c limits.cpu=2
///   nagaya launch debian12 web01 -p default -p gold
///   nagaya profile set gold limits.memory=6GiB
///   nagaya profile device add gold shared disk source=/srv/shared path=/srv/shared readonly=true
///   nagaya profile assign web02 default,gold
///   nagaya config show web02 --expanded
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ProfileArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// List the profiles
    ///
    /// Examples:
    ///   nagaya profile list
    #[command(verbatim_doc_comment, visible_alias = "ls")]
    List(RowsArgs),
    Create(CreateArgs),
    Show(ShowArgs),
    Get(GetArgs),
    Set(SetArgs),
    Unset(UnsetArgs),
    Edit(EditArgs),
    Device(ProfileDeviceArgs),
    Copy(CopyArgs),
    #[command(visible_alias = "move")]
    Rename(RenameArgs),
    #[command(visible_alias = "rm")]
    Delete(DeleteArgs),
    Assign(AssignArgs),
    Add(OneArgs),
    Remove(RemoveArgs),
    /// List the keys that profiles may set
    ///
    /// They are those of 'nagaya config keys'.
    ///
    /// Examples:
    ///   nagaya profile keys
    #[command(verbatim_doc_comment)]
    Keys(RowsArgs),
}

/// Make a profile
///
/// Examples:
///   nagaya profile create gold
///   nagaya profile create gold -c limits.memory=4GiB --description 'The large plan'
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct CreateArgs {
    /// The profile's name
    profile: String,
    /// Set a key; may be repeated
    #[arg(short = 'c', long = "config", value_name = "KEY=VALUE", value_parser = pair)]
    config: Vec<(String, String)>,
    /// A line for people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

/// Show what a profile sets, and who uses it
///
/// Examples:
///   nagaya profile show gold
///   nagaya profile show gold --format json | jq -r '.used_by[]'
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct ShowArgs {
    /// The profile
    profile: String,
    #[command(flatten)]
    shown: FormatArgs,
}

/// Print the value that a profile sets
///
/// Prints nothing if it does not set the key.
///
/// Examples:
///   nagaya profile get gold limits.memory
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct GetArgs {
    /// The profile
    profile: String,
    /// The key
    key: String,
}

/// Set keys of a profile
///
/// Sets all of them or, if one of the containers that use the profile cannot have one, none. Limits of
/// running containers change at once; the command tells you what takes effect later.
///
/// Examples:
///   nagaya profile set gold limits.memory=6GiB limits.processes=2000
///   nagaya profile set gold --description 'The large plan'
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct SetArgs {
    /// The profile
    profile: String,
    /// Keys and values
    #[arg(value_name = "KEY=VALUE", required_unless_present = "description", value_parser = pair)]
    pairs: Vec<(String, String)>,
    /// A line for people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

/// Take keys out of a profile
///
/// Examples:
///   nagaya profile unset gold limits.processes
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct UnsetArgs {
    /// The profile
    profile: String,
    #[command(flatten)]
    unset: UnsetKeysArgs,
}

/// Edit a profile as a text
///
/// Opens it as TOML in the editor that VISUAL or EDITOR names. Comments are kept. On a mistake you see its
/// line and can edit again. Without a terminal, the text is read from standard input.
///
/// Examples:
///   nagaya profile edit gold
///   nagaya profile edit gold < gold.toml
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct EditArgs {
    /// The profile
    profile: String,
}

/// Make another profile that says the same
///
/// Examples:
///   nagaya profile copy gold platinum
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct CopyArgs {
    /// The profile
    profile: String,
    /// The new profile's name
    to: String,
}

/// Give a profile another name
///
/// Containers go on using it.
///
/// Examples:
///   nagaya profile rename gold large
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct RenameArgs {
    /// The profile
    profile: String,
    /// Its new name
    to: String,
}

/// Delete a profile that no container uses
///
/// Examples:
///   nagaya profile delete gold
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct DeleteArgs {
    /// The profile
    profile: String,
}

/// Say which profiles containers use
///
/// They come in place of the former ones. Limits of a running container change at once.
///
/// Examples:
///   nagaya profile assign web01 default,gold
///   nagaya profile assign 'web*' gold
///   nagaya profile assign web01 ''
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct AssignArgs {
    /// The container, or a pattern such as 'web*'
    name: String,
    /// The profiles in their order, with commas; '' for none
    profiles: String,
}

/// Let containers use one more profile
///
/// It comes after the others: what it sets counts.
///
/// Examples:
///   nagaya profile add web01 gold
///   nagaya profile add 'web*' gold
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct OneArgs {
    /// The container, or a pattern such as 'web*'
    name: String,
    /// The profile
    profile: String,
}

/// Take a profile from containers
///
/// Examples:
///   nagaya profile remove web01 gold
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct RemoveArgs {
    /// The container, or a pattern such as 'web*'
    name: String,
    /// The profile
    profile: String,
}

pub fn run(args: ProfileArgs) -> CliResult<i32> {
    match args.verb {
        Verb::List(args) => list(args.format)?,
        Verb::Create(args) => {
            let (name, config) = (profile(&args.profile)?, Pairs(args.config));
            ask(&mut crate::cli::open_to_make()?, Create { name, description: args.description, config })?;
        }
        Verb::Show(args) => show(&args)?,
        Verb::Get(args) => {
            CONFIG_KEYS.known(&args.key).map_err(crate::app::AppError::from)?;
            let found = ask(&mut crate::cli::open()?, Show { name: profile(&args.profile)? })?;
            let value = found.config.get(&args.key).map(String::as_str).unwrap_or_default();
            print(&format!("{value}\n"))?;
        }
        Verb::Set(args) => change(&args.profile, args.description, args.pairs, Vec::new())?,
        Verb::Unset(args) => change(&args.profile, None, Vec::new(), args.unset.keys)?,
        Verb::Device(args) => return super::profile_device::run(args),
        Verb::Edit(args) => return super::edit::profile(&profile(&args.profile)?),
        Verb::Copy(args) => {
            let (name, new_name) = (profile(&args.profile)?, profile(&args.to)?);
            ask(&mut crate::cli::open()?, Copy { name, new_name })?;
        }
        Verb::Rename(args) => {
            let (name, new_name) = (profile(&args.profile)?, profile(&args.to)?);
            ask(&mut crate::cli::open()?, Rename { name, new_name })?;
        }
        Verb::Delete(args) => ask(&mut crate::cli::open()?, Delete { name: profile(&args.profile)? })?,
        Verb::Assign(args) => {
            let profiles = parse(&args.profiles)?;
            return of_containers(&args.name, |app, name| {
                ask(app, Assign { name: name.clone(), profiles: profiles.clone() })
            });
        }
        Verb::Add(args) => {
            let profile = profile(&args.profile)?;
            return of_containers(&args.name, |app, name| {
                ask(app, Add { name: name.clone(), profile: profile.clone() })
            });
        }
        Verb::Remove(args) => {
            let profile = profile(&args.profile)?;
            return of_containers(&args.name, |app, name| {
                ask(app, Remove { name: name.clone(), profile: profile.clone() })
            });
        }
        Verb::Keys(args) => keys::list(args.format, &CONFIG_KEYS)?,
    }
    Ok(DONE)
}

fn of_containers(name: &str, change: impl Fn(&mut App, &Name) -> CliResult<Vec<Pending>>) -> CliResult<i32> {
    share::each_of(names::expand(&[name.to_owned()])?, |app, name| {
        pending::of_container(name.as_str(), &change(app, name)?);
        Ok(())
    })
}

fn change(
    name: &str,
    description: Option<String>,
    pairs: Vec<(String, String)>,
    unset: Vec<String>,
) -> CliResult<()> {
    let request = Set { name: profile(name)?, description, config: Pairs(pairs), unset };
    pending::of_profile(&ask(&mut crate::cli::open()?, request)?);
    Ok(())
}

fn list(format: RowsFormat) -> CliResult<()> {
    let rows = ask(&mut crate::cli::open()?, List {})?;
    let mut table = Table::new(&["name", "used_by", "description"]);
    for row in &rows {
        table.row(vec![row.name.to_string(), row.used_by.len().to_string(), row.description.clone()]);
    }
    print_rows(format, &rows, &table)
}

fn show(args: &ShowArgs) -> CliResult<()> {
    let found = ask(&mut crate::cli::open()?, Show { name: profile(&args.profile)? })?;
    match args.shown.format {
        Format::Json => print_json(&found),
        Format::Table => print(&sheet(&found)),
    }
}

fn device_line((name, keys): (&String, &BTreeMap<String, String>)) -> (String, String) {
    let pairs = keys.iter().filter(|(key, _)| *key != "type").map(|(key, value)| format!(" {key}={value}"));
    let device_type = keys.get("type").map(String::as_str).unwrap_or_default();
    (device_key(name), format!("{device_type}{}", pairs.collect::<String>()))
}

fn sheet(profile: &Profile) -> String {
    let mut lines = vec![("Name", profile.name.to_string())];
    if !profile.description.is_empty() {
        lines.push(("Description", profile.description.clone()));
    }
    lines.extend(profile.config.iter().map(|(key, value)| (key.as_str(), value.clone())));
    let devices: Vec<(String, String)> = profile.devices.iter().map(device_line).collect();
    lines.extend(devices.iter().map(|(key, line)| (key.as_str(), line.clone())));
    let users: Vec<&str> = profile.used_by.iter().map(Name::as_str).collect();
    if !users.is_empty() {
        lines.push(("Used by", users.join(", ")));
    }
    pairs(&lines)
}
