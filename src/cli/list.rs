use serde::Serialize;

use super::output::{Colour, RowsFormat, print, print_json};
use super::report::{CliResult, DONE};
use super::table::Table;
use super::{text, time};
use crate::app::list::{self, Row};
use crate::model::nic::Nic;

/// List containers
///
/// All of them, or those named. JSON and CSV are for programs: fields are only ever added.
///
/// Examples:
///   nagaya list
///   nagaya list web01 web02
///   nagaya list --format json | jq -r '.[] | select(.state == "running").name'
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ListArgs {
    /// Only these
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// How to print them
    #[arg(short, long, value_enum, default_value = "table")]
    format: RowsFormat,
}

/// A container as programs see it.
#[derive(Serialize)]
pub struct ContainerJson {
    pub name: String,
    pub id: String,
    pub state: &'static str,
    /// The name it was launched from.
    pub template: String,
    pub template_id: String,
    /// With the prefix length of the subnet.
    pub addresses: Vec<String>,
    /// Init's, on the host.
    pub pid: Option<i32>,
    /// RFC 3339, UTC.
    pub created_at: String,
}

impl From<&Row> for ContainerJson {
    fn from(row: &Row) -> Self {
        let container = &row.container;
        Self {
            name: container.name.to_string(),
            id: container.id.to_string(),
            state: row.state.as_str(),
            template: text::line(&container.template_name),
            template_id: container.template.to_string(),
            addresses: container.nics.iter().flat_map(with_prefix).collect(),
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
    let names = args.names.iter().map(|n| super::name(n)).collect::<CliResult<Vec<_>>>()?;
    let rows = list::list(&mut super::open()?, &names)?;
    let containers: Vec<_> = rows.iter().map(ContainerJson::from).collect();
    match args.format {
        RowsFormat::Json => print_json(&containers)?,
        RowsFormat::Csv => print(&csv(&containers))?,
        RowsFormat::Table if rows.is_empty() => {}
        RowsFormat::Table => print(&table(&rows, &containers, time::now()))?,
    }
    Ok(DONE)
}

fn csv(containers: &[ContainerJson]) -> String {
    let mut table =
        Table::new(&["name", "id", "state", "template", "template_id", "addresses", "pid", "created_at"]);
    for c in containers {
        table.row(vec![
            c.name.clone(),
            c.id.clone(),
            c.state.to_owned(),
            c.template.clone(),
            c.template_id.clone(),
            c.addresses.join(" "),
            c.pid.map(|p| p.to_string()).unwrap_or_default(),
            c.created_at.clone(),
        ]);
    }
    table.csv()
}

fn table(rows: &[Row], containers: &[ContainerJson], now: i64) -> String {
    let mut table = Table::new(&["name", "state", "address", "template", "pid", "created"]).paint(1, colour);
    for (row, c) in rows.iter().zip(containers) {
        table.row(vec![
            c.name.clone(),
            c.state.to_owned(),
            c.addresses.join(" "),
            c.template.clone(),
            c.pid.map(|p| p.to_string()).unwrap_or_default(),
            time::age(now, row.container.created_at),
        ]);
    }
    table.text()
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

    #[test]
    fn programs_find_addresses_and_times_in_standard_forms() {
        let json = serde_json::to_value(ContainerJson::from(&row())).unwrap();
        assert_eq!(json["name"], "web01");
        assert_eq!(json["state"], "running");
        assert_eq!(json["addresses"], serde_json::json!(["10.9.0.7/20"]));
        assert_eq!(json["created_at"], "2025-11-21T10:03:10Z");
        assert_eq!(json["pid"], 4711);
    }

    #[test]
    fn a_stopped_container_has_no_process() {
        let row = Row { state: State::Stopped, pid: None, ..row() };
        let containers = [ContainerJson::from(&row)];
        let csv = csv(&containers);
        let id = "0a".repeat(32);
        assert_eq!(
            csv.lines().nth(1).unwrap(),
            format!("web01,000000ab,stopped,debian12,{id},10.9.0.7/20,,2025-11-21T10:03:10Z")
        );
        assert_eq!(
            table(&[row], &containers, 1_763_719_390 + 180),
            "NAME    STATE     ADDRESS       TEMPLATE   PID   CREATED\n\
             web01   stopped   10.9.0.7/20   debian12   -     3 minutes ago\n"
        );
    }
}
