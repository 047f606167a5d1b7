//! `list`: containers, those that are asked for, with what is asked for of them.

mod columns;
mod filter;
mod owners;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::columns::Column;
pub use self::columns::NAMES as COLUMNS;
use self::filter::Filter;
pub use self::filter::{is_pattern, pattern};
use super::output::{Colour, RowsFormat, print, print_json, print_lines};
use super::report::{CliResult, DONE};
use super::table::Table;
use super::{text, time};
use crate::app::App;
use crate::app::list::{self, Row};
use crate::model::config;
use crate::model::natural;
use crate::model::nic::Nic;

/// List containers
///
/// All of them, or those that the words choose: names, patterns of names such as 'web*', and
/// KEY=VALUE, where KEY is state, name, template, network, address, id, owner or a key of the
/// configuration, and VALUE may be a pattern, too. Words of different kinds must all hold.
///
/// Columns: name, owner, state, ipv4, ipv6, addresses, networks, template, pid, created, id, and
/// keys of the configuration. A narrow terminal gets fewer. JSON and CSV are for programs: they are
/// complete, and fields are only ever added.
///
/// Examples:
///   nagaya list
///   nagaya list 'web*' state=running
///   nagaya list template=debian12 user.customer=ann --names
///   nagaya list --columns name,ipv4,limits.memory
///   nagaya list --all-owners
///   nagaya list --format json | jq -r '.[] | select(.state == "running").name'
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ListArgs {
    /// Only these: names, patterns, KEY=VALUE
    #[arg(value_name = "NAME|PATTERN|KEY=VALUE")]
    names: Vec<String>,
    /// Output format
    #[arg(short, long, value_enum, default_value = "table")]
    format: RowsFormat,
    /// Columns of the table or of CSV, separated by commas
    #[arg(short, long, value_name = "COLUMN,...")]
    columns: Vec<String>,
    /// All columns, whatever the width of the terminal
    #[arg(short, long)]
    wide: bool,
    /// Only names, one a line
    #[arg(short = 'q', long = "names", conflicts_with_all = ["format", "columns", "wide"])]
    only_names: bool,
    /// (root) Everybody's containers: the system's and those of all users
    #[arg(long)]
    all_owners: bool,
}

/// A container as programs see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerJson {
    pub name: String,
    /// Among everybody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    pub id: String,
    pub state: String,
    /// The name it was launched from.
    pub template: String,
    pub template_id: String,
    /// With the prefix length of the subnet.
    pub addresses: Vec<String>,
    /// That its interfaces are on.
    pub networks: Vec<String>,
    /// Init's, on the host.
    pub pid: Option<i32>,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// What was set.
    pub config: BTreeMap<String, String>,
}

/// A container, and what people are told otherwise than programs.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Listed {
    container: ContainerJson,
    created: i64,
}

impl Listed {
    fn of(mut self, owner: &str) -> Self {
        self.container.owner = Some(owner.to_owned());
        self
    }

    /// What holds of a key.
    fn effective(&self, key: &str) -> String {
        let default = config::find(key).map(|known| known.default).unwrap_or_default();
        self.container.config.get(key).map_or(default, String::as_str).to_owned()
    }
}

impl From<&Row> for ContainerJson {
    fn from(row: &Row) -> Self {
        let container = &row.container;
        Self {
            name: container.name.to_string(),
            id: container.id.to_string(),
            owner: None,
            state: row.state.as_str().to_owned(),
            template: text::line(&container.template_name),
            template_id: container.template.to_string(),
            addresses: container.nics.iter().flat_map(with_prefix).collect(),
            networks: container.nics.iter().filter_map(Nic::network).map(str::to_owned).collect(),
            config: container.config.clone().into(),
            pid: row.pid,
            created_at: time::rfc3339(container.created_at),
        }
    }
}

/// Its addresses with their prefix lengths.
fn with_prefix(nic: &Nic) -> impl Iterator<Item = String> {
    let (ipv4, ipv6) = (nic.ipv4.map(|net| net.to_string()), nic.ipv6.map(|net| net.to_string()));
    ipv4.into_iter().chain(ipv6)
}

pub fn run(args: ListArgs) -> CliResult<i32> {
    let filter = Filter::parse(&args.names)?;
    let chosen = columns::chosen(&args.columns)?;
    let (mut rows, code) = match args.all_owners {
        true => owners::all(&filter)?,
        false => {
            let mut rows = rows(&mut super::open()?, &filter)?;
            filter.check_named(&rows)?;
            rows.retain(|listed| filter.takes(listed));
            (rows, DONE)
        }
    };
    rows.sort_by(|a, b| {
        let (a, b) = (&a.container, &b.container);
        a.owner.cmp(&b.owner).then_with(|| natural::compare(&a.name, &b.name))
    });
    show(&rows, &args, chosen)?;
    Ok(code)
}

/// What there is, before it is filtered.
fn rows(app: &mut App, filter: &Filter) -> CliResult<Vec<Listed>> {
    let names = if filter.is_names_only() { filter.names.as_slice() } else { &[] };
    let listed =
        |row: &Row| Listed { container: ContainerJson::from(row), created: row.container.created_at };
    Ok(list::list(app, names)?.iter().map(listed).collect())
}

fn show(rows: &[Listed], args: &ListArgs, chosen: Vec<Column>) -> CliResult<()> {
    if args.only_names {
        return print_lines(&rows.iter().map(|listed| listed.container.name.clone()).collect::<Vec<_>>());
    }
    let is_chosen = !chosen.is_empty();
    let columns = if is_chosen { chosen } else { Column::usual(args.wide, args.all_owners) };
    match args.format {
        RowsFormat::Json => print_json(&rows.iter().map(|listed| &listed.container).collect::<Vec<_>>()),
        RowsFormat::Csv if is_chosen => print(&table(rows, &columns, None).csv()),
        RowsFormat::Csv => print(&csv(rows, args.all_owners)),
        RowsFormat::Table if rows.is_empty() => Ok(()),
        RowsFormat::Table if args.wide => print(&table(rows, &columns, Some(time::now())).wide()),
        RowsFormat::Table => {
            let table = table(rows, &columns, Some(time::now()));
            // Who asks for a column gets it.
            print(&if is_chosen { table } else { table.optional(columns::OPTIONAL) }.text())
        }
    }
}

fn csv(rows: &[Listed], with_owner: bool) -> String {
    let mut columns =
        vec!["name", "id", "state", "template", "template_id", "addresses", "pid", "created_at"];
    columns.extend(with_owner.then_some("owner"));
    let mut table = Table::new(&columns);
    for Listed { container: c, .. } in rows {
        let mut cells = vec![
            c.name.clone(),
            c.id.clone(),
            c.state.clone(),
            c.template.clone(),
            c.template_id.clone(),
            c.addresses.join(" "),
            c.pid.map(|p| p.to_string()).unwrap_or_default(),
            c.created_at.clone(),
        ];
        cells.extend(c.owner.clone());
        table.row(cells);
    }
    table.csv()
}

/// For people with the time that it is, for programs without.
fn table(rows: &[Listed], columns: &[Column], now: Option<i64>) -> Table {
    let mut table = Table::new(&columns.iter().map(Column::title).collect::<Vec<_>>());
    if let Some(state) = columns.iter().position(|column| *column == Column::Known("state")) {
        table = table.paint(state, colour);
    }
    for listed in rows {
        table.row(columns.iter().map(|column| column.cell(listed, now)).collect());
    }
    table
}

fn colour(state: &str) -> Option<Colour> {
    match state {
        "running" => Some(Colour::Green),
        "frozen" => Some(Colour::Blue),
        "busy" => Some(Colour::Yellow),
        _ => None,
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::model::config::Config;
    use crate::model::container::{Container, Phase, State};
    use crate::model::ids::Slice;
    use crate::model::mac::Mac;
    use crate::model::name::{ContainerId, Name};
    use crate::model::nic::{NicKind, NicSettings};
    use crate::model::template::TemplateId;

    pub fn row() -> Row {
        Row {
            container: Container {
                id: ContainerId::from_random(0xab),
                name: Name::new("web01").unwrap(),
                template: TemplateId::new(&"0a".repeat(32)).unwrap(),
                template_name: "debian12".to_owned(),
                slice: Slice::at(231_072).unwrap(),
                uuid: "f".repeat(32),
                created_at: 1_763_719_390,
                phase: Phase::Settled,
                wanted_up: true,
                nics: vec![Nic {
                    device: "eth0".to_owned(),
                    name: "eth0".to_owned(),
                    slot: 0,
                    kind: NicKind::Bridged { network: "nagaya0".to_owned() },
                    mac: Mac([2, 0, 0, 0, 0, 1]),
                    ipv4: Some("10.9.0.7/20".parse().unwrap()),
                    gateway4: Some("10.9.0.1".parse().unwrap()),
                    ipv6: None,
                    gateway6: None,
                    settings: NicSettings::default(),
                }],
                config: Config::default(),
            },
            state: State::Running,
            pid: Some(4711),
        }
    }

    fn listed(row: &Row) -> Listed {
        Listed { container: ContainerJson::from(row), created: row.container.created_at }
    }

    #[test]
    fn programs_find_addresses_and_times_in_standard_forms() {
        let json = serde_json::to_value(ContainerJson::from(&row())).unwrap();
        assert_eq!(json["name"], "web01");
        assert_eq!(json["state"], "running");
        assert_eq!(json["addresses"], serde_json::json!(["10.9.0.7/20"]));
        assert_eq!(json["networks"], serde_json::json!(["nagaya0"]));
        assert_eq!(json["created_at"], "2025-11-21T10:03:10Z");
        assert_eq!(json["pid"], 4711);
        assert!(json.get("owner").is_none());
    }

    #[test]
    fn a_stopped_container_has_no_process() {
        let rows = [listed(&Row { state: State::Stopped, pid: None, ..row() })];
        let csv = csv(&rows, false);
        let id = "0a".repeat(32);
        assert_eq!(
            csv.lines().nth(1).unwrap(),
            format!("web01,000000ab,stopped,debian12,{id},10.9.0.7/20,,2025-11-21T10:03:10Z")
        );
        assert_eq!(
            table(&rows, &Column::usual(true, false), Some(1_763_719_390 + 180)).wide(),
            "NAME    STATE     IPV4       IPV6   NETWORKS   TEMPLATE   PID   CREATED\n\
             web01   stopped   10.9.0.7   -      nagaya0    debian12   -     3 minutes ago\n"
        );
    }

    #[test]
    fn further_addresses_are_counted_for_people_and_told_to_programs() {
        let mut row = row();
        let mut second = row.container.nics[0].clone();
        second.ipv4 = Some("192.0.2.7/24".parse().unwrap());
        second.ipv6 = Some("2001:db8::7/64".parse().unwrap());
        row.container.nics.push(second);
        let rows = [listed(&row).of("ann")];
        let columns =
            columns::chosen(&["owner,ipv4".into(), "ipv6".into(), "limits.cpu.priority".into()]).unwrap();
        assert_eq!(
            table(&rows, &columns, Some(0)).wide(),
            "OWNER   IPV4          IPV6          LIMITS.CPU.PRIORITY\n\
             ann     10.9.0.7 +1   2001:db8::7   10\n"
        );
        assert_eq!(
            table(&rows, &columns, None).csv(),
            "owner,ipv4,ipv6,limits.cpu.priority\nann,10.9.0.7 192.0.2.7,2001:db8::7,10\n"
        );
        for bad in ["nam", "limits.memroy", "user"] {
            assert!(columns::chosen(&[bad.into()]).is_err(), "{bad}");
        }
    }

    #[test]
    fn words_choose() {
        let row = listed(&row()).of("ann");
        let takes = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            Filter::parse(&words).map(|filter| filter.takes(&row)).map_err(|e| e.to_string())
        };
        for words in [
            &[][..],
            &["web01"],
            &["web*"],
            &["db*", "web01"],
            &["state=running"],
            &["state=stopped,running", "template=debian*"],
            &["state=stopped", "state=running"],
            &["address=10.9.*"],
            &["network=nagaya0", "owner=ann"],
            &["boot.autostart=false"],
            &["user.customer="],
        ] {
            assert_eq!(takes(words), Ok(true), "{words:?}");
        }
        for words in [
            &["web0?1"][..],
            &["db*"],
            &["web*", "state=stopped"],
            &["state=paused"],
            &["template=debian"],
            &["user.customer=ann"],
        ] {
            assert_eq!(takes(words), Ok(false), "{words:?}");
        }
        for words in [&["state=runing"][..], &["stat=running"], &["[a"], &["limits.memroy=1"], &["Web"]] {
            assert!(takes(words).is_err(), "{words:?}");
        }
    }
}
