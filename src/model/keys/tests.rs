//! What holds of every table, and that the documentation says the same.

use std::path::Path;

use super::{Key, Subject, Table};
use crate::model::config::CONFIG_KEYS;
use crate::model::device::{DISK_KEYS, PROXY_KEYS, UNIX_CHAR_KEYS};
use crate::model::fault::Fault;
use crate::model::grant::GRANT_KEYS;
use crate::model::network::NETWORK_KEYS;
use crate::model::nic::NIC_KEYS;

fn check<S: Subject>(table: &Table<S>) {
    for (n, key) in table.keys.iter().enumerate() {
        let name = key.name;
        assert!(table.keys[..n].iter().all(|before| before.name != name), "{name} twice");
        assert!(key.default.is_empty() || (key.kind.check)(key.default), "{name}: {}", key.default);
        assert!(key.help.len() <= 80 && !key.help.is_empty(), "{name}");
    }
    for absent in table.absent {
        let name = absent.name.replace('*', "x");
        let taken = table.keys.iter().find(|key| key.name == absent.name).map(|key| key.name);
        assert_eq!(taken, None);
        let Err(error) = table.known(&name) else { panic!("{name} is there") };
        assert_eq!(error.to_string(), format!("'{name}' is a key of LXD's that nagaya does not have"));
        let listed = format!("'{}' lists all keys and what they take", table.listed_by);
        assert_eq!(error.facts().hint.unwrap(), absent.instead.map_or(listed, str::to_owned));
    }
}

#[test]
fn the_tables_hold_together() {
    check(&CONFIG_KEYS);
    check(&NETWORK_KEYS);
    check(&NIC_KEYS);
    check(&DISK_KEYS);
    check(&UNIX_CHAR_KEYS);
    check(&PROXY_KEYS);
    check(&GRANT_KEYS);
}

#[test]
fn strangers_are_told_what_is_meant() {
    let hint = |error: Option<super::KeyError>| error.and_then(|error| error.facts().hint).unwrap();
    assert_eq!(hint(NETWORK_KEYS.known("ipv4.adress").err()), "did you mean 'ipv4.address'?");
    assert_eq!(hint(NETWORK_KEYS.known("bridge.mtu").err()), "mtu=9000");
    assert!(hint(NIC_KEYS.known("limits.max").err()).contains("limits.ingress"));
    assert_eq!(hint(GRANT_KEYS.known("container").err()), "did you mean 'containers'?");
    assert!(hint(CONFIG_KEYS.known("zzz").err()).contains("nagaya config keys"));
}

/// As the documentation shows them.
fn markdown<S: Subject>(table: &Table<S>) -> String {
    let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
    let row = |key: &Key<S>| {
        let (name, kind, default, live) =
            (code(key.name), key.kind.name, code(key.default), key.live.as_str());
        let cells = [&name, kind, &default, live, key.lxd.as_str().unwrap_or_default(), key.help];
        format!("| {} |\n", cells.join(" | ")).replace("|  |", "| |").replace("|  |", "| |")
    };
    let rows: String = table.keys.iter().map(row).collect();
    format!("| key | type | default | a change holds | in LXD | meaning |\n|---|---|---|---|---|---|\n{rows}")
}

fn check_page<S: Subject>(page: &str, table: &Table<S>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let text = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = (format!("<!-- {} -->\n", table.listed_by), "<!-- end -->");
    let found =
        text.split_once(&begin).and_then(|(_, rest)| rest.split_once(end)).map(|(table, _)| table.trim());
    let wanted = markdown(table);
    let here = found == Some(wanted.trim());
    assert!(here, "docs/{page} must have, in place of its table of keys:\n\n{begin}\n{wanted}\n{end}");
}

#[test]
fn the_documentation_has_the_tables() {
    check_page("config.md", &CONFIG_KEYS);
    check_page("networks.md", &NETWORK_KEYS);
    check_page("networks.md", &NIC_KEYS);
    check_page("devices.md", &DISK_KEYS);
    check_page("devices.md", &UNIX_CHAR_KEYS);
    check_page("devices.md", &PROXY_KEYS);
}
