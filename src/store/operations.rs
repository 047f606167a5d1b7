//! The journal of operations. Each is recorded before its first effect, in one transaction with what is
//! stored of its subject, and ended in one with what becomes of that.

use rusqlite::{Connection, Row};

use super::error::Attempt;
use super::{Store, StoreError, containers, profiles};
use crate::model::container::{Container, NewContainer, Phase};
use crate::model::name::ContainerId;
use crate::model::operation::{NewOperation, Operation, OperationId, OperationStatus};
use crate::model::profile::{Profile, ProfileName};
use crate::sys::kernel::clock::now_ms;

/// How many ended operations are kept.
const KEPT: u32 = 100;

const SELECT: &str = "SELECT id, kind, subject, container, params, step, status, holder, created_at, ended_at, \
     error FROM operation";

/// What a command that opens the database may have to see to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// Operations that are under way, or were when a command died.
    pub operations: bool,
    /// Containers that are being started, or were.
    pub starts: bool,
    /// Templates' contents without a name.
    pub templates: bool,
    /// Layers that nothing stands on.
    pub layers: bool,
}

impl Store {
    /// Records an operation about no container that there is.
    pub fn begin_operation(&mut self, new: &NewOperation) -> Result<(), StoreError> {
        self.write("record the beginning of an operation", |tx| begin(tx, new))
    }

    /// Records the making of a container together with the container: its name, ids and addresses are
    /// taken, all or nothing.
    pub fn begin_making(
        &mut self,
        new: &NewContainer,
        operation: &NewOperation,
    ) -> Result<Container, StoreError> {
        self.write("create a container", |tx| {
            begin(tx, operation)?;
            containers::create(tx, new)
        })
    }

    /// Records the deletion of a container. From now on others leave it out of what they tell the kernel.
    pub fn begin_deleting(&mut self, id: &ContainerId, operation: &NewOperation) -> Result<(), StoreError> {
        self.write("record the deletion of a container", |tx| {
            begin(tx, operation)?;
            containers::set_phase(tx, id, Phase::Deleting, Some(false))
        })
    }

    /// Records that a step is about to be taken. This is not flushed to the disk: after a power cut the step
    /// may read lower than it was.
    pub fn take_step(&mut self, id: &OperationId, step: u32) -> Result<(), StoreError> {
        self.write_unflushed("record a step of an operation", |tx| {
            tx.prepare_cached("UPDATE operation SET step = ?2 WHERE id = ?1")?
                .execute((id.as_str(), step))?;
            Ok(())
        })
    }

    /// Records that an operation is about to be undone, and why; and that the container that it has made goes.
    pub fn begin_undoing(
        &mut self,
        operation: &OperationId,
        made: Option<&ContainerId>,
        error: &str,
    ) -> Result<(), StoreError> {
        self.write("record that an operation is undone", |tx| {
            tx.execute(
                "UPDATE operation SET status = 'undoing', error = ?2 WHERE id = ?1",
                (operation.as_str(), error),
            )?;
            made.map_or(Ok(()), |id| containers::set_phase(tx, id, Phase::Deleting, Some(false)))
        })
    }

    /// Ends the making of a container, which is there from now on.
    pub fn end_making(&mut self, operation: &OperationId, container: &ContainerId) -> Result<(), StoreError> {
        self.write("record that a container is made", |tx| {
            end(tx, operation, OperationStatus::Done, None)?;
            containers::set_phase(tx, container, Phase::Settled, None)
        })
    }

    /// Ends an operation that leaves nothing of a container, and forgets the container; its ids and addresses
    /// are free. Returns its template's content if that is doomed now, having had no name and no other
    /// container.
    pub fn end_without(
        &mut self,
        operation: &OperationId,
        container: &ContainerId,
        error: Option<&str>,
    ) -> Result<(), StoreError> {
        self.write("delete a container", |tx| {
            let status = if error.is_some() { OperationStatus::Failed } else { OperationStatus::Done };
            end(tx, operation, status, error)?;
            containers::delete(tx, container).map(drop)
        })
    }

    /// Records a change of a profile, which may get another name, together with the operation that brings it to the
    /// containers that use it.
    pub fn change_profile(
        &mut self,
        name: &ProfileName,
        profile: &Profile,
        operation: &NewOperation,
    ) -> Result<(), StoreError> {
        self.write("change a profile", |tx| {
            begin(tx, operation)?;
            profiles::replace(tx, name, profile)
        })
    }

    /// Takes such a change back, and ends its operation: it has failed.
    pub fn take_back_profile(
        &mut self,
        name: &ProfileName,
        former: &Profile,
        operation: &OperationId,
        error: &str,
    ) -> Result<(), StoreError> {
        self.write("take a change of a profile back", |tx| {
            profiles::replace(tx, name, former)?;
            end(tx, operation, OperationStatus::Failed, Some(error))
        })
    }

    /// Ends an operation about no container. No error if it has ended.
    pub fn end_operation(&mut self, id: &OperationId, error: Option<&str>) -> Result<(), StoreError> {
        self.write("record the end of an operation", |tx| {
            let status = if error.is_some() { OperationStatus::Failed } else { OperationStatus::Done };
            end(tx, id, status, error)
        })
    }

    /// Notes why an operation could not be ended yet.
    pub fn note_operation(&mut self, id: &OperationId, error: &str) -> Result<(), StoreError> {
        self.write_unflushed("record why an operation is not ended", |tx| {
            tx.execute("UPDATE operation SET error = ?2 WHERE id = ?1", (id.as_str(), error))?;
            Ok(())
        })
    }

    /// Operations without an end, the oldest first.
    pub fn unfinished_operations(&self) -> Result<Vec<Operation>, StoreError> {
        self.operations("WHERE ended_at IS NULL ORDER BY created_at, id")
    }

    /// All operations that are kept, the latest first.
    pub fn all_operations(&self) -> Result<Vec<Operation>, StoreError> {
        self.operations("ORDER BY created_at DESC, id DESC")
    }

    fn operations(&self, rest: &str) -> Result<Vec<Operation>, StoreError> {
        self.read("list the operations", |conn| {
            conn.prepare_cached(&format!("{SELECT} {rest}"))?.query_map([], from_row)?.collect()
        })
    }

    /// What there may be to see to, by one question.
    pub fn pending(&self) -> Result<Pending, StoreError> {
        self.read("see what is unfinished", |conn| {
            conn.prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM operation WHERE ended_at IS NULL), \
                 EXISTS (SELECT 1 FROM container WHERE phase = 'starting'), \
                 EXISTS (SELECT 1 FROM template WHERE deleting), \
                 EXISTS (SELECT 1 FROM layer WHERE deleting = 1)",
            )?
            .query_row([], |row| {
                Ok(Pending {
                    operations: row.get(0)?,
                    starts: row.get(1)?,
                    templates: row.get(2)?,
                    layers: row.get(3)?,
                })
            })
        })
    }
}

/// Records the beginning of an operation.
pub(super) fn begin(conn: &Connection, new: &NewOperation) -> Attempt<()> {
    conn.prepare_cached(
        "INSERT INTO operation VALUES (?1, ?2, ?3, ?4, ?5, 0, 'running', ?6, ?7, NULL, NULL)",
    )?
    .execute((
        new.id.as_str(),
        new.kind.as_str(),
        &new.subject,
        &new.container,
        new.params.to_string(),
        new.holder,
        new.created_at,
    ))?;
    Ok(())
}

/// Records the end of an operation; no error if it has ended.
pub(super) fn end(
    conn: &Connection,
    id: &OperationId,
    status: OperationStatus,
    error: Option<&str>,
) -> Attempt<()> {
    conn.prepare_cached(
        "UPDATE operation SET status = ?2, error = ?3, ended_at = ?4 \
         WHERE id = ?1 AND ended_at IS NULL",
    )?
    .execute((id.as_str(), status.as_str(), error, now_ms()))?;
    conn.prepare_cached(
        "DELETE FROM operation WHERE ended_at <= (SELECT ended_at FROM operation WHERE ended_at IS NOT NULL \
         ORDER BY ended_at DESC LIMIT 1 OFFSET ?1)",
    )?
    .execute([KEPT])?;
    Ok(())
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Operation> {
    let params: String = row.get(4)?;
    Ok(Operation {
        id: OperationId::stored(row.get(0)?),
        kind: row.get(1)?,
        subject: row.get(2)?,
        container: row.get(3)?,
        params: serde_json::from_str(&params).unwrap_or_default(),
        step: row.get(5)?,
        status: row.get(6)?,
        holder: row.get(7)?,
        created_at: row.get(8)?,
        ended_at: row.get(9)?,
        error: row.get(10)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::operation::OperationKind;
    use crate::store::fixture::{store, web};

    fn operation(n: u64, kind: OperationKind, container: Option<u32>) -> NewOperation {
        NewOperation {
            id: OperationId::from_random(n),
            kind,
            subject: format!("subject{n}"),
            container: container.map(|n| web(n).id),
            params: serde_json::json!({ "n": n }),
            holder: 7,
            created_at: 1_700_000_000_000 + i64::try_from(n).unwrap(),
        }
    }

    #[test]
    fn an_operation_is_unfinished_until_it_has_ended() {
        let (_dir, mut store) = store();
        let new = operation(1, OperationKind::TemplateBuild, None);
        store.begin_operation(&new).unwrap();
        store.take_step(&new.id, 1).unwrap();
        let path = store.path.clone();
        drop(store);
        let mut store = Store::open_existing(&path).unwrap();
        let found = store.unfinished_operations().unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].step, found[0].step_name(), found[0].status),
            (1, "unpack", OperationStatus::Running)
        );
        assert_eq!((&found[0].params, found[0].holder), (&new.params, 7));
        assert!(store.pending().unwrap().operations);
        store.end_operation(&new.id, Some("the disk is full")).unwrap();
        store.end_operation(&new.id, None).unwrap();
        let ended = &store.all_operations().unwrap()[0];
        assert_eq!(
            (ended.status, ended.error.as_deref()),
            (OperationStatus::Failed, Some("the disk is full"))
        );
        assert!(ended.duration().unwrap() > 0);
        assert!(!store.pending().unwrap().operations);
    }

    #[test]
    fn a_container_is_recorded_with_its_operation_or_not_at_all() {
        let (_dir, mut store) = store();
        let first = operation(1, OperationKind::Launch, Some(1));
        let made = store.begin_making(&web(1), &first).unwrap();
        assert_eq!(made.phase, Phase::Creating);
        store.end_making(&first.id, &made.id).unwrap();
        assert_eq!(store.container(&made.name).unwrap().unwrap().phase, Phase::Settled);
        // The same name once more: neither a container nor an operation.
        let again = operation(2, OperationKind::Launch, Some(2));
        let same_name = NewContainer { name: made.name.clone(), ..web(2) };
        assert!(matches!(store.begin_making(&same_name, &again), Err(StoreError::NameTaken { .. })));
        assert_eq!(store.unfinished_operations().unwrap(), []);

        let third = operation(3, OperationKind::Delete, Some(1));
        store.begin_deleting(&made.id, &third).unwrap();
        assert_eq!(store.container(&made.name).unwrap().unwrap().phase, Phase::Deleting);
        store.end_without(&third.id, &made.id, None).unwrap();
        assert_eq!(store.container(&made.name).unwrap(), None);
        let all: Vec<_> = store.all_operations().unwrap().into_iter().map(|o| (o.kind, o.status)).collect();
        assert_eq!(
            all,
            [(OperationKind::Delete, OperationStatus::Done), (OperationKind::Launch, OperationStatus::Done)]
        );
    }

    #[test]
    fn what_fails_is_undone_and_says_why() {
        let (_dir, mut store) = store();
        let new = operation(1, OperationKind::Launch, Some(1));
        let made = store.begin_making(&web(1), &new).unwrap();
        store.begin_undoing(&new.id, Some(&made.id), "its init ended").unwrap();
        let found = &store.unfinished_operations().unwrap()[0];
        assert_eq!(
            (found.status, found.error.as_deref()),
            (OperationStatus::Undoing, Some("its init ended"))
        );
        store.end_without(&new.id, &made.id, Some("its init ended")).unwrap();
        assert_eq!(store.all_operations().unwrap()[0].status, OperationStatus::Failed);
    }

    #[test]
    fn the_last_hundred_that_ended_are_kept() {
        let (_dir, mut store) = store();
        let open = operation(1, OperationKind::TemplateBuild, None);
        store.begin_operation(&open).unwrap();
        for n in 2..=130 {
            let new = operation(n, OperationKind::TemplateImport, None);
            store.begin_operation(&new).unwrap();
            store.end_operation(&new.id, None).unwrap();
            // Those that end in the same millisecond go together.
            store
                .conn
                .execute("UPDATE operation SET ended_at = created_at WHERE ended_at IS NOT NULL", [])
                .unwrap();
        }
        let all = store.all_operations().unwrap();
        assert_eq!(all.iter().filter(|operation| operation.ended_at.is_some()).count(), 100);
        assert_eq!(all.last().unwrap().id, open.id);
    }
}
