//! Many commands at once.

use std::collections::BTreeSet;
use std::env;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Barrier;
use std::thread;

use super::Store;
use super::fixture::{RANGE, stocked, web};

const COMMANDS: u32 = 50;
const DATABASE: &str = "NAGAYA_TEST_DATABASE";
const NUMBER: &str = "NAGAYA_TEST_NUMBER";

fn assert_nothing_is_shared(path: &Path, expected: u32) {
    let containers = Store::open_existing(path).unwrap().containers().unwrap();
    let bases: BTreeSet<u32> = containers.iter().map(|c| c.id_range.base()).collect();
    // Nothing was freed in between, so the id ranges and addresses given are the lowest ones.
    let lowest: BTreeSet<u32> = (0..expected).map(|n| RANGE.runtime(n).unwrap().base()).collect();
    assert_eq!(bases, lowest);
    let addresses: BTreeSet<_> = containers.iter().map(|c| c.nics[0].ipv4.unwrap().ip()).collect();
    assert_eq!(addresses.len(), containers.len());
    assert_eq!(containers.len(), expected as usize);
}

#[test]
fn fifty_processes_are_given_fifty_id_ranges() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nagaya.db");
    drop(stocked(&path));
    let one = format!("{}::one_process", module_path!().trim_start_matches("nagaya::"));
    let children: Vec<Child> = (1..=COMMANDS)
        .map(|number| {
            Command::new(env::current_exe().unwrap())
                .args(["--exact", &one, "--ignored", "--test-threads=1", "-q"])
                .env(DATABASE, &path)
                .env(NUMBER, number.to_string())
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    let failed =
        children.into_iter().filter_map(|mut child| (!child.wait().unwrap().success()).then_some(()));
    assert_eq!(failed.count(), 0);
    assert_nothing_is_shared(&path, COMMANDS);
}

#[test]
#[ignore = "one of the processes of fifty_processes_are_given_fifty_slices"]
fn one_process() {
    let path = env::var_os(DATABASE).expect("started by the test that makes the database");
    let number = env::var(NUMBER).unwrap().parse().unwrap();
    Store::open(Path::new(&path)).unwrap().create_container(&web(number)).unwrap();
}

#[test]
fn a_database_opened_first_by_many_is_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nagaya.db");
    let start = Barrier::new(COMMANDS as usize);
    thread::scope(|scope| {
        for number in 1..=COMMANDS {
            let (path, start) = (&path, &start);
            scope.spawn(move || {
                start.wait();
                // Each sets up what is missing, as every first launch does.
                let mut store = Store::open(path).unwrap();
                store.set_range(RANGE).unwrap();
                store.add_network(&super::fixture::network()).unwrap();
                store.add_template("centos7", &super::fixture::template('c'), false).unwrap();
                store.create_container(&web(number)).unwrap();
            });
        }
    });
    assert_nothing_is_shared(&path, COMMANDS);
}

#[test]
fn a_locked_database_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nagaya.db");
    let mut store = stocked(&path);
    let other = Store::open(&path).unwrap();
    other.conn.execute_batch("BEGIN IMMEDIATE").unwrap();
    store.conn.busy_timeout(std::time::Duration::from_millis(20)).unwrap();
    let err = store.create_container(&web(1)).unwrap_err();
    assert!(matches!(&err, super::StoreError::Busy { path: named, .. } if *named == path), "{err:?}");
    assert_eq!(store.containers().unwrap(), [], "readers do not wait");
    store.conn.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| store.create_container(&web(1)).unwrap());
        thread::sleep(std::time::Duration::from_millis(50));
        other.conn.execute_batch("COMMIT").unwrap();
    });
    assert_nothing_is_shared(&path, 1);
}
