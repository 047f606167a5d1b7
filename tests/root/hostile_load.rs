//! Ordinary users who want to keep nagaya from others: by locks, by messages, by many calls.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nagaya::broker::{Line, Verb};
use rustix::fs::{FlockOperation, Mode, OFlags};
use serde_json::json;

use super::errors::REFUSED;
use super::host::{random_hex, until};
use super::hostd::status;
use super::hostd_users::{HostdUser, HostdUsers};
use super::hostile_callers::packet;

/// Connections to the bus with this user's rights, on one runtime.
struct Connections {
    runtime: tokio::runtime::Runtime,
    address: String,
}

impl Connections {
    fn new(users: &HostdUsers) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { runtime, address: users.address() }
    }

    async fn open(&self) -> Line {
        let bus = zbus::connection::Builder::address(self.address.as_str()).build().await;
        Line::to_hostd(bus.expect("reach the bus"))
    }
}

/// Everything below `path` that the caller may open, as far as it may look.
fn openable(path: &Path, found: &mut Vec<OwnedFd>) {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(fd) = rustix::fs::open(path, flags, Mode::empty()) else { return };
    found.push(fd);
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        openable(&entry.path(), found);
    }
}

/// The lock of a container of the ordinary user's, as its broker takes it.
fn hold(users: &HostdUsers, user: &HostdUser<'_>, id: &str) -> OwnedFd {
    let dir = PathBuf::from(format!("/run/{}-hostd/holds", users.host.name()));
    nagaya::broker::closed_dir(&dir).expect("make the directory of locks");
    let path = dir.join(format!("{}-u{}-{id}.scope", users.host.name(), user.uid));
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).expect("open a lock");
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).expect("take a lock");
    file
}

async fn clear(line: Line, id: String) -> Result<(), String> {
    let request = packet(&json!({"container": id}).to_string(), Vec::new());
    line.pass(Verb::Clear, &request).await.map(drop).map_err(|e| format!("{e:?}"))
}

#[test]
fn nobody_holds_what_others_wait_for() {
    let users = HostdUsers::new(2);
    let (ann, stranger) = (users.granted(0), users.user(1));
    ann.ok(&["launch", "tiny", "one"]);
    ann.ok(&["stop", "--force", "one"]);
    let name = users.host.name();
    // The host's own, /run and /var/lib, are other tests' too: their like of this instance will do.
    let held = stranger.does(|| {
        let mut found = Vec::new();
        for dir in ["/run/NAME", "/run/NAME-users", "/run/NAME-hostd", "/var/lib/NAME", "/etc/NAME"] {
            openable(Path::new(&dir.replace("NAME", name)), &mut found);
        }
        for dir in ["/var/lib/NAME-users", "/var/lib/NAME-hostd"] {
            let dir = dir.replace("NAME", name);
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            found.extend(rustix::fs::open(dir, flags, Mode::empty()));
        }
        for fd in &found {
            // Another test's process may have it for a moment.
            let _ = rustix::fs::flock(fd, FlockOperation::NonBlockingLockExclusive);
        }
        found
    });
    assert!(held.len() >= 2, "a stranger sees {} of its directories", held.len());
    let begun = Instant::now();
    ann.ok(&["start", "one"]);
    ann.ok(&["launch", "tiny", "two"]);
    // Somebody who has nothing yet, and what a reboot takes.
    users.host.ok(&["grant", &stranger.name, "allow=true"]);
    stranger.ok(&["list"]);
    ann.ok(&["delete", "--force", "one"]);
    users.host.ok(&["list"]);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    drop(held);
    for dir in [format!("/run/{name}-hostd/holds"), format!("/var/lib/{name}-hostd")] {
        let mode = super::host::run_tool("stat", &["-c", "%u %a", &dir]);
        assert_eq!(mode.trim(), "0 700", "{dir}");
    }
    let locks = PathBuf::from(format!("/run/{name}-users/{}/locks", ann.uid));
    let left: Vec<_> = fs::read_dir(locks).expect("list locks").flatten().map(|e| e.file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn workers_are_bounded_and_end_without_their_commands() {
    const OF_USER: usize = 64;
    const ENDING: usize = 16;
    let users = HostdUsers::new(2);
    let (ann, bob) = (users.granted(0), users.granted(1));
    until(10, "only hostd and its broker are left", || users.hostds().len() == 2);
    let id = random_hex(4);
    let held = hold(&users, &ann, &id);
    let connections = Connections::new(&users);
    let calls = ann.does(|| {
        connections.runtime.block_on(async {
            let mut calls = Vec::new();
            for _ in 0..OF_USER {
                calls.push(tokio::spawn(clear(connections.open().await, id.clone())));
            }
            let end = Instant::now() + Duration::from_secs(30);
            while users.hostds().len() < OF_USER + 2 && Instant::now() < end {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(users.hostds().len(), OF_USER + 2);
            let said = clear(connections.open().await, id.clone()).await.expect_err("one too many");
            assert!(said.contains("commands are at work"), "{said}");
            calls
        })
    });
    let begun = Instant::now();
    bob.ok(&["list"]);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    ann.does(|| {
        connections.runtime.block_on(async {
            // The commands are killed, and others take their places while the workers are still there.
            calls.iter().for_each(|call| call.abort());
            tokio::time::sleep(Duration::from_millis(200)).await;
            let mut calls = Vec::new();
            for _ in 0..ENDING + 4 {
                calls.push(tokio::spawn(clear(connections.open().await, id.clone())));
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(users.hostds().len() <= OF_USER + ENDING + 2, "{}", users.hostds().len());
        });
    });
    drop(connections);
    // They wait for the lock, and hold none.
    until(25, "workers whose commands are gone end", || users.hostds().len() == 2);
    drop(held);
    ann.ok(&["launch", "tiny", "one"]);
}

#[test]
fn hostd_keeps_little_whatever_it_is_sent() {
    let users = HostdUsers::new(2);
    let ann = users.granted(0);
    let stranger = users.user(1);
    let front = || users.hostds().into_iter().find(|pid| !status(*pid, "Uid").starts_with('0'));
    let front = front().expect("hostd");
    let most = |key| status(front, key).split(' ').next().and_then(|n| n.parse::<u64>().ok()).expect("kB");
    let before = most("VmHWM");
    for user in [&stranger, &ann] {
        user.does(|| {
            let connections = Connections::new(&users);
            connections.runtime.block_on(async {
                let text = "x".repeat(30 << 20);
                let mut all = Vec::new();
                for _ in 0..4 {
                    let proxy = connections.open().await;
                    let bus = proxy.connection().clone();
                    let text = text.clone();
                    all.push(tokio::spawn(async move {
                        let (path, name) = ("/org/nagaya/Host1", "org.nagaya.Host1");
                        bus.call_method(Some(name), path, Some(name), "EnsureNetwork", &text).await
                    }));
                }
                for call in all {
                    let answer = call.await.expect("a call");
                    assert!(format!("{answer:?}").contains("InvalidArgs"), "{answer:?}");
                }
                // One that is all header is for nobody.
                let (path, name) = (format!("/{}", "x".repeat(1 << 20)), "org.nagaya.Host1");
                let bus = connections.open().await.connection().clone();
                let call = bus.call_method(Some(name), path, Some(name), "Setup", &());
                let answer = tokio::time::timeout(Duration::from_millis(500), call).await;
                assert!(!matches!(answer, Ok(Ok(_))), "{answer:?}");
            });
        });
    }
    let grown = most("VmHWM").saturating_sub(before);
    assert!(grown < 16 * 1024, "hostd has grown by {grown} kB");
    // It is the same one, and serves.
    ann.ok(&["list"]);
    assert_eq!(users.hostds().iter().filter(|pid| **pid == front).count(), 1);
}

#[test]
fn a_right_ends_when_the_administrator_says_so() {
    let users = HostdUsers::new(1);
    let ann = users.granted(0);
    let connections = Connections::new(&users);
    let proxy = ann.does(|| connections.runtime.block_on(connections.open()));
    let clear = || connections.runtime.block_on(clear(proxy.clone(), random_hex(4)));
    clear().expect("ann may");
    users.host.ok(&["grant", &ann.name, "allow=false"]);
    let said = clear().expect_err("ann is barred");
    assert!(said.contains("barred"), "{said}");
    users.host.ok(&["grant", &ann.name, "allow=true", "containers=1"]);
    clear().expect("ann may again");
    // What cannot be read allows nothing and bounds nothing away.
    let path = PathBuf::from(format!("/etc/{}/grants.d/user.{}.toml", users.host.name(), ann.name));
    for damaged in ["", "allow = true\ncontainer = 1000\n", "allow = tr"] {
        fs::write(&path, damaged).expect("damage the grant");
        let said = clear().expect_err("the grant is damaged");
        assert!(said.contains("grants.d"), "{said}");
        ann.fails(REFUSED, &["launch", "tiny", "one"]);
    }
    users.host.ok(&["grant", &ann.name, "--remove"]);
    users.host.ok(&["grant", &ann.name, "allow=true"]);
    clear().expect("ann may once more");
    // And nobody sees what others are granted.
    users.host.ok(&["grant", "nobody", "containers=3"]);
    let rows = ann.ok(&["grant", "--format", "csv"]);
    assert!(rows.contains(&ann.name) && !rows.contains("nobody"), "{rows}");
    ann.fails(REFUSED, &["grant", "nobody"]);
    assert!(users.host.ok(&["grant", "--format", "csv"]).contains("nobody"));
    users.host.ok(&["grant", "nobody", "--remove"]);
}
