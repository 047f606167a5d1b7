use crate::api::grants::{List, Remove, Row, Set};
use crate::api::pairs::Pairs;
use crate::app::AppError;
use crate::cli::error::{CliResult, DONE};
use crate::cli::output::table::Table;
use crate::cli::output::{RowsFormat, note, print_rows, text};
use crate::cli::request::ask_host;
use crate::model::grant::{Grant, Grantee};
use crate::model::granted::resource_text;

/// Set users' permissions and quotas
///
/// Without an argument, it lists all grants; ordinary users see their own and the one for everybody.
/// Settings, KEY=VALUE:
///   allow        true: without a password, also outside the group 'nagaya'; false: not at all
///   containers   how many run at once [16 without a grant]
///   memory       of all containers together, such as 4GiB
///   cpu          of all together, in percent of one CPU: 200 is two CPUs
///   processes    of all together
///   networks     networks of the user's own on the host [1]
///   addresses    addresses and subnets, besides private ones, that containers may have
///   ports        ports of the host that may be forwarded to containers, such as 8000-8999
///   parents      interfaces of the host that containers may be on
///   pools        directories of the host's in which the user may have a storage pool
///   kernel.NAME  how high limits.kernel.NAME may be, such as kernel.rtprio=50
///
/// KEY= resets a setting. Where a user's own grant says nothing, the grant for everybody holds.
/// Bounds of memory, CPU and processes hold from the user's next start of a container on.
///
/// Examples:
///   nagaya grant ann allow=true containers=5 memory=8GiB
///   nagaya grant ann networks=3 addresses=203.0.113.8/29 ports=8000-8999
///   nagaya grant --everybody cpu=200
///   nagaya grant ann --remove
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct GrantArgs {
    /// The user
    user: Option<String>,
    /// The settings to change
    #[arg(value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// The grant for all users, where their own grants say nothing
    #[arg(long)]
    everybody: bool,
    /// Remove the grant
    #[arg(long, conflicts_with = "settings")]
    remove: bool,
    /// How to print the grants
    #[arg(short, long, value_enum, default_value = "table")]
    format: RowsFormat,
}

pub fn run(args: GrantArgs) -> CliResult<i32> {
    let (whose, settings) = match (args.user, args.everybody) {
        // With --everybody the first word is a setting.
        (Some(first), true) => (Grantee::Everybody, [vec![first], args.settings].concat()),
        (None, true) => (Grantee::Everybody, args.settings),
        (Some(user), false) => (Grantee::User(user), args.settings),
        (None, false) => return list(&ask_host(List { whose: None })?, args.format),
    };
    if args.remove {
        ask_host(Remove { whose })?;
    } else if settings.is_empty() {
        return list(&ask_host(List { whose: Some(whose) })?, args.format);
    } else {
        ask_host(Set { whose, settings: pairs(&settings)? })?;
    }
    Ok(DONE)
}

fn pairs(settings: &[String]) -> CliResult<Pairs> {
    let pair = |text: &String| {
        let (key, value) = Grant::key_and_value(text).map_err(AppError::from)?;
        Ok((key.to_owned(), value.to_owned()))
    };
    settings.iter().map(pair).collect::<CliResult<_>>().map(Pairs)
}

fn resources(grant: &Grant) -> String {
    let names = grant.kernel.iter().flat_map(|all| all.keys());
    let one =
        |name: &String| format!("{name}={}", resource_text(name, grant.resource(name)).replace(' ', ""));
    names.map(one).collect::<Vec<_>>().join(" ")
}

fn list(rows: &[Row], format: RowsFormat) -> CliResult<i32> {
    let mut table = Table::new(&[
        "user",
        "allow",
        "containers",
        "memory",
        "cpu",
        "processes",
        "networks",
        "addresses",
        "ports",
        "parents",
        "pools",
        "kernel",
    ]);
    for Row { user, grant, .. } in rows {
        let number = |n: Option<u64>| n.map(|n| n.to_string()).unwrap_or_default();
        table.row(vec![
            user.clone().unwrap_or_else(|| "(everybody)".to_owned()),
            grant.allow.map(|allow| allow.to_string()).unwrap_or_default(),
            number(grant.containers.map(u64::from)),
            grant.memory.map(text::size).unwrap_or_default(),
            grant.cpu.map(|percent| format!("{percent}%")).unwrap_or_default(),
            number(grant.processes),
            number(grant.networks.map(u64::from)),
            grant.addresses().map(|net| net.to_string()).collect::<Vec<_>>().join(" "),
            grant.ports().map(String::from).collect::<Vec<_>>().join(" "),
            grant.parents().cloned().collect::<Vec<_>>().join(" "),
            grant.pools().cloned().collect::<Vec<_>>().join(" "),
            resources(grant),
        ]);
    }
    print_rows(format, &rows, &table)?;
    for Row { user, unknown, .. } in rows.iter().filter(|row| !row.unknown.is_empty()) {
        let (whose, keys) = (user.as_deref().unwrap_or("everybody"), unknown.join("', '"));
        note(&format!("of the grant for {whose}, '{keys}' has no effect: it is of a later nagaya"));
    }
    Ok(DONE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::grant::GRANT_KEYS;

    #[test]
    fn help_has_every_key_with_what_the_table_says_of_it() {
        let mut command = <GrantArgs as clap::Args>::augment_args(clap::Command::new("grant"));
        let help = command.render_long_help().to_string();
        for key in GRANT_KEYS.keys.iter().filter(|key| !key.name.starts_with("kernel.")) {
            assert!(
                help.contains(&format!("  {:<11}  {}", key.name, key.help)),
                "{}: {}",
                key.name,
                key.help
            );
        }
    }
}
