use super::output::{RowsFormat, print_rows};
use super::report::{CliResult, DONE};
use super::table::Table;
use super::text;
use crate::app::grant::{self, Row};
use crate::host::grants::Grantee;
use crate::model::grant::Grant;
use crate::model::granted::resource_text;

/// Set users' permissions and quotas
///
/// Without an argument, lists all grants; ordinary users see their own and that for everybody.
/// Settings, KEY=VALUE:
///   allow        true: without a password, also outside the group 'nagaya'; false: not at all
///   containers   how many run at once [16 where nothing is said]
///   memory       of all containers together, such as 4GiB
///   cpu          of all together, in percent of one CPU: 200 is two CPUs
///   processes    of all together
///   networks     networks of the user's own on the host [1]
///   addresses    addresses and subnets, besides private ones, that containers may have
///   ports        ports of the host that may be forwarded to containers, such as 8000-8999
///   parents      interfaces of the host that containers may be on
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
    /// What is to be changed
    #[arg(value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// The grant that holds for all users who have no own word on it
    #[arg(long)]
    everybody: bool,
    /// Take the grant away
    #[arg(long, conflicts_with = "settings")]
    remove: bool,
    /// How to print what there is
    #[arg(short, long, value_enum, default_value = "table")]
    format: RowsFormat,
}

pub fn run(args: GrantArgs) -> CliResult<i32> {
    let instance = super::base_instance()?;
    let (grantee, settings) = match (args.user, args.everybody) {
        // With --everybody the first word is a setting.
        (Some(first), true) => (Grantee::Everybody, [vec![first], args.settings].concat()),
        (None, true) => (Grantee::Everybody, args.settings),
        (Some(user), false) => (Grantee::User(user), args.settings),
        (None, false) => return list(&grant::list(&instance)?, args.format),
    };
    if args.remove || !settings.is_empty() {
        grant::change(&instance, &grantee, &settings, args.remove)?;
        return Ok(DONE);
    }
    list(&grant::one(&instance, &grantee)?, args.format)
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
        "kernel",
    ]);
    for Row { user, grant } in rows {
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
            resources(grant),
        ]);
    }
    print_rows(format, &rows, &table)?;
    Ok(DONE)
}
