//! The schema, as the list of steps that lead to it. A step that was released is never changed;
//! a new one is appended.

use rusqlite_migration::{M, Migrations};

const STEPS: &[M<'static>] = &[
    M::up(FIRST),
    M::up(CONFIG),
    M::up(SHARED).foreign_key_check(),
    M::up(NETWORKS).foreign_key_check(),
    M::up(FIREWALL),
];

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

/// Containers may share a slice, where the range says that all do.
const SHARED: &str = "
ALTER TABLE meta ADD COLUMN shared INTEGER NOT NULL DEFAULT 0 CHECK (shared IN (0, 1));

-- As it was, but for the UNIQUE of slice. Foreign keys are off while steps are taken.
CREATE TABLE container_new (
    id TEXT PRIMARY KEY CHECK (length(id) = 8),
    name TEXT NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 63),
    template TEXT NOT NULL REFERENCES template (id),
    template_name TEXT NOT NULL,
    -- First host id of its runtime slice.
    slice INTEGER NOT NULL CHECK (slice BETWEEN 1 AND 4294967295),
    uuid TEXT NOT NULL UNIQUE CHECK (length(uuid) = 32),
    created_at INTEGER NOT NULL,
    phase TEXT NOT NULL CHECK (phase IN ('creating', 'settled', 'starting', 'deleting')),
    wanted_up INTEGER NOT NULL CHECK (wanted_up IN (0, 1))
) STRICT, WITHOUT ROWID;
INSERT INTO container_new
    SELECT id, name, template, template_name, slice, uuid, created_at, phase, wanted_up FROM container;
DROP TABLE container;
ALTER TABLE container_new RENAME TO container;
CREATE INDEX container_template ON container (template);
CREATE INDEX container_slice ON container (slice);

CREATE TRIGGER container_slice_insert BEFORE INSERT ON container
WHEN NOT EXISTS (SELECT 1 FROM meta WHERE shared = 1)
    AND EXISTS (SELECT 1 FROM container WHERE slice = NEW.slice)
BEGIN SELECT RAISE(ABORT, 'the slice belongs to another container'); END;
CREATE TRIGGER container_slice_update BEFORE UPDATE OF slice ON container
WHEN NOT EXISTS (SELECT 1 FROM meta WHERE shared = 1)
    AND EXISTS (SELECT 1 FROM container WHERE slice = NEW.slice AND id <> NEW.id)
BEGIN SELECT RAISE(ABORT, 'the slice belongs to another container'); END;
";

/// Several networks, several interfaces. What is looked for or must be unique has a column; the rest
/// is in `spec`, as JSON.
const NETWORKS: &str = "
ALTER TABLE network RENAME TO old_network;
CREATE TABLE network (
    name TEXT PRIMARY KEY,
    bridge TEXT NOT NULL UNIQUE,
    spec TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO network SELECT bridge, bridge, json_object(
    'name', bridge, 'bridge', bridge, 'foreign', json('false'), 'ipv4', ipv4, 'nat4', 'masquerade',
    'dhcp4', json('false'), 'ipv6', NULL, 'nat6', 'off', 'dhcp6', json('false'), 'domain', NULL,
    'mtu', NULL, 'isolated', json('false'), 'notes', json('{}')) FROM old_network;

CREATE TABLE nic (
    container TEXT NOT NULL REFERENCES container (id) ON DELETE CASCADE,
    device TEXT NOT NULL,
    slot INTEGER NOT NULL CHECK (slot BETWEEN 0 AND 5),
    name TEXT NOT NULL,
    network TEXT REFERENCES network (name),
    -- Where addresses must differ: the network's name, or what else it is connected to.
    segment TEXT NOT NULL,
    mac TEXT NOT NULL UNIQUE,
    -- As a number, so that it sorts.
    ipv4 INTEGER CHECK (ipv4 BETWEEN 0 AND 4294967295),
    ipv6 BLOB CHECK (length(ipv6) = 16),
    spec TEXT NOT NULL,
    PRIMARY KEY (container, slot),
    UNIQUE (container, device),
    UNIQUE (container, name),
    UNIQUE (segment, ipv4),
    UNIQUE (segment, ipv6)
) STRICT, WITHOUT ROWID;
CREATE INDEX nic_network ON nic (network);
INSERT INTO nic SELECT container, 'eth0', 0, 'eth0', l.bridge, l.bridge, mac, address, NULL, json_object(
    'device', 'eth0', 'name', 'eth0', 'slot', 0, 'kind', json_object('type', 'bridged', 'network', l.bridge),
    'mac', mac,
    'ipv4', printf('%d.%d.%d.%d/%s', address >> 24, (address >> 16) & 255, (address >> 8) & 255, address & 255,
        substr(o.ipv4, instr(o.ipv4, '/') + 1)),
    'gateway4', substr(o.ipv4, 1, instr(o.ipv4, '/') - 1),
    'ipv6', NULL, 'gateway6', NULL,
    'settings', json_object('mtu', NULL, 'ingress', NULL, 'egress', NULL, 'mac_filtering', json('true'),
        'ipv4_filtering', json('true'), 'ipv6_filtering', json('true'), 'port_isolation', json('false'),
        'dhcp', json('false')))
    FROM lease l JOIN old_network o ON o.bridge = l.bridge;
DROP TABLE lease;
DROP TABLE old_network;
";

const FIREWALL: &str = "
-- What is said of a container, by its name, and all else, by ''; as JSON.
CREATE TABLE policy (
    container TEXT PRIMARY KEY,
    -- Not only forwarded ports.
    has_rules INTEGER NOT NULL CHECK (has_rules IN (0, 1)),
    document TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What the policy was before a change that somebody has still to confirm.
CREATE TABLE pending_policy (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    previous TEXT NOT NULL,
    deadline INTEGER NOT NULL
) STRICT;

CREATE TABLE block (
    -- With its prefix length.
    address TEXT NOT NULL,
    -- NULL: for all containers.
    container TEXT REFERENCES container (id) ON DELETE CASCADE,
    until INTEGER,
    reason TEXT,
    created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX block_address ON block (address, ifnull(container, ''));
CREATE INDEX block_container ON block (container);
CREATE INDEX block_until ON block (until);

-- What has passed a link in all its time, and what the kernel had counted at the last look.
CREATE TABLE traffic (
    container TEXT NOT NULL REFERENCES container (id) ON DELETE CASCADE,
    link TEXT NOT NULL,
    total TEXT NOT NULL,
    seen TEXT NOT NULL,
    PRIMARY KEY (container, link)
) STRICT, WITHOUT ROWID;
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::network::Network;
    use crate::model::nic::{Nic, NicSettings};
    use crate::store::fixture::{store, web};

    #[test]
    fn steps_can_be_taken() {
        MIGRATIONS.validate().unwrap();
    }

    /// A database of the first version keeps its containers, and what hangs on them.
    #[test]
    fn a_container_of_the_first_version_stays_with_its_lease() {
        let mut conn = rusqlite::Connection::open_in_memory().unwrap();
        Migrations::from_slice(&STEPS[..1]).to_latest(&mut conn).unwrap();
        conn.execute_batch(
            "INSERT INTO meta VALUES (1, 1000000, 4194304);
             INSERT INTO network VALUES ('n0', '10.9.0.1/20');
             INSERT INTO template (id, facts, bytes, created_at) VALUES (hex(zeroblob(32)), '{}', 1, 1);
             INSERT INTO container VALUES ('000000ab', 'web', hex(zeroblob(32)), 't', 1065536,
                 hex(zeroblob(16)), 1, 'settled', 1);
             INSERT INTO lease VALUES ('000000ab', 'n0', '02:00:00:00:00:01', 168361991);",
        )
        .unwrap();
        conn.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false).unwrap();
        MIGRATIONS.to_latest(&mut conn).unwrap();
        let count = |sql| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(count("SELECT count(*) FROM container JOIN nic ON nic.container = container.id"), 1);
        assert_eq!(count("SELECT shared FROM meta"), 0);
        let text = |sql| conn.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
        let network: Network = serde_json::from_str(&text("SELECT spec FROM network")).unwrap();
        assert_eq!(network, Network::new("n0", "n0", Some("10.9.0.1/20".parse().unwrap()), None));
        let nic: Nic = serde_json::from_str(&text("SELECT spec FROM nic")).unwrap();
        assert_eq!(nic.ipv4.unwrap().to_string(), "10.9.0.7/20");
        assert_eq!((nic.gateway4, nic.network()), (Some("10.9.0.1".parse().unwrap()), Some("n0")));
        assert_eq!(nic.settings, NicSettings::default());
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
            "UPDATE nic SET ipv4 = (SELECT min(ipv4) FROM nic)",
            "UPDATE nic SET ipv6 = (SELECT min(ipv6) FROM nic)",
            "UPDATE nic SET mac = (SELECT min(mac) FROM nic)",
            "UPDATE nic SET network = 'none'",
            "UPDATE nic SET slot = 6",
            "DELETE FROM template",
            "DELETE FROM network",
            "INSERT INTO meta VALUES (2, 1, 1, 0)",
        ] {
            let err = store.conn.execute(sql, []).unwrap_err();
            assert_eq!(err.sqlite_error_code(), Some(rusqlite::ErrorCode::ConstraintViolation), "{sql}");
        }
        assert_eq!(store.containers().unwrap(), [first, second]);
    }
}
