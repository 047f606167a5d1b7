//! The processes of a running container that the broker works on. They are found by its cgroup; nothing
//! that an owner or a guest says is used.

use crate::model::instance::Instance;
use crate::model::name::ContainerId;
use crate::sys::cgroup::home::Home;
use crate::sys::process::userns;
use crate::sys::{SysError, SysResult, cgroup};

/// Process number of the guest's init: process 1 of a namespace directly below the host's.
///
/// # Errors
/// When the container does not run.
pub fn init(instance: &Instance, container: &ContainerId) -> SysResult<i32> {
    let payload = Home::find(instance)?.container_dir(container).join("payload");
    let is_init = |pid: &i32| userns::pid_namespace_depth(*pid) == Some((2, 1));
    let found = cgroup::all_processes(&payload).into_iter().find(is_init);
    found.ok_or_else(|| SysError::new(format!("find the init of {container}"), std::io::ErrorKind::NotFound))
}

/// Process number of its monitor; none when that was killed.
pub fn monitor(instance: &Instance, container: &ContainerId) -> SysResult<Option<i32>> {
    let dir = Home::find(instance)?.container_dir(container).join("monitor");
    Ok(cgroup::processes(&dir).first().copied())
}
