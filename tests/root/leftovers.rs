//! What there is of an instance on the host, to be compared before and after.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::host::{Host, status};

/// One line for each file, cgroup, link, mount, process and row of the instance.
pub fn of(host: &Host) -> BTreeSet<String> {
    // It is erased in the background.
    let (trash, end) = (host.state_dir().join("pool/trash"), Instant::now() + Duration::from_secs(5));
    while trash.exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut found = BTreeSet::new();
    for dir in [host.state_dir(), host.run_dir(), host.cgroup()] {
        files(&dir, &mut found);
    }
    found.extend(host.ports().into_iter().map(|port| format!("link {port}")));
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo");
    let ours = mounts.lines().filter(|line| line.contains(host.name()));
    found.extend(ours.map(|line| format!("mount {line}")));
    for (pid, what) in Host::processes(host.ids(), host.uid()) {
        if !status(pid, "State").starts_with('Z') {
            found.insert(format!("process {pid} {what:?}"));
        }
    }
    rows(&host.state_dir().join("nagaya.db"), &mut found);
    found
}

/// Waits until all is as it was.
pub fn gone(host: &Host, before: &BTreeSet<String>, after_what: &str) {
    is_again(|| of(host), before, after_what);
}

/// The same by any way to look.
pub fn is_again(look: impl Fn() -> BTreeSet<String>, before: &BTreeSet<String>, after_what: &str) {
    // What programs are told of a running container is a copy: a killed command or a repair may have removed it.
    // And what overlayfs works in it makes again when it is mounted.
    let may_be_lost = |line: &&String| line.contains("/running/") || Path::new(line).ends_with("work/work");
    let is_same = |now: &BTreeSet<String>| {
        now.is_subset(before) && before.difference(now).all(|line| may_be_lost(&line))
    };
    let end = Instant::now() + Duration::from_secs(10);
    let now = loop {
        match look() {
            now if is_same(&now) => return,
            now if Instant::now() > end => break now,
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    let new: Vec<_> = now.difference(before).take(20).collect();
    let lost: Vec<_> = before.difference(&now).take(20).collect();
    panic!("after {after_what}: left {new:#?}, lost {lost:#?}");
}

/// All but the database and the files that the kernel puts into cgroups.
pub fn files(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let of_kernel = !is_dir && !dir.starts_with("/var/lib") && !dir.starts_with("/run");
        if of_kernel || name.starts_with("nagaya.db") {
            continue;
        }
        // Made when they are first needed, and kept; what is in them counts.
        if !is_dir
            || !["containers", "layers", "volumes", "templates", "tmp", "locks", "running"]
                .contains(&name.as_str())
        {
            found.insert(format!("file {}", entry.path().display()));
        }
        if is_dir && !dir.ends_with("pool/templates") {
            files(&entry.path(), found);
        }
    }
}

/// The rows of every table, as text.
pub fn rows(database: &Path, found: &mut BTreeSet<String>) {
    // A copy, for looking is not to change anything, and is to work on a full disk.
    let dir = tempfile::tempdir().expect("make a directory");
    let copy = dir.path().join("copy.db");
    if fs::copy(database, &copy).is_err() {
        return;
    }
    let _ = fs::copy(database.with_extension("db-wal"), dir.path().join("copy.db-wal"));
    let conn = Connection::open(&copy).expect("open the copy of the database");
    let mut names = conn.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").expect("list tables");
    let names = names.query_map([], |row| row.get::<_, String>(0)).expect("list tables");
    for table in names.flatten() {
        // Operations that have ended are kept on purpose.
        let rest = if table == "operation" { "WHERE ended_at IS NULL" } else { "" };
        let mut all = conn.prepare(&format!("SELECT * FROM \"{table}\" {rest}")).expect("read a table");
        let columns = all.column_count();
        let mut rows = all.query([]).expect("read a table");
        while let Some(row) = rows.next().expect("read a row") {
            let value = |n| match row.get_ref(n).expect("a value") {
                ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                other => format!("{other:?}"),
            };
            let values: Vec<_> = (0..columns).map(value).collect();
            found.insert(format!("row of {table}: {}", values.join(", ")));
        }
    }
}
