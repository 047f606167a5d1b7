//! Network namespaces for tests. A namespace lives as long as the thread or descriptor that holds
//! it, so nothing is left behind, also by a test that fails.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::process::Command;
use std::thread;

use crate::model::mac::Mac;
use crate::model::nic::{Nic, NicKind, NicSettings};
use crate::sys::net::netlink::Attachment;
use nix::sched::{CloneFlags, setns, unshare};

/// Runs `body` in a thread of its own that stands in a fresh network namespace. Programs started
/// there stand in it too.
pub fn in_new_netns<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    on_own_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("unshare a network namespace (needs root)");
        body()
    })
}

/// A fresh network namespace held by a descriptor.
pub struct Netns(File);

impl Netns {
    pub fn new() -> Self {
        Self(in_new_netns(|| File::open("/proc/thread-self/ns/net").unwrap()))
    }

    /// The name that `ip` has for it.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    pub fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        on_own_thread(|| {
            setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
            body()
        })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn on_own_thread<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(body).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

/// An interface on network `lan` with an Ethernet address for each `number` and no other.
pub fn nic(name: &str, number: u8) -> Nic {
    Nic {
        device: name.to_owned(),
        name: name.to_owned(),
        slot: 0,
        kind: NicKind::Bridged { network: "lan".to_owned() },
        mac: Mac::guest([1, 2, 3, 4, number]),
        ipv4: None,
        gateway4: None,
        ipv6: None,
        gateway6: None,
        settings: NicSettings::default(),
    }
}

/// What makes it as the link `ng0000000…` with that number.
pub fn attachment<'a>(
    nic: &'a Nic,
    names: &'a (String, String),
    bridge: u32,
    netns: &'a Netns,
) -> Attachment<'a> {
    Attachment {
        nic,
        host_name: &names.0,
        shaper_name: &names.1,
        bridge: matches!(nic.kind, NicKind::Bridged { .. }).then_some(bridge),
        network_mtu: None,
        isolated: false,
        netns: netns.as_fd(),
    }
}

/// Names of the host's end and the shaper of a container's only interface.
pub fn names(number: u32) -> (String, String) {
    (format!("ng{number:08x}"), format!("ig{number:08x}"))
}

/// Runs a program in the calling thread's namespaces and returns what it printed.
pub fn run(program: &str, args: &str) -> String {
    let output = Command::new(program).args(args.split_whitespace()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

pub fn json(program: &str, args: &str) -> serde_json::Value {
    serde_json::from_str(&run(program, args)).unwrap()
}

pub fn pings(address: &str) -> bool {
    Command::new("ping")
        .args(["-n", "-c1", "-W2", address])
        .output()
        .expect("run ping (package iputils-ping)")
        .status
        .success()
}

/// The same for links that have just come up, whose carrier the kernel tells of a little later.
pub fn comes_to_ping(address: &str) -> bool {
    (0..5).any(|_| pings(address))
}
