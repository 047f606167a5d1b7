use std::collections::BTreeMap;

use crate::api::containers::{Details, Ended, Show};
use crate::cli::arguments::names;
use crate::cli::error::{CliResult, DONE};
use crate::cli::output::table::pairs;
use crate::cli::output::{Format, print, print_json};
use crate::cli::output::{text, time};
use crate::cli::request::ask;
use crate::model::config::CONFIG_KEYS;
use crate::model::ids::IDS_PER_RANGE;
use crate::sys::cgroup::usage::Usage;
use crate::sys::fs::quota::Taken;

/// Show all about containers
///
/// The JSON of one container is an object, that of several is an array.
///
/// Examples:
///   nagaya info web01
///   nagaya info 'web*'
///   nagaya info web01 --format json | jq -r .addresses[0]
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct InfoArgs {
    /// The container, or several, or patterns such as 'web*'
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Output format
    #[arg(short, long, value_enum, default_value = "table")]
    format: Format,
}

pub fn run(args: InfoArgs) -> CliResult<i32> {
    let names = names::expand(&args.names)?;
    let mut app = crate::cli::open()?;
    let show = |name| ask(&mut app, Show { name });
    let rows = names.into_iter().map(show).collect::<Result<Vec<_>, _>>()?;
    match (args.format, rows.as_slice()) {
        (Format::Json, [one]) => print_json(one)?,
        (Format::Json, rows) => print_json(&rows)?,
        (Format::Table, rows) => {
            let age = |row: &Details| time::age(time::now(), row.container.created_at.0);
            let sheets = rows.iter().map(|row| sheet(row, &age(row)));
            print(&sheets.collect::<Vec<_>>().join("\n"))?;
        }
    }
    Ok(DONE)
}

fn sheet(info: &Details, age: &str) -> String {
    let c = &info.container;
    let state = match (c.state.as_str(), info.ready) {
        (state, _) if info.stopping => format!("{state}, asked to stop"),
        ("running", true) => "running, up".to_owned(),
        ("running", false) => "running, still coming up".to_owned(),
        (state, _) => state.to_owned(),
    };
    let mut lines = vec![
        ("Name", c.name.clone()),
        ("State", state),
        ("Template", format!("{} ({:.12})", c.template, c.template_id)),
        ("Created", format!("{} ({age})", c.created_at)),
        (
            "Desired state",
            if info.wanted_up { "running (starts with the host)" } else { "stopped" }.to_owned(),
        ),
    ];
    if c.storage != "default" {
        lines.push(("Storage", c.storage.clone()));
    }
    if !c.profiles.is_empty() {
        lines.push(("Profiles", c.profiles.join(", ")));
    }
    let mut add = |name, value: Option<String>| lines.extend(value.map(|v| (name, v)));
    for address in &c.addresses {
        add("Address", Some(address.clone()));
    }
    add("Gateway", info.gateway.clone());
    add("MAC", info.mac.clone());
    add("Bridge", info.bridge.clone());
    add("Host link", info.host_link.clone());
    for nic in info.nics.iter().skip(1) {
        let place = nic.network.as_deref().unwrap_or(nic.nictype);
        add("Interface", Some(format!("{} on {place}, {}", nic.interface, nic.mac)));
    }
    add("Init", c.pid.map(|pid| format!("process {pid}")));
    add("Monitor", info.monitor_pid.map(|pid| format!("process {pid}")));
    if c.pid.is_some() {
        add("Processes", Some(info.processes.to_string()));
        add("Boots", Some(info.boots.to_string()));
    }
    for line in info.usage.iter().flat_map(usage_lines) {
        add(line.0, Some(line.1));
    }
    add(
        "Traffic",
        info.traffic.map(|t| {
            let (received, sent) = (text::size(t.received_bytes), text::size(t.sent_bytes));
            format!(
                "{received} in {} packets received, {sent} in {} sent, in all",
                t.received_packets, t.sent_packets
            )
        }),
    );
    for (file, value) in info.limits.iter().filter(|(file, value)| !is_usual(file, value)) {
        add("Limit", Some(limit(file, value, &c.expanded_config)));
    }
    for line in info.disk.iter().flat_map(disk_lines) {
        add(line.0, Some(line.1));
    }
    add("Snapshots", Some(info.snapshots.to_string()).filter(|_| info.snapshots > 0));
    add("Layers", Some(format!("{} above its template", info.layers)).filter(|_| info.layers > 0));
    add("Last end", info.ended.as_ref().map(ending));
    add("Ids", Some(format!("{}-{}", info.first_id, info.first_id + (IDS_PER_RANGE - 1))));
    add("Cgroup", Some(info.cgroup.clone()));
    add("Id", Some(c.id.clone()));
    add("UUID", Some(info.uuid.clone()));
    for note in &info.notes {
        add("Note", Some(note.clone()));
    }
    pairs(&lines)
}

/// The key that was set, with the file of the cgroup that enforces it; without such a key, the file alone.
fn limit(file: &str, value: &str, config: &BTreeMap<String, String>) -> String {
    let keys = CONFIG_KEYS.keys.iter().filter(|key| key.sets.contains(&file));
    let set = keys.filter_map(|key| config.get(key.name).map(|set| format!("{} {set}", key.name)));
    match set.collect::<Vec<_>>().join(", ") {
        set if set.is_empty() => format!("{file} {value}"),
        set => format!("{set} ({file} {value})"),
    }
}

fn disk_lines(disk: &Taken) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if disk.size > 0 {
        lines.push(("Own data", format!("{} of {}", text::size(disk.bytes), text::size(disk.size))));
    }
    if disk.inodes > 0 {
        lines.push(("Own files", format!("{} of {}", disk.files, disk.inodes)));
    }
    lines
}

/// Whether the file of a cgroup has the kernel's own default, which limits nothing.
fn is_usual(file: &str, value: &str) -> bool {
    match file {
        "cpu.max" => value.starts_with("max "),
        "cpu.weight" => value == "100",
        "io.weight" | "io.bfq.weight" => matches!(value, "100" | "default 100"),
        // As cpuset.cpus, or all that there are.
        "cpuset.cpus.effective" => true,
        _ => matches!(value, "max" | ""),
    }
}

fn usage_lines(usage: &Usage) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if let Some(memory) = usage.memory {
        let peak = usage.memory_peak.map(|peak| format!(", {} at most", text::size(peak)));
        lines.push(("Memory", format!("{}{}", text::size(memory), peak.unwrap_or_default())));
    }
    lines.extend(usage.swap.filter(|bytes| *bytes > 0).map(|bytes| ("Swap", text::size(bytes))));
    lines.extend(usage.oom_kills.filter(|n| *n > 0).map(|n| ("OOM kills", n.to_string())));
    lines.extend(usage.cpu.map(|micros| ("CPU time", format!("{:.1} s", micros as f64 / 1e6))));
    if let (Some(read), Some(written)) = (usage.io_read, usage.io_written) {
        lines.push(("Disk", format!("{} read, {} written", text::size(read), text::size(written))));
    }
    if let (Some(received), Some(sent)) = (usage.net_received, usage.net_sent) {
        lines.push(("Network", format!("{} received, {} sent", text::size(received), text::size(sent))));
    }
    lines.push(match &usage.pressure {
        Some(p) => {
            let [cpu, memory, io] = [p.cpu[0], p.memory[0], p.io[0]];
            let text = format!("{cpu:.1}% CPU, {memory:.1}% memory, {io:.1}% disk (waiting, last 10 s)");
            ("Pressure", text)
        }
        None => ("Pressure", "not measured by this kernel (boot it with psi=1)".to_owned()),
    });
    lines
}

fn ending(ended: &Ended) -> String {
    if ended.clean { ended.reason.clone() } else { format!("{} (nobody asked for it)", ended.reason) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::containers::list::Info;
    use crate::model::config::Config;
    use crate::model::firewall::traffic::Traffic;
    use crate::runtime::protocol;

    #[test]
    fn all_is_said_once_and_harmless() {
        let mut row = super::super::list::tests::row();
        row.container.config = Config::of([("limits.memory", "512MiB")]).unwrap().into();
        let info = Info {
            row,
            ready: true,
            stopping: false,
            boots: 2,
            ended: Some(protocol::Ended {
                reason: "its init\n\x1b[31mdied".to_owned(),
                clean: false,
                asked: false,
            }),
            monitor_pid: Some(4710),
            processes: 9,
            host_links: vec!["ng000000ab".to_owned()],
            bridges: vec!["nagaya0".to_owned()],
            cgroup: "/nagaya/000000ab".to_owned(),
            limits: [
                ("cpu.max", "max 100000".to_owned()),
                ("cpu.weight", "50".to_owned()),
                ("memory.max", "536870912".to_owned()),
                ("pids.max", "max".to_owned()),
            ]
            .into(),
            usage: Some(Usage {
                memory: Some(40 << 20),
                memory_peak: Some(90 << 20),
                cpu: Some(1_250_000),
                net_received: Some(0),
                net_sent: Some(17),
                ..Usage::default()
            }),
            traffic: Some(Traffic {
                sent_packets: 3,
                sent_bytes: 300,
                received_packets: 4,
                received_bytes: 4096,
            }),
            disk: Some(Taken { bytes: 3 << 30, size: 10 << 30, files: 0, inodes: 0 }),
            snapshots: 3,
            layers: 1,
            notes: vec!["It runs without limits.".to_owned()],
        };
        let json = Details::from(&info);
        let text = sheet(&json, "1 day ago");
        snapbox::assert_data_eq!(
            text,
            snapbox::str![[r#"
Name:          web01
State:         running, up
Template:      debian12 (0a0a0a0a0a0a)
Created:       2025-11-21T10:03:10Z (1 day ago)
Desired state: running (starts with the host)
Address:       10.9.0.7/20
Gateway:       10.9.0.1
MAC:           02:00:00:00:00:01
Bridge:        nagaya0
Host link:     ng000000ab
Init:          process 4711
Monitor:       process 4710
Processes:     9
Boots:         2
Memory:        40 MiB, 90 MiB at most
CPU time:      1.2 s
Network:       0 B received, 17 B sent
Pressure:      not measured by this kernel (boot it with psi=1)
Traffic:       4.0 KiB in 4 packets received, 300 B in 3 sent, in all
Limit:         cpu.weight 50
Limit:         limits.memory 512MiB (memory.max 536870912)
Own data:      3.0 GiB of 10 GiB
Snapshots:     3
Layers:        1 above its template
Last end:      its init died (nobody asked for it)
Ids:           231072-296607
Cgroup:        /nagaya/000000ab
Id:            000000ab
UUID:          ffffffffffffffffffffffffffffffff
Note:          It runs without limits.

"#]]
        );
        let json = serde_json::to_value(&json).unwrap();
        assert_eq!(json["name"], "web01");
        assert_eq!(json["ended"]["reason"], "its init died");
    }
}
