//! The schema, as the list of steps that lead to it. A step that was released is never changed;
//! a new one is appended.

use rusqlite_migration::{M, Migrations};

const STEPS: &[M<'static>] = &[
    M::up(FIRST),
    M::up(CONFIG),
    M::up(SHARED).foreign_key_check(),
    M::up(NETWORKS).foreign_key_check(),
    M::up(FIREWALL),
    M::up(OPERATIONS),
    M::up(LAYERS),
    M::up(SCHEDULES),
    M::up(DEVICES),
    M::up(PROFILES),
    M::up(TEXTS),
    M::up(FLEETS),
    M::up(POOLS),
];

pub(super) const MIGRATIONS: Migrations<'static> = Migrations::from_slice(STEPS);

/// The `PRAGMA user_version` of a database on which all steps were taken.
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

/// Containers may share an id range, if the owner's record says that all do.
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

/// Several networks and interfaces. What queries search for, or what must be unique, has a column; the rest
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

/// The journal. It takes the place of `work`; what a command of an earlier version has left half done is
/// written into it.
const OPERATIONS: &str = "
CREATE TABLE operation (
    id TEXT PRIMARY KEY CHECK (length(id) = 16),
    kind TEXT NOT NULL,
    -- The name of what it is about, as it was then.
    subject TEXT NOT NULL,
    -- No reference: it is kept after its container is gone.
    container TEXT,
    params TEXT NOT NULL,
    -- The step that was begun last.
    step INTEGER NOT NULL CHECK (step >= 0),
    status TEXT NOT NULL CHECK (status IN ('running', 'undoing', 'done', 'failed')),
    -- A process number.
    holder INTEGER NOT NULL,
    -- Milliseconds since 1970.
    created_at INTEGER NOT NULL,
    ended_at INTEGER,
    error TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX operation_ended ON operation (ended_at);
INSERT INTO operation
    SELECT lower(hex(randomblob(8))), CASE phase WHEN 'creating' THEN 'launch' ELSE 'delete' END, name, id, '{}', 0,
        'running', 0, unixepoch() * 1000, NULL, NULL
    FROM container WHERE phase IN ('creating', 'deleting');
INSERT INTO operation
    SELECT id, CASE kind WHEN 'import' THEN 'template-import' WHEN 'records' THEN 'template-delete'
            WHEN 'repair' THEN 'repair' ELSE 'template-build' END, '', NULL, '{}', 0,
        'running', 0, started_at * 1000, NULL, NULL
    FROM work;
DROP TABLE work;
";

/// What containers and their snapshots stand on above their templates.
const LAYERS: &str = "
CREATE TABLE layer (
    id TEXT PRIMARY KEY CHECK (length(id) = 16),
    created_at INTEGER NOT NULL,
    -- 1: nothing stands on it; its files are being deleted.
    deleting INTEGER NOT NULL DEFAULT 0 CHECK (deleting IN (0, 1))
) STRICT, WITHOUT ROWID;
CREATE INDEX layer_deleting ON layer (deleting) WHERE deleting = 1;

CREATE TABLE container_layer (
    container TEXT NOT NULL REFERENCES container (id) ON DELETE CASCADE,
    -- 1 is right above the template.
    position INTEGER NOT NULL CHECK (position > 0),
    layer TEXT NOT NULL REFERENCES layer (id),
    PRIMARY KEY (container, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX container_layer_layer ON container_layer (layer);

CREATE TABLE snapshot (
    container TEXT NOT NULL REFERENCES container (id) ON DELETE CASCADE,
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    -- 0: it is being made.
    ready INTEGER NOT NULL CHECK (ready IN (0, 1)),
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    template TEXT NOT NULL REFERENCES template (id),
    -- The rest, as JSON.
    spec TEXT NOT NULL,
    PRIMARY KEY (container, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX snapshot_template ON snapshot (template);
CREATE INDEX snapshot_expires ON snapshot (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE snapshot_layer (
    container TEXT NOT NULL,
    snapshot TEXT NOT NULL,
    position INTEGER NOT NULL CHECK (position > 0),
    layer TEXT NOT NULL REFERENCES layer (id),
    PRIMARY KEY (container, snapshot, position),
    FOREIGN KEY (container, snapshot) REFERENCES snapshot (container, name)
        ON DELETE CASCADE ON UPDATE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX snapshot_layer_layer ON snapshot_layer (layer);
";

const SCHEDULES: &str = "
-- When a container's schedule had something to do last, or was seen first.
CREATE TABLE schedule_look (
    container TEXT PRIMARY KEY REFERENCES container (id) ON DELETE CASCADE,
    looked_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

const DEVICES: &str = "
-- Those besides interfaces.
CREATE TABLE device (
    container TEXT NOT NULL REFERENCES container (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    -- As JSON; it has the name too.
    spec TEXT NOT NULL,
    PRIMARY KEY (container, name)
) STRICT, WITHOUT ROWID;
";

/// Containers that are there keep their settings as they are: they use no profile.
const PROFILES: &str = "
CREATE TABLE profile (
    name TEXT PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 63),
    description TEXT NOT NULL,
    -- What it gives to its containers, as JSON.
    spec TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO profile VALUES ('default', 'What new containers use unless other profiles are named', '{}');

CREATE TABLE container_profile (
    container TEXT NOT NULL REFERENCES container (id) ON DELETE CASCADE,
    -- Later ones count.
    position INTEGER NOT NULL CHECK (position >= 0),
    profile TEXT NOT NULL REFERENCES profile (name) ON UPDATE CASCADE,
    PRIMARY KEY (container, position),
    UNIQUE (container, profile)
) STRICT, WITHOUT ROWID;
CREATE INDEX container_profile_profile ON container_profile (profile);
";

/// Settings as somebody has written them, where there is more in the text than its values.
const TEXTS: &str = "
CREATE TABLE config_text (
    container TEXT PRIMARY KEY REFERENCES container (id) ON DELETE CASCADE,
    text TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE profile_text (
    profile TEXT PRIMARY KEY REFERENCES profile (name) ON UPDATE CASCADE ON DELETE CASCADE,
    text TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Which file has made a container.
const FLEETS: &str = "
CREATE TABLE fleet (
    container TEXT PRIMARY KEY REFERENCES container (id) ON DELETE CASCADE,
    -- The name that the file gives itself, or its path.
    file TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Pools besides the one that is always there, which has no row: what names no pool is in that.
const POOLS: &str = "
CREATE TABLE pool (
    name TEXT PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 63 AND name <> 'default'),
    -- As JSON; it has the name too.
    spec TEXT NOT NULL
) STRICT, WITHOUT ROWID;
ALTER TABLE container ADD COLUMN pool TEXT REFERENCES pool (name);
ALTER TABLE layer ADD COLUMN pool TEXT REFERENCES pool (name);
CREATE TABLE volume (
    -- Of the pool that is always there, too.
    pool TEXT NOT NULL,
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 63),
    -- As JSON; it has both names too.
    spec TEXT NOT NULL,
    PRIMARY KEY (pool, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX container_pool ON container (pool) WHERE pool IS NOT NULL;
CREATE INDEX layer_pool ON layer (pool) WHERE pool IS NOT NULL;
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
