//! Devices as tables of a text: `[devices.data]`, with their type and their keys.

use std::collections::BTreeMap;

use toml_edit::{DocumentMut, Item, Table};

use super::error::{DocumentError, Fault};
use super::reader::Section;
use super::writer::{keep, put_new};
use crate::model::device::{Device, DeviceType, check_all};

/// The devices that a section has, by name. Interfaces are none of them.
pub fn devices(section: &Section<'_>) -> Result<Vec<Device>, DocumentError> {
    let Some(all) = section.section("devices")? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for (name, table) in section.sections("devices")? {
        let place = table.place();
        let mut pairs: BTreeMap<String, String> =
            all.pairs(&name)?.into_iter().map(|pair| (pair.key, pair.value)).collect();
        let typed = pairs.remove("type").ok_or_else(|| {
            DocumentError::wrong(
                place,
                format!("device '{name}' has no type: write type = \"disk\", for example"),
            )
        })?;
        let device_type = match DeviceType::parse(&typed) {
            Some(DeviceType::Nic) => {
                return Err(DocumentError::wrong(
                    place,
                    format!(
                        "'{name}' cannot be a nic here: an interface has addresses that are its container's alone"
                    ),
                ));
            }
            Some(known) => known,
            None => {
                let what =
                    format!("'{typed}' is no type of device: they are disk, unix-char, proxy and none");
                return Err(DocumentError::wrong(place, what));
            }
        };
        let device = Device::of(&name, device_type, &pairs);
        found.push(device.map_err(|e| DocumentError { place, fault: Fault::Key(e) })?);
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    check_all(&found, &[]).map_err(|e| DocumentError::wrong(all.place(), e.to_string()))?;
    Ok(found)
}

/// Gives a document just these devices.
pub(super) fn put_devices(document: &mut DocumentMut, devices: &[Device]) {
    if devices.is_empty() {
        document.remove("devices");
        return;
    }
    if !document.get("devices").is_some_and(Item::is_table_like) {
        let mut table = Table::new();
        table.set_implicit(true);
        document.insert("devices", Item::Table(table));
    }
    let Some(table) = document.get_mut("devices").and_then(Item::as_table_like_mut) else { return };
    let present: Vec<String> = table.iter().map(|(name, _)| name.to_owned()).collect();
    for name in present.iter().filter(|name| devices.iter().all(|device| device.name != **name)) {
        table.remove(name);
    }
    for device in devices {
        let config = device.config();
        let mut wanted: BTreeMap<&str, &str> =
            config.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        wanted.insert("type", device.device_type().as_str());
        if !table.get(&device.name).is_some_and(Item::is_table_like) {
            table.insert(&device.name, Item::Table(Table::new()));
        }
        if let Some(inner) = table.get_mut(&device.name).and_then(Item::as_table_like_mut) {
            keep(inner, "", &mut wanted);
            put_new(inner, wanted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::document::Document;

    fn read(text: &str) -> Result<Vec<Device>, String> {
        let document = Document::parse(text).map_err(|e| e.to_string())?;
        devices(&document.root("the file")).map_err(|e| e.to_string())
    }

    #[test]
    fn devices_are_tables_and_are_written_as_they_are_read() {
        let text = "# Shared.\n[devices.data] # big\ntype = \"disk\"\nsource = \"/srv\"\npath = \"/data\"\nreadonly = true\n\
                    \n[devices.\"a.b\"]\ntype = \"none\"\n";
        let found = read(text).unwrap();
        let lines: Vec<String> = found.iter().map(Device::line).collect();
        assert_eq!(lines, ["none", "disk path=/data readonly=true source=/srv"]);
        let mut document: DocumentMut = text.parse().unwrap();
        put_devices(&mut document, &found);
        assert_eq!(document.to_string(), text);
        put_devices(&mut document, &found[1..]);
        assert_eq!(read(&document.to_string()).unwrap(), found[1..]);
        assert!(document.to_string().contains("[devices.data] # big"), "{document}");
        put_devices(&mut document, &[]);
        assert_eq!(read(&document.to_string()).unwrap(), []);
        let mut fresh = DocumentMut::new();
        put_devices(&mut fresh, &found);
        assert_eq!(read(&fresh.to_string()).unwrap(), found);
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (text, said) in [
            ("[devices.a]\npath = '/a'", "line 1, column 10: device 'a' has no type"),
            ("[devices.a]\ntype = 'nic'", "line 1, column 10: 'a' cannot be a nic here"),
            ("[devices.a]\ntype = 'gpu'", "line 1, column 10: 'gpu' is no type of device"),
            ("[devices.a]\ntype = 'disk'", "line 1, column 10: a disk needs source"),
            ("[devices.a]\ntype = 'none'\npath = '/a'", "line 1, column 10: path is only for"),
            ("devices = 1", "line 1, column 1: 'devices' must be a table"),
            (
                "[devices.a]\ntype='disk'\nsource='tmpfs:'\npath='/a'\n[devices.b]\ntype='disk'\nsource='tmpfs:'\npath='/a'",
                "line 1, column",
            ),
        ] {
            let found = read(text).unwrap_err();
            assert!(found.starts_with(said), "{text}: {found}");
        }
    }
}
