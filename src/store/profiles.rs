//! Profiles, and which containers use them.

use rusqlite::{Connection, OptionalExtension, Row};

use super::columns::json;
use super::error::Attempt;
use super::{Store, StoreError};
use crate::model::name::{ContainerId, Name};
use crate::model::profile::{Profile, ProfileName};

/// As `containers` reads a profile, too.
const SELECT: &str = "SELECT name, description, spec FROM profile";

impl Store {
    pub fn profile(&self, name: &ProfileName) -> Result<Option<Profile>, StoreError> {
        self.read("read a profile", |conn| profile(conn, name))
    }

    /// All profiles, sorted by name.
    pub fn profiles(&self) -> Result<Vec<Profile>, StoreError> {
        self.read("list the profiles", |conn| {
            conn.prepare_cached(&format!("{SELECT} ORDER BY name"))?.query_map([], from_row)?.collect()
        })
    }

    /// The containers that use a profile, sorted by name.
    pub fn profile_users(&self, name: &ProfileName) -> Result<Vec<Name>, StoreError> {
        self.read("list who uses a profile", |conn| users(conn, name))
    }

    /// Adds a profile whose name no other has.
    pub fn add_profile(&mut self, new: &Profile) -> Result<(), StoreError> {
        self.write("add a profile", |tx| match profile(tx, &new.name)? {
            None => put(tx, new),
            Some(_) => Err(StoreError::ProfileTaken { name: new.name.clone() }.into()),
        })
    }

    /// Puts a profile back into a database that is made anew.
    pub fn put_profile(&mut self, profile: &Profile) -> Result<(), StoreError> {
        self.write("put a profile back", |tx| put(tx, profile))
    }

    /// What somebody has written of a profile, which may have changed since.
    pub fn profile_text(&self, name: &ProfileName) -> Result<Option<String>, StoreError> {
        self.read("read what was written of a profile", |conn| {
            let sql = "SELECT text FROM profile_text WHERE profile = ?1";
            conn.query_row(sql, [name], |row| row.get(0)).optional()
        })
    }

    /// Replaces that.
    pub fn set_profile_text(&mut self, name: &ProfileName, text: Option<&str>) -> Result<(), StoreError> {
        self.write("store what was written of a profile", |tx| {
            tx.execute("DELETE FROM profile_text WHERE profile = ?1", [name])?;
            if let Some(text) = text {
                tx.execute("INSERT INTO profile_text VALUES (?1, ?2)", (name, text))?;
            }
            Ok(())
        })
    }

    /// Forgets a profile that no container uses.
    pub fn delete_profile(&mut self, name: &ProfileName) -> Result<(), StoreError> {
        self.write("delete a profile", |tx| {
            let users = users(tx, name)?;
            if !users.is_empty() {
                return Err(StoreError::ProfileInUse { name: name.clone(), users }.into());
            }
            match tx.execute("DELETE FROM profile WHERE name = ?1", [name])? {
                0 => Err(StoreError::NoSuchProfile { name: name.clone() }.into()),
                _ => Ok(()),
            }
        })
    }

    /// Gives a container these profiles in place of its former ones.
    pub fn set_profiles(&mut self, id: &ContainerId, names: &[ProfileName]) -> Result<(), StoreError> {
        self.write("store a container's profiles", |tx| {
            if !tx.prepare_cached("SELECT 1 FROM container WHERE id = ?1")?.exists([id])? {
                return Err(StoreError::NoSuchContainer { id: id.clone() }.into());
            }
            tx.prepare_cached("DELETE FROM container_profile WHERE container = ?1")?.execute([id])?;
            use_all(tx, id, names)
        })
    }
}

/// The profiles of these names, in their order.
pub(super) fn named(conn: &Connection, names: &[ProfileName]) -> Attempt<Vec<Profile>> {
    let one = |name: &ProfileName| {
        profile(conn, name)?.ok_or_else(|| StoreError::NoSuchProfile { name: name.clone() }.into())
    };
    names.iter().map(one).collect()
}

/// Lets a container that has none use these profiles.
pub(super) fn use_all(conn: &Connection, id: &ContainerId, names: &[ProfileName]) -> Attempt<()> {
    named(conn, names)?;
    let mut insert = conn.prepare_cached("INSERT INTO container_profile VALUES (?1, ?2, ?3)")?;
    for (position, name) in (0u32..).zip(names) {
        insert.execute((id, position, name))?;
    }
    Ok(())
}

pub(super) fn profile(conn: &Connection, name: &ProfileName) -> rusqlite::Result<Option<Profile>> {
    conn.prepare_cached(&format!("{SELECT} WHERE name = ?1"))?.query_row([name], from_row).optional()
}

/// Adds a profile, or puts it in the place of the one of its name.
pub(super) fn put(conn: &Connection, profile: &Profile) -> Attempt<()> {
    let sql = "INSERT INTO profile VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE \
               SET description = excluded.description, spec = excluded.spec";
    conn.prepare_cached(sql)?.execute((&profile.name, &profile.description, json(&profile.spec)?))?;
    Ok(())
}

/// Puts `profile` in the place of the one that is called `name`.
pub(super) fn replace(conn: &Connection, name: &ProfileName, profile: &Profile) -> Attempt<()> {
    if profile.name != *name && self::profile(conn, &profile.name)?.is_some() {
        return Err(StoreError::ProfileTaken { name: profile.name.clone() }.into());
    }
    let sql = "UPDATE profile SET name = ?2, description = ?3, spec = ?4 WHERE name = ?1";
    match conn.prepare_cached(sql)?.execute((
        name,
        &profile.name,
        &profile.description,
        json(&profile.spec)?,
    ))? {
        0 => Err(StoreError::NoSuchProfile { name: name.clone() }.into()),
        _ => Ok(()),
    }
}

fn users(conn: &Connection, name: &ProfileName) -> rusqlite::Result<Vec<Name>> {
    conn.prepare_cached(
        "SELECT c.name FROM container_profile p JOIN container c ON c.id = p.container
         WHERE p.profile = ?1 ORDER BY c.name",
    )?
    .query_map([name], |row| row.get(0))?
    .collect()
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Profile> {
    Ok(Profile { name: row.get(0)?, description: row.get(1)?, spec: row.get(2)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::Config;
    use crate::model::container::NewContainer;
    use crate::model::operation::{NewOperation, OperationId, OperationKind, OperationStatus};
    use crate::store::fixture::{store, web};

    fn name(text: &str) -> ProfileName {
        ProfileName::new(text).unwrap()
    }

    fn profile(text: &str, memory: &str) -> Profile {
        let mut profile = Profile::new(name(text));
        profile.spec.config = Config::of([("limits.memory", memory)]).unwrap();
        profile
    }

    fn operation(n: u64) -> NewOperation {
        NewOperation {
            id: OperationId::from_random(n),
            kind: OperationKind::ProfileChange,
            subject: "gold".to_owned(),
            container: None,
            params: serde_json::Value::Null,
            holder: 1,
            created_at: 1,
        }
    }

    #[test]
    fn a_container_has_its_profiles_in_their_order() {
        let (_dir, mut store) = store();
        for (text, memory) in [("gold", "2GiB"), ("iron", "1GiB")] {
            store.add_profile(&profile(text, memory)).unwrap();
        }
        let made = store
            .create_container(&NewContainer { profiles: vec![name("iron"), name("gold")], ..web(1) })
            .unwrap();
        assert_eq!(made.config.expanded().get("limits.memory"), Some("2GiB"));
        assert_eq!(store.container(&made.name).unwrap(), Some(made.clone()));
        store.set_profiles(&made.id, &[name("gold"), name("iron")]).unwrap();
        let turned = store.container(&made.name).unwrap().unwrap();
        assert_eq!(turned.config.expanded().get("limits.memory"), Some("1GiB"));
        assert!(turned.config.own().is_empty());
        let unknown = store.set_profiles(&made.id, &[name("gold"), name("lead")]);
        assert!(matches!(unknown, Err(StoreError::NoSuchProfile { name }) if name.as_str() == "lead"));
        assert_eq!(store.container(&made.name).unwrap(), Some(turned));
        store.delete_container(&made.id).unwrap();
        assert_eq!(store.profile_users(&name("gold")).unwrap(), []);
    }

    #[test]
    fn a_profile_in_use_stays() {
        let (_dir, mut store) = store();
        assert!(store.profile(&ProfileName::default_one()).unwrap().unwrap().config().is_empty());
        store.add_profile(&profile("gold", "2GiB")).unwrap();
        let taken = store.add_profile(&profile("gold", "3GiB"));
        assert!(matches!(taken, Err(StoreError::ProfileTaken { .. })));
        for n in 1..=2 {
            store.create_container(&NewContainer { profiles: vec![name("gold")], ..web(n) }).unwrap();
        }
        let Err(StoreError::ProfileInUse { users, .. }) = store.delete_profile(&name("gold")) else {
            panic!()
        };
        assert_eq!(users, [web(1).name, web(2).name]);
        for n in 1..=2 {
            store.set_profiles(&web(n).id, &[]).unwrap();
        }
        store.delete_profile(&name("gold")).unwrap();
        let gone = store.delete_profile(&name("gold"));
        assert!(matches!(gone, Err(StoreError::NoSuchProfile { .. })));
    }

    #[test]
    fn a_change_is_recorded_with_its_operation_and_taken_back_with_it() {
        let (_dir, mut store) = store();
        store.add_profile(&profile("gold", "2GiB")).unwrap();
        store.add_profile(&profile("iron", "1GiB")).unwrap();
        store.create_container(&NewContainer { profiles: vec![name("gold")], ..web(1) }).unwrap();
        let changed = profile("platinum", "4GiB");
        store.set_profile_text(&name("gold"), Some("# mine")).unwrap();
        store.change_profile(&name("gold"), &changed, &operation(1)).unwrap();
        assert_eq!(store.profile_text(&name("platinum")).unwrap().as_deref(), Some("# mine"));
        let container = store.container(&web(1).name).unwrap().unwrap();
        assert_eq!(container.config.profiles(), std::slice::from_ref(&changed));
        assert_eq!(store.unfinished_operations().unwrap().len(), 1);
        store.take_back_profile(&changed.name, &profile("gold", "2GiB"), &operation(1).id, "why").unwrap();
        let container = store.container(&web(1).name).unwrap().unwrap();
        assert_eq!(container.config.profiles(), [profile("gold", "2GiB")]);
        let ended = store.all_operations().unwrap().remove(0);
        assert_eq!((ended.status, ended.error.as_deref()), (OperationStatus::Failed, Some("why")));
        let clash = store.change_profile(&name("gold"), &profile("iron", "1GiB"), &operation(2));
        assert!(matches!(clash, Err(StoreError::ProfileTaken { .. })));
        assert_eq!(store.all_operations().unwrap().len(), 1, "all or nothing");
    }
}
