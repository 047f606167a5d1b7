//! Devices of containers besides interfaces.

use rusqlite::Connection;

use super::containers::{check, insert_device, one};
use super::error::Attempt;
use super::{Store, StoreError};
use crate::model::device::Device;
use crate::model::name::ContainerId;

impl Store {
    /// Gives a container one more device.
    pub fn add_device(&mut self, id: &ContainerId, device: &Device) -> Result<(), StoreError> {
        self.write("add a device", |tx| {
            insert_device(tx, id, device)?;
            check(&one(tx, id)?)
        })
    }

    /// Puts another device in the place of the one of that name.
    pub fn set_device(&mut self, id: &ContainerId, device: &Device) -> Result<(), StoreError> {
        self.write("change a device", |tx| {
            remove(tx, id, &device.name)?;
            insert_device(tx, id, device)?;
            check(&one(tx, id)?)
        })
    }

    pub fn remove_device(&mut self, id: &ContainerId, name: &str) -> Result<(), StoreError> {
        self.write("remove a device", |tx| remove(tx, id, name))
    }
}

fn remove(conn: &Connection, id: &ContainerId, name: &str) -> Attempt<()> {
    match conn.prepare_cached("DELETE FROM device WHERE container = ?1 AND name = ?2")?.execute((id, name))? {
        0 => Err(StoreError::NoSuchDevice { device: name.to_owned() }.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::device::DeviceType;
    use crate::store::fixture::{store, web};

    fn disk(name: &str, path: &str) -> Device {
        let pairs =
            [("source", "/srv"), ("path", path)].map(|(key, value)| (key.to_owned(), value.to_owned()));
        Device::of(name, DeviceType::Disk, &pairs.into()).unwrap()
    }

    #[test]
    fn devices_come_change_and_go() {
        let (_dir, mut store) = store();
        let mut new = web(1);
        new.devices = vec![disk("z", "/z"), disk("a", "/a")];
        let made = store.create_container(&new).unwrap();
        assert_eq!(made.devices, [disk("a", "/a"), disk("z", "/z")]);
        store.add_device(&made.id, &disk("m", "/m")).unwrap();
        store.set_device(&made.id, &disk("a", "/b")).unwrap();
        store.remove_device(&made.id, "z").unwrap();
        assert_eq!(
            store.container_by_id(&made.id).unwrap().unwrap().devices,
            [disk("a", "/b"), disk("m", "/m")]
        );
        assert!(matches!(store.remove_device(&made.id, "z"), Err(StoreError::NoSuchDevice { .. })));
        assert!(matches!(store.set_device(&made.id, &disk("z", "/z")), Err(StoreError::NoSuchDevice { .. })));
        store.delete_container(&made.id).unwrap();
        let rows: i64 = store.conn.query_row("SELECT count(*) FROM device", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 0);
    }

    #[test]
    fn what_breaks_a_rule_is_not_stored() {
        let (_dir, mut store) = store();
        let id = store.create_container(&web(1)).unwrap().id;
        store.add_device(&id, &disk("a", "/a")).unwrap();
        for bad in [disk("b", "/a"), disk("eth0", "/e")] {
            assert!(matches!(store.add_device(&id, &bad), Err(StoreError::BadField { .. })));
        }
        assert_eq!(store.container_by_id(&id).unwrap().unwrap().devices, [disk("a", "/a")]);
        for n in 1..16 {
            store.add_device(&id, &disk(&format!("d{n}"), &format!("/d{n}"))).unwrap();
        }
        assert!(matches!(store.add_device(&id, &disk("more", "/more")), Err(StoreError::BadField { .. })));
    }
}
