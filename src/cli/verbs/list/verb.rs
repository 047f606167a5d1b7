//! `list`: the containers that the arguments choose, with the columns that they choose.

use super::columns::{self, Column};
use super::filter::Filter;
use super::{own, owners};
use crate::api::containers::Container;
use crate::cli::error::{CliResult, DONE};
use crate::cli::output::table::Table;
use crate::cli::output::time;
use crate::cli::output::{Colour, RowsFormat, print, print_json, print_lines};
use crate::model::natural;

/// List containers
///
/// Lists all containers, or those that the arguments choose: names, patterns of names such as 'web*',
/// and KEY=VALUE. KEY is state, name, template, network, profile, address, id, owner or a key of the
/// configuration; VALUE may be a pattern, too. Arguments of different kinds must all match.
///
/// Columns: name, owner, state, ipv4, ipv6, addresses, networks, profiles, template, pid, created, id, and
/// keys of the configuration. A narrow terminal gets fewer. JSON and CSV are for programs: they have
/// all fields, and new versions only add fields.
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
    /// Only containers that match: names, patterns, KEY=VALUE
    #[arg(value_name = "NAME|PATTERN|KEY=VALUE")]
    pub(super) names: Vec<String>,
    /// Output format
    #[arg(short, long, value_enum, default_value = "table")]
    pub(super) format: RowsFormat,
    /// Columns of the table or of CSV, separated by commas
    #[arg(short, long, value_name = "COLUMN,...")]
    pub(super) columns: Vec<String>,
    /// All columns, whatever the width of the terminal
    #[arg(short, long)]
    pub(super) wide: bool,
    /// Only names, one a line
    #[arg(short = 'q', long = "names", conflicts_with_all = ["format", "columns", "wide"])]
    pub(super) only_names: bool,
    /// (root) All containers: the system's and those of every user
    #[arg(long)]
    pub(super) all_owners: bool,
}

pub fn run(args: ListArgs) -> CliResult<i32> {
    let filter = Filter::parse(&args.names)?;
    let chosen = columns::chosen(&args.columns)?;
    let (mut rows, code) = match args.all_owners {
        true => owners::all(&filter)?,
        false => {
            let mut rows = own::rows(&mut crate::cli::open()?, &filter)?;
            filter.check_named(&rows)?;
            rows.retain(|listed| filter.takes(listed));
            (rows, DONE)
        }
    };
    rows.sort_by(|a, b| a.owner.cmp(&b.owner).then_with(|| natural::compare(&a.name, &b.name)));
    show(&rows, &args, chosen)?;
    Ok(code)
}

fn show(rows: &[Container], args: &ListArgs, chosen: Vec<Column>) -> CliResult<()> {
    if args.only_names {
        return print_lines(&rows.iter().map(|listed| listed.name.clone()).collect::<Vec<_>>());
    }
    let is_chosen = !chosen.is_empty();
    let columns = if is_chosen { chosen } else { Column::usual(args.wide, args.all_owners) };
    match args.format {
        RowsFormat::Json => print_json(&rows),
        RowsFormat::Csv if is_chosen => print(&table(rows, &columns, None).csv()),
        RowsFormat::Csv => print(&csv(rows, args.all_owners)),
        RowsFormat::Table if rows.is_empty() => Ok(()),
        RowsFormat::Table if args.wide => print(&table(rows, &columns, Some(time::now())).wide()),
        RowsFormat::Table => {
            let table = table(rows, &columns, Some(time::now()));
            // Columns that were asked for are never left out.
            print(&if is_chosen { table } else { table.optional(columns::OPTIONAL) }.text())
        }
    }
}

fn csv(rows: &[Container], with_owner: bool) -> String {
    let mut columns =
        vec!["name", "id", "state", "template", "template_id", "addresses", "pid", "created_at"];
    columns.extend(with_owner.then_some("owner"));
    let mut table = Table::new(&columns);
    for c in rows {
        let mut cells = vec![
            c.name.clone(),
            c.id.clone(),
            c.state.clone(),
            c.template.clone(),
            c.template_id.clone(),
            c.addresses.join(" "),
            c.pid.map(|p| p.to_string()).unwrap_or_default(),
            c.created_at.to_string(),
        ];
        cells.extend(c.owner.clone());
        table.row(cells);
    }
    table.csv()
}

/// The table; `now` is given for output to users and None for programs.
fn table(rows: &[Container], columns: &[Column], now: Option<i64>) -> Table {
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
    use crate::app::containers::list::Row;
    use crate::model::container::{self, Phase, State};
    use crate::model::ids::IdRange;
    use crate::model::mac::Mac;
    use crate::model::name::{ContainerId, Name};
    use crate::model::nic::{Nic, NicKind, NicSettings};
    use crate::model::pool::PoolName;
    use crate::model::template::TemplateId;

    pub fn row() -> Row {
        Row {
            container: container::Container {
                id: ContainerId::from_random(0xab),
                name: Name::new("web01").unwrap(),
                template: TemplateId::new(&"0a".repeat(32)).unwrap(),
                template_name: "debian12".to_owned(),
                pool: PoolName::default_one(),
                id_range: IdRange::at(231_072).unwrap(),
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
                devices: Vec::new(),
                config: crate::model::profile::Layered::default(),
            },
            state: State::Running,
            pid: Some(4711),
        }
    }

    fn listed(row: &Row) -> Container {
        Container::from(row)
    }

    fn of_ann(row: &Row) -> Container {
        Container { owner: Some("ann".to_owned()), ..Container::from(row) }
    }

    #[test]
    fn programs_find_addresses_and_times_in_standard_forms() {
        let json = serde_json::to_value(Container::from(&row())).unwrap();
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
        let rows = [of_ann(&row)];
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
        let row = of_ann(&row());
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
            &["boot.autostart.delay=0"],
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
