//! The fork that leaves a broker beside a command: one half keeps its rights and serves, the other goes on as the
//! manager.

use super::broker::serve::serve;
use super::client::{Broker, BrokerError};
use super::rootless::owner::{self as rootless, DaemonlessError};
use super::setup::Owner;
use crate::model::fault::Fault;
use crate::model::instance::Instance;
use crate::sys::process::fork::Fork;
use crate::sys::process::{sandbox, seccomp, userns};
use crate::sys::{SysResult, error_text};

/// Splits this process, which is root's and has one thread. The parent, for which the user's shell waits,
/// gives up every right: it becomes `owner` and goes on as the manager. A manager could not make a broker later,
/// so there is one whether it is needed or not.
pub fn split(instance: &Instance, owner: Owner) -> SysResult<Broker> {
    let fork = Fork::new("be the broker");
    let half = fork.start_with_stream(|manager| serve(instance, Some(owner), &manager))?;
    userns::become_user(owner.uid, owner.gid)?;
    // Root's shell reads from the same terminal.
    sandbox::shut_in(&seccomp::manager_filter()?)?;
    // Files that this process makes are for the service user alone.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    Ok(Broker::beside(half))
}

/// The same in daemonless mode, where this process stays what it is: the other half is made once it is asked for
/// something, as are the namespaces of `owner`, of which it becomes root. The process has one thread until then.
pub fn split_daemonless(instance: &Instance, owner: Owner) -> Broker {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let (instance, outside) = (instance.clone(), owner.storage);
    let half = move || -> Result<_, DaemonlessError> {
        let outer = rootless::namespaces(&instance, &owner)?.outer;
        let fork = Fork::new("be the broker").keep([&outer.user, &outer.network]);
        let half = fork.start_with_stream(|manager| match outer.enter() {
            Ok(()) => serve(&instance, rootless::inside(), &manager),
            Err(e) => {
                eprintln!("nagaya: the broker cannot work: {}", error_text(&e));
                1
            }
        })?;
        Ok(half)
    };
    let not_made = |e: DaemonlessError| BrokerError::NotMade { reason: error_text(&e), facts: e.facts() };
    Broker::later(Box::new(move || half().map_err(not_made)), outside)
}
