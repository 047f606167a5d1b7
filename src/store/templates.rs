//! Templates: content, which is named by its hash, and the names that users give it.
//!
//! Content stays while it has a name or a container. What loses the last of both is marked in the
//! same transaction, so that its files are deleted however the command ends: the app deletes
//! what `doomed_templates` lists and then calls `forget_template`, both under a lock of its own on
//! that content, for a second command may be about the same.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row};

use super::error::Attempt;
use super::{Store, StoreError};
use crate::model::name::Name;
use crate::model::template::{Template, TemplateId, is_template_name};

const COLUMNS: &str = "t.id, t.facts, t.bytes, t.created_at";

impl Store {
    /// Gives `template` a name, and stores it unless its content is known. Where the name stands
    /// for other content: `TemplateNameTaken`, or with `replace` the name moves. Returns the
    /// content that is doomed by the move.
    pub fn add_template(
        &mut self,
        name: &str,
        template: &Template,
        replace: bool,
    ) -> Result<Option<TemplateId>, StoreError> {
        if !is_template_name(name) {
            return Err(StoreError::BadTemplateName { name: name.to_owned() });
        }
        self.write("add a template", |tx| {
            match is_doomed(tx, &template.id)? {
                Some(true) => return Err(StoreError::TemplateDoomed { id: template.id.clone() }.into()),
                Some(false) => {}
                None => insert(tx, template)?,
            }
            let old = named(tx, name)?;
            if old.is_some() && old.as_ref() != Some(&template.id) && !replace {
                return Err(StoreError::TemplateNameTaken { name: name.to_owned() }.into());
            }
            tx.execute("INSERT OR REPLACE INTO template_name VALUES (?1, ?2)", (name, &template.id))?;
            Ok(match old {
                Some(old) if doom_if_unused(tx, &old)? => Some(old),
                _ => None,
            })
        })
    }

    pub fn template_by_name(&self, name: &str) -> Result<Option<Template>, StoreError> {
        self.read("read a template", |conn| {
            let sql = format!(
                "SELECT {COLUMNS} FROM template_name n JOIN template t ON t.id = n.template WHERE n.name = ?1"
            );
            conn.prepare_cached(&sql)?.query_row([name], |row| from_row(row, 0)).optional()
        })
    }

    /// Content that a container uses may have lost its name.
    pub fn template(&self, id: &TemplateId) -> Result<Option<Template>, StoreError> {
        self.read("read a template", |conn| {
            let sql = format!("SELECT {COLUMNS} FROM template t WHERE t.id = ?1 AND NOT t.deleting");
            conn.prepare_cached(&sql)?.query_row([id], |row| from_row(row, 0)).optional()
        })
    }

    /// Every name with its template, sorted by name.
    pub fn templates(&self) -> Result<Vec<(String, Template)>, StoreError> {
        self.read("list the templates", |conn| {
            let sql = format!(
                "SELECT n.name, {COLUMNS} FROM template_name n JOIN template t ON t.id = n.template \
                 ORDER BY n.name"
            );
            conn.prepare_cached(&sql)?.query_map([], |row| Ok((row.get(0)?, from_row(row, 1)?)))?.collect()
        })
    }

    /// Deletes the name; refused with `TemplateInUse` while a container uses the content and no other name
    /// keeps it. Returns the content if that is doomed now.
    pub fn delete_template_name(&mut self, name: &str) -> Result<Option<TemplateId>, StoreError> {
        self.write("delete a template's name", |tx| {
            let Some(id) = named(tx, name)? else {
                return Err(StoreError::NoSuchTemplate { name: name.to_owned() }.into());
            };
            tx.execute("DELETE FROM template_name WHERE name = ?1", [name])?;
            if doom_if_unused(tx, &id)? {
                return Ok(Some(id));
            }
            let kept = "SELECT EXISTS (SELECT 1 FROM template_name WHERE template = ?1)";
            if tx.query_row(kept, [&id], |row| row.get(0))? {
                return Ok(None);
            }
            let users: Vec<Name> = tx
                .prepare_cached(
                    "SELECT name FROM container c WHERE template = ?1 OR EXISTS (SELECT 1 FROM snapshot s
                     WHERE s.container = c.id AND s.template = ?1) ORDER BY name",
                )?
                .query_map([&id], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            Err(StoreError::TemplateInUse { name: name.to_owned(), users }.into())
        })
    }

    /// Content whose files are to be deleted or half are.
    pub fn doomed_templates(&self) -> Result<Vec<TemplateId>, StoreError> {
        self.read("list the templates to be deleted", |conn| {
            conn.prepare_cached("SELECT id FROM template WHERE deleting ORDER BY id")?
                .query_map([], |row| row.get(0))?
                .collect()
        })
    }

    /// Drops the record of doomed content, its files being gone. No error if it is dropped already.
    pub fn forget_template(&mut self, id: &TemplateId) -> Result<(), StoreError> {
        self.write("forget a deleted template", |tx| {
            tx.execute("DELETE FROM template WHERE id = ?1 AND deleting", [id])?;
            Ok(())
        })
    }
}

/// Whether the content is being deleted; none where it is unknown.
fn is_doomed(conn: &Connection, id: &TemplateId) -> rusqlite::Result<Option<bool>> {
    conn.prepare_cached("SELECT deleting FROM template WHERE id = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()
}

/// Refuses content that is unknown or being deleted.
pub(super) fn check_known(conn: &Connection, id: &TemplateId) -> Attempt<()> {
    match is_doomed(conn, id)? {
        Some(false) => Ok(()),
        Some(true) | None => Err(StoreError::TemplateGone { id: id.clone() }.into()),
    }
}

/// Marks content that has neither name nor container nor snapshot; true if it was marked now.
pub(super) fn doom_if_unused(conn: &Connection, id: &TemplateId) -> rusqlite::Result<bool> {
    let marked = conn
        .prepare_cached(
            "UPDATE template SET deleting = 1 WHERE id = ?1 AND NOT deleting
             AND NOT EXISTS (SELECT 1 FROM template_name WHERE template = ?1)
             AND NOT EXISTS (SELECT 1 FROM container WHERE template = ?1)
             AND NOT EXISTS (SELECT 1 FROM snapshot WHERE template = ?1)",
        )?
        .execute([id])?;
    Ok(marked == 1)
}

fn named(conn: &Connection, name: &str) -> rusqlite::Result<Option<TemplateId>> {
    conn.prepare_cached("SELECT template FROM template_name WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

fn insert(conn: &Connection, template: &Template) -> Attempt<()> {
    let unfit = |err| rusqlite::Error::ToSqlConversionFailure(err);
    let facts = serde_json::to_string(&template.facts).map_err(|err| unfit(err.into()))?;
    let bytes = i64::try_from(template.bytes).map_err(|err| unfit(err.into()))?;
    conn.execute(
        "INSERT INTO template (id, facts, bytes, created_at) VALUES (?1, ?2, ?3, ?4)",
        (&template.id, facts, bytes, template.created_at),
    )?;
    Ok(())
}

/// A template from `COLUMNS`, the first of which is column `at`.
fn from_row(row: &Row<'_>, at: usize) -> rusqlite::Result<Template> {
    let facts = serde_json::from_str(row.get_ref(at + 1)?.as_str()?)
        .map_err(|err| rusqlite::Error::FromSqlConversionFailure(at + 1, Type::Text, Box::new(err)))?;
    let bytes: i64 = row.get(at + 2)?;
    Ok(Template {
        id: row.get(at)?,
        facts,
        bytes: bytes.try_into().map_err(|_| rusqlite::Error::IntegralValueOutOfRange(at + 2, bytes))?,
        created_at: row.get(at + 3)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::{store, template, web};

    #[test]
    fn a_template_is_found_by_its_names() {
        let (_dir, mut store) = store();
        store.add_template("debian", &template('d'), false).unwrap();
        store.add_template("stable", &template('d'), false).unwrap();
        assert_eq!(store.template_by_name("debian").unwrap(), Some(template('d')));
        assert_eq!(store.template(&template('d').id).unwrap(), Some(template('d')));
        assert_eq!(store.template_by_name("gentoo").unwrap(), None);
        let all: Vec<String> = store.templates().unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(all, ["centos7", "debian", "stable"]);
        assert!(matches!(
            store.add_template("a b", &template('d'), false),
            Err(StoreError::BadTemplateName { .. })
        ));
    }

    #[test]
    fn a_name_moves_only_when_told_to() {
        let (_dir, mut store) = store();
        let taken = store.add_template("centos7", &template('d'), false);
        assert!(matches!(taken, Err(StoreError::TemplateNameTaken { name }) if name == "centos7"));
        assert_eq!(store.template(&template('d').id).unwrap(), None, "nothing was stored");
        assert_eq!(store.add_template("centos7", &template('c'), false).unwrap(), None);
        let doomed = store.add_template("centos7", &template('d'), true).unwrap();
        assert_eq!(doomed, Some(template('c').id));
        assert_eq!(store.template_by_name("centos7").unwrap(), Some(template('d')));
        assert_eq!(store.doomed_templates().unwrap(), [template('c').id]);
    }

    #[test]
    fn content_in_use_is_kept_and_its_users_are_named() {
        let (_dir, mut store) = store();
        store.create_container(&web(2)).unwrap();
        let last = store.create_container(&web(1)).unwrap();
        let err = store.delete_template_name("centos7").unwrap_err();
        assert_eq!(err.to_string(), "template 'centos7' is used by web01, web02");
        assert!(store.template_by_name("centos7").unwrap().is_some(), "the refusal changed nothing");

        store.add_template("other", &template('c'), false).unwrap();
        assert_eq!(store.delete_template_name("centos7").unwrap(), None);
        let missing = store.delete_template_name("centos7");
        assert!(matches!(missing, Err(StoreError::NoSuchTemplate { .. })));

        assert_eq!(store.add_template("other", &template('d'), true).unwrap(), None);
        assert_eq!(store.template(&template('c').id).unwrap(), Some(template('c')), "nameless, but used");
        assert_eq!(store.delete_container(&web(2).id).unwrap(), None);
        assert_eq!(store.delete_container(&last.id).unwrap(), Some(template('c').id));
    }

    #[test]
    fn doomed_content_outlasts_a_crash_and_cannot_come_back_before_it_is_gone() {
        let (_dir, mut store) = store();
        assert_eq!(store.delete_template_name("centos7").unwrap(), Some(template('c').id));
        let path = store.path.clone();
        drop(store);
        let mut store = Store::open_existing(&path).unwrap();
        assert_eq!(store.doomed_templates().unwrap(), [template('c').id]);
        assert_eq!(store.template(&template('c').id).unwrap(), None);
        let again = store.add_template("centos7", &template('c'), false);
        assert!(matches!(again, Err(StoreError::TemplateDoomed { .. })));
        assert!(matches!(store.create_container(&web(1)), Err(StoreError::TemplateGone { .. })));
        store.forget_template(&template('c').id).unwrap();
        store.forget_template(&template('c').id).unwrap();
        assert_eq!(store.doomed_templates().unwrap(), []);
        assert_eq!(store.add_template("centos7", &template('c'), false).unwrap(), None);
        store.forget_template(&template('c').id).unwrap();
        assert!(store.template_by_name("centos7").unwrap().is_some(), "only what is doomed is forgotten");
    }

    #[test]
    fn facts_that_we_would_not_have_written_are_damage() {
        let (_dir, store) = store();
        store.conn.execute("UPDATE template SET facts = '{}'", []).unwrap();
        assert!(matches!(store.template_by_name("centos7"), Err(StoreError::Corrupt { .. })));
    }
}
