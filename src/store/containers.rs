//! Containers, and the ids that are theirs.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Params, Row};

use super::allot::{lowest_free, runtime_bases};
use super::columns::{Connected, Devices, Used, json};
use super::error::Attempt;
use super::setup::{is_shared, range};
use super::templates::{check_known, doom_if_unused};
use super::{Store, StoreError, firewall, layers, nics, pools, profiles, snapshots};
use crate::model::config::Config;
use crate::model::container::{Container, NewContainer, Phase};
use crate::model::device::Device;
use crate::model::ids::{IdRange, SubordinateIds};
use crate::model::name::{ContainerId, Name};
use crate::model::profile::{Layered, ProfileName};
use crate::model::template::TemplateId;

const SELECT: &str = "SELECT c.id, c.name, c.template, c.template_name, c.slice, c.uuid, c.created_at, \
     c.phase, c.wanted_up, \
     (SELECT json_group_array(json_array(json(n.spec), json(w.spec))) FROM nic n \
      LEFT JOIN network w ON w.name = n.network WHERE n.container = c.id), \
     (SELECT json_group_object(key, value) FROM config WHERE container = c.id), \
     (SELECT json_group_array(json(spec)) FROM device WHERE container = c.id), \
     (SELECT json_group_array(json_array(u.position, p.name, p.description, json(p.spec))) \
      FROM container_profile u JOIN profile p ON p.name = u.profile WHERE u.container = c.id), c.pool \
     FROM container c";

impl Store {
    /// Records what is being done, and with `Some` whether the container is wanted up.
    pub fn set_phase(
        &mut self,
        id: &ContainerId,
        phase: Phase,
        wanted_up: Option<bool>,
    ) -> Result<(), StoreError> {
        self.write("record a container's phase", |tx| set_phase(tx, id, phase, wanted_up))
    }

    /// Records whether the container is wanted up. The phase is for the holder of the container's lock to
    /// change.
    pub fn set_wanted_up(&mut self, id: &ContainerId, wanted_up: bool) -> Result<(), StoreError> {
        self.write("record whether a container is wanted up", |tx| {
            let sql = "UPDATE container SET wanted_up = ?2 WHERE id = ?1";
            changed_one(id, tx.prepare_cached(sql)?.execute((id, wanted_up))?)
        })
    }

    /// Gives a container another name, also in what the firewall's policy says of it.
    pub fn rename(&mut self, id: &ContainerId, name: &Name) -> Result<(), StoreError> {
        self.write("rename a container", |tx| {
            let taken = "SELECT EXISTS (SELECT 1 FROM container WHERE name = ?1 AND id <> ?2)";
            if tx.query_row(taken, (name, id), |row| row.get(0))? {
                return Err(StoreError::NameTaken { name: name.clone() }.into());
            }
            let old: Option<String> = tx
                .query_row("SELECT name FROM container WHERE id = ?1", [id], |row| row.get(0))
                .optional()?;
            changed_one(id, tx.execute("UPDATE container SET name = ?2 WHERE id = ?1", (id, name))?)?;
            Ok(old.map_or(Ok(()), |old| firewall::renamed(tx, &old, name.as_str()))?)
        })
    }

    /// Replaces all keys of the container's own.
    pub fn set_config(&mut self, id: &ContainerId, config: &Config) -> Result<(), StoreError> {
        self.write("store a container's configuration", |tx| {
            if !tx.prepare_cached("SELECT 1 FROM container WHERE id = ?1")?.exists([id])? {
                return Err(StoreError::NoSuchContainer { id: id.clone() }.into());
            }
            put_config(tx, id, config)
        })
    }

    /// Replaces its own keys and its profiles, and what somebody has written of both.
    pub fn set_settings(
        &mut self,
        id: &ContainerId,
        config: &Layered,
        text: Option<&str>,
    ) -> Result<(), StoreError> {
        self.write("store a container's settings", |tx| {
            if !tx.prepare_cached("SELECT 1 FROM container WHERE id = ?1")?.exists([id])? {
                return Err(StoreError::NoSuchContainer { id: id.clone() }.into());
            }
            for table in ["config", "container_profile", "config_text"] {
                tx.execute(&format!("DELETE FROM {table} WHERE container = ?1"), [id])?;
            }
            insert_config(tx, id, config.own())?;
            let names: Vec<ProfileName> = config.profile_names().cloned().collect();
            profiles::use_all(tx, id, &names)?;
            if let Some(text) = text {
                tx.execute("INSERT INTO config_text VALUES (?1, ?2)", (id, text))?;
            }
            Ok(())
        })
    }

    /// What somebody has written of a container's settings, which may have changed since.
    pub fn config_text(&self, id: &ContainerId) -> Result<Option<String>, StoreError> {
        self.read("read what was written of a container's settings", |conn| {
            let sql = "SELECT text FROM config_text WHERE container = ?1";
            conn.query_row(sql, [id], |row| row.get(0)).optional()
        })
    }

    pub fn container(&self, name: &Name) -> Result<Option<Container>, StoreError> {
        let found = self.read("read a container", |conn| select(conn, "WHERE c.name = ?1", [name]))?;
        Ok(found.into_iter().next())
    }

    pub fn container_by_id(&self, id: &ContainerId) -> Result<Option<Container>, StoreError> {
        let found = self.read("read a container", |conn| select(conn, "WHERE c.id = ?1", [id]))?;
        Ok(found.into_iter().next())
    }

    /// All containers, sorted by name.
    pub fn containers(&self) -> Result<Vec<Container>, StoreError> {
        self.read("list the containers", |conn| select(conn, "ORDER BY c.name", []))
    }

    /// The files that have made containers.
    pub fn fleets(&self) -> Result<BTreeMap<ContainerId, String>, StoreError> {
        self.read("list what has made which container", |conn| {
            conn.prepare_cached("SELECT container, file FROM fleet")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
    }

    /// Containers that are being started, or were when a command died.
    pub fn starting(&self) -> Result<Vec<Container>, StoreError> {
        self.read("list containers that are being started", |conn| {
            select(conn, "WHERE c.phase = 'starting' ORDER BY c.name", [])
        })
    }
}

/// Stores a container with the lowest free runtime id range and the address asked for, or the lowest free one:
/// all or nothing, however many others are being created.
pub(super) fn create(tx: &Connection, new: &NewContainer) -> Attempt<Container> {
    check_free(tx, &new.name, &new.id, &new.uuid)?;
    check_known(tx, &new.template)?;
    pools::check_known(tx, &new.pool)?;
    let range = range(tx)?.ok_or(StoreError::NoRange)?;
    let mut container = Container {
        id: new.id.clone(),
        name: new.name.clone(),
        template: new.template.clone(),
        template_name: new.template_name.clone(),
        pool: new.pool.clone(),
        id_range: pick_id_range(tx, range, is_shared(tx)?)?,
        uuid: new.uuid.clone(),
        created_at: new.created_at,
        phase: new.phase,
        wanted_up: new.wanted_up,
        nics: Vec::new(),
        devices: new.devices.clone(),
        config: Layered::new(new.config.clone(), profiles::named(tx, &new.profiles)?),
    };
    container.devices.sort_by(|a, b| a.name.cmp(&b.name));
    insert(tx, &container)?;
    new.layers.iter().try_for_each(|layer| layers::add(tx, layer, &new.pool))?;
    layers::put(tx, &new.id, &new.layers)?;
    new.snapshots.iter().try_for_each(|snapshot| snapshots::insert(tx, &new.id, snapshot, true))?;
    if let Some(file) = &new.fleet {
        tx.prepare_cached("INSERT INTO fleet VALUES (?1, ?2)")?.execute((&new.id, file))?;
    }
    for request in &new.nics {
        let nic = nics::allot(tx, &new.id, request)?;
        nics::insert(tx, &new.id, &nic)?;
        container.nics.push(nic);
    }
    check(&container)?;
    Ok(container)
}

/// Records what is being done to a container, and with `Some` whether it is wanted up.
pub(super) fn set_phase(
    tx: &Connection,
    id: &ContainerId,
    phase: Phase,
    wanted_up: Option<bool>,
) -> Attempt<()> {
    let sql = "UPDATE container SET phase = ?2, wanted_up = coalesce(?3, wanted_up) WHERE id = ?1";
    changed_one(id, tx.prepare_cached(sql)?.execute((id, phase, wanted_up))?)
}

/// Forgets a container with its snapshots; its id range and address are free. Returns its template's content if that
/// is doomed now, having had no name and no other container.
pub(super) fn delete(tx: &Connection, id: &ContainerId) -> Attempt<Option<TemplateId>> {
    let of_snapshots = tx
        .prepare_cached("SELECT DISTINCT template FROM snapshot WHERE container = ?1")?
        .query_map([id], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<TemplateId>>>()?;
    let template: Option<TemplateId> = tx
        .query_row("DELETE FROM container WHERE id = ?1 RETURNING template", [id], |row| row.get(0))
        .optional()?;
    let template = template.ok_or_else(|| StoreError::NoSuchContainer { id: id.clone() })?;
    layers::doom_unused(tx)?;
    of_snapshots.iter().try_for_each(|other| doom_if_unused(tx, other).map(drop))?;
    Ok(doom_if_unused(tx, &template)?.then_some(template))
}

/// `count` rows were changed by a statement about `id`.
fn changed_one(id: &ContainerId, count: usize) -> Attempt<()> {
    if count == 0 { Err(StoreError::NoSuchContainer { id: id.clone() }.into()) } else { Ok(()) }
}

/// Refuses a name, an id or a uuid that a container has.
pub(super) fn check_free(conn: &Connection, name: &Name, id: &ContainerId, uuid: &str) -> Attempt<()> {
    let same_name: Option<bool> = conn
        .prepare_cached("SELECT max(name = ?1) FROM container WHERE name = ?1 OR id = ?2 OR uuid = ?3")?
        .query_row((name, id, uuid), |row| row.get(0))?;
    match same_name {
        None => Ok(()),
        Some(true) => Err(StoreError::NameTaken { name: name.clone() }.into()),
        Some(false) => Err(StoreError::IdTaken { id: id.clone() }.into()),
    }
}

fn pick_id_range(conn: &Connection, range: SubordinateIds, shared: bool) -> Attempt<IdRange> {
    if shared {
        return range.storage().ok_or_else(|| StoreError::NoIdRangeLeft { total: 0 }.into());
    }
    let mut taken = conn.prepare_cached("SELECT slice FROM container ORDER BY slice")?;
    let base = lowest_free(runtime_bases(range), taken.query_map([], |row| row.get(0))?)?;
    base.and_then(IdRange::at)
        .ok_or_else(|| StoreError::NoIdRangeLeft { total: range.id_ranges().saturating_sub(1) }.into())
}

pub(super) fn check(container: &Container) -> Attempt<()> {
    let wrong = |source| StoreError::BadField { name: container.name.clone(), source };
    Ok(container.check().map_err(wrong)?)
}

/// Stores a container all of whose parts were found free, but for its interfaces.
pub(super) fn insert(conn: &Connection, container: &Container) -> Attempt<()> {
    check(container)?;
    conn.prepare_cached("INSERT INTO container VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?.execute(
        (
            &container.id,
            &container.name,
            &container.template,
            &container.template_name,
            container.id_range,
            &container.uuid,
            container.created_at,
            container.phase,
            container.wanted_up,
            pools::column(&container.pool),
        ),
    )?;
    container.devices.iter().try_for_each(|device| insert_device(conn, &container.id, device))?;
    insert_config(conn, &container.id, container.config.own())?;
    let names: Vec<ProfileName> = container.config.profile_names().cloned().collect();
    profiles::use_all(conn, &container.id, &names)
}

/// Replaces the configuration of a container that is there.
pub(super) fn put_config(conn: &Connection, id: &ContainerId, config: &Config) -> Attempt<()> {
    conn.prepare_cached("DELETE FROM config WHERE container = ?1")?.execute([id])?;
    insert_config(conn, id, config)
}

pub(super) fn insert_device(conn: &Connection, id: &ContainerId, device: &Device) -> Attempt<()> {
    let mut insert = conn.prepare_cached("INSERT INTO device (container, name, spec) VALUES (?1, ?2, ?3)")?;
    insert.execute((id, &device.name, json(device)?))?;
    Ok(())
}

fn insert_config(conn: &Connection, id: &ContainerId, config: &Config) -> Attempt<()> {
    let mut insert = conn.prepare_cached("INSERT INTO config VALUES (?1, ?2, ?3)")?;
    for (key, value) in config.iter() {
        insert.execute((id, key, value))?;
    }
    Ok(())
}

/// The container with this id, which is to be changed.
pub(super) fn one(conn: &Connection, id: &ContainerId) -> Attempt<Container> {
    let found = select(conn, "WHERE c.id = ?1", [id])?.into_iter().next();
    Ok(found.ok_or_else(|| StoreError::NoSuchContainer { id: id.clone() })?)
}

fn select(conn: &Connection, rest: &str, params: impl Params) -> rusqlite::Result<Vec<Container>> {
    conn.prepare_cached(&format!("{SELECT} {rest}"))?.query_map(params, from_row)?.collect()
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Container> {
    let Connected(connected) = row.get(9)?;
    let mut nics: Vec<_> = connected
        .into_iter()
        .map(|(mut nic, network)| {
            if let Some(network) = network {
                // The network's settings count: they may have changed since.
                let (ipv4, ipv6) = (nic.ipv4.map(|net| net.ip()), nic.ipv6.map(|net| net.ip()));
                nics::place(&mut nic, &network, ipv4, ipv6);
            }
            nic
        })
        .collect();
    nics.sort_by_key(|nic| nic.slot);
    let Used(profiles) = row.get(12)?;
    let Devices(mut devices) = row.get(11)?;
    devices.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Container {
        id: row.get(0)?,
        name: row.get(1)?,
        template: row.get(2)?,
        template_name: row.get(3)?,
        pool: pools::of_column(row.get(13)?),
        id_range: row.get(4)?,
        uuid: row.get(5)?,
        created_at: row.get(6)?,
        phase: row.get(7)?,
        wanted_up: row.get(8)?,
        nics,
        devices,
        config: Layered::new(row.get(10)?, profiles),
    })
}

#[cfg(test)]
mod tests;
