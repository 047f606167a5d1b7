//! Network namespaces for tests. A namespace lives as long as the thread or descriptor that holds
//! it, so nothing is left behind, also by a test that fails.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::Command;
use std::thread;

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

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap().block_on(future)
}
