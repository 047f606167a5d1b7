//! The schema, as the list of steps that lead to it. A step that was released is never changed;
//! a new one is appended.

use rusqlite_migration::{M, Migrations};

const STEPS: &[M<'static>] = &[M::up(FIRST), M::up(CONFIG)];

pub(super) const MIGRATIONS: Migrations<'static> = Migrations::from_slice(STEPS);

/// What `PRAGMA user_version` says of a database on which all steps were taken.
pub(super) const VERSION: i32 = STEPS.len() as i32;

const FIRST: &str = "
-- Facts of which there is one each.
CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    range_start INTEGER NOT NULL CHECK (range_start BETWEEN 1 AND 4294967295),
    range_count INTEGER NOT NULL CHECK (range_count BETWEEN 1 AND 4294967295)
) STRICT;

CREATE TABLE network (
    bridge TEXT PRIMARY KEY,
    -- The gateway with the prefix length.
    ipv4 TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE template (
    id TEXT PRIMARY KEY CHECK (length(id) = 64),
    facts TEXT NOT NULL,
    bytes INTEGER NOT NULL CHECK (bytes >= 0),
    created_at INTEGER NOT NULL,
    -- 1: without name and user; its files are being deleted.
    deleting INTEGER NOT NULL DEFAULT 0 CHECK (deleting IN (0, 1))
) STRICT, WITHOUT ROWID;

CREATE TABLE template_name (
    name TEXT PRIMARY KEY,
    template TEXT NOT NULL REFERENCES template (id)
) STRICT, WITHOUT ROWID;
CREATE INDEX template_name_template ON template_name (template);

CREATE TABLE container (
    id TEXT PRIMARY KEY CHECK (length(id) = 8),
    name TEXT NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 63),
    template TEXT NOT NULL REFERENCES template (id),
    template_name TEXT NOT NULL,
    -- First host id of its runtime slice.
    slice INTEGER NOT NULL UNIQUE CHECK (slice BETWEEN 1 AND 4294967295),
    uuid TEXT NOT NULL UNIQUE CHECK (length(uuid) = 32),
    created_at INTEGER NOT NULL,
    phase TEXT NOT NULL CHECK (phase IN ('creating', 'settled', 'starting', 'deleting')),
    wanted_up INTEGER NOT NULL CHECK (wanted_up IN (0, 1))
) STRICT, WITHOUT ROWID;
CREATE INDEX container_template ON container (template);

CREATE TABLE lease (
    container TEXT PRIMARY KEY REFERENCES container (id) ON DELETE CASCADE,
    bridge TEXT NOT NULL REFERENCES network (bridge),
    mac TEXT NOT NULL UNIQUE,
    -- An IPv4 address as a number, so that it sorts.
    address INTEGER NOT NULL CHECK (address BETWEEN 0 AND 4294967295),
    UNIQUE (bridge, address)
) STRICT, WITHOUT ROWID;

-- Temporary directories of the pool, each recorded before it is made.
CREATE TABLE work (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    started_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

const CONFIG: &str = "
CREATE TABLE config (
    container TEXT NOT NULL REFERENCES container (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (container, key)
) STRICT, WITHOUT ROWID;
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::{store, web};

    #[test]
    fn steps_can_be_taken() {
        MIGRATIONS.validate().unwrap();
    }

    #[test]
    fn the_constraints_stand_without_our_checks() {
        let (_dir, mut store) = store();
        let first = store.create_container(&web(1)).unwrap();
        let second = store.create_container(&web(2)).unwrap();
        for sql in [
            "UPDATE container SET slice = (SELECT min(slice) FROM container)",
            "UPDATE container SET name = 'web01'",
            "UPDATE container SET uuid = (SELECT min(uuid) FROM container)",
            "UPDATE container SET phase = 'lost'",
            "UPDATE container SET template = 'none'",
            "UPDATE lease SET address = (SELECT min(address) FROM lease)",
            "UPDATE lease SET mac = (SELECT min(mac) FROM lease)",
            "UPDATE lease SET bridge = 'none'",
            "DELETE FROM template",
            "DELETE FROM network",
            "INSERT INTO meta VALUES (2, 1, 1)",
        ] {
            let err = store.conn.execute(sql, []).unwrap_err();
            assert_eq!(err.sqlite_error_code(), Some(rusqlite::ErrorCode::ConstraintViolation), "{sql}");
        }
        assert_eq!(store.containers().unwrap(), [first, second]);
    }
}
