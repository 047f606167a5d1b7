//! What a running container gets: one more interface, and mounts for its monitor to attach.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use super::guest_processes;
use super::host1::Host1;
use super::network;
use super::spawn::disk::PassedDisk;
use super::spawn::node::PassedNode;
use super::spawn::rootless_stage;
use crate::host::api::error::{HostError, failed, refused};
use crate::host::api::packet::Descriptors;
use crate::host::api::requests::{AttachLink, Done, LendDevice, Lent};
use crate::model::ids::IdRange;
use crate::model::name::ContainerId;
use crate::model::waits;
use crate::sys::fs::mount;
use crate::sys::fs::mount::{NOEXEC, NOSUID};
use crate::sys::net::seqpacket;
use crate::sys::process::fork::Fork;
use crate::sys::process::{caps, child, identity, userns};
use crate::sys::{Context, SysError, SysResult, error_text};

impl Host1 {
    pub async fn lend(&self, mut request: LendDevice) -> Result<Lent, HostError> {
        let container = Self::check_container(&request.container)?;
        let authorised = self.authorised()?;
        let owner = &authorised.owner;
        let ids = self.check_id_range(owner, request.first_id)?;
        let fds = &mut request.descriptors;
        let thing = match (&request.disk, &request.node) {
            (Some(order), None) => {
                let disk = PassedDisk::checked(order, fds, &self.instance, owner)?;
                // One that may be missing comes with a later start.
                let Some(disk) = disk else { return Ok(Lent { descriptors: Descriptors::default() }) };
                match self.instance.is_daemonless() {
                    true => Thing::Unmapped(disk),
                    false => Thing::Mapped(disk.mapped(owner.storage, ids).map_err(failed)?),
                }
            }
            (None, Some(order)) => {
                let node = PassedNode::checked(order, fds, &self.instance)?;
                Thing::Node { node, is_bound: self.instance.is_daemonless() }
            }
            _ => return Err(refused("one device is lent at a time")),
        };
        request.descriptors.end()?;
        let _lock = self.turn(&container).await?;
        let namespace = self.user_namespace(&container, ids)?;
        let mount = lend(&thing, &namespace, ids).map_err(failed)?;
        Ok(Lent { descriptors: Descriptors::of([("mount", mount)]) })
    }

    /// Of a container that runs with these ids.
    fn user_namespace(&self, container: &ContainerId, ids: IdRange) -> Result<OwnedFd, HostError> {
        let not_running = |_| refused(format!("no container '{container}' of yours is running"));
        let init = guest_processes::init(&self.instance, container).map_err(not_running)?;
        let pidfd = child::pidfd_open(init).map_err(failed)?;
        if !userns::is_mapped_to(init, ids) {
            return Err(refused(format!("container '{container}' has other ids")));
        }
        // The owner of init's pid namespace never changes.
        let namespace =
            userns::open_ns(init, "pid").and_then(|pid| userns::owner_of(&pid)).map_err(failed)?;
        // Had the process ended in between, its number could be another's by now.
        child::signal(&pidfd, 0).map_err(failed)?;
        Ok(namespace)
    }

    pub async fn attach(&self, AttachLink { container, nic }: AttachLink) -> Result<Done, HostError> {
        let container = Self::check_container(&container)?;
        network::nics(&self.instance, self.grant()?.as_ref(), std::slice::from_ref(&nic))?;
        let link = [self.check_link(nic)?];
        let _lock = self.turn(&container).await?;
        let not_running = |_| refused(format!("no container '{container}' of yours is running"));
        let init = guest_processes::init(&self.instance, &container).map_err(not_running)?;
        let pidfd = child::pidfd_open(init).map_err(failed)?;
        let netns = userns::open_ns(init, "net").map_err(failed)?;
        child::signal(&pidfd, 0).map_err(failed)?;
        self.count_links(&container, &link)?;
        network::attach(&self.instance, &self.netlink, &container, &link[0], netns.as_fd())
            .map_err(failed)?;
        self.set_hairpin_of(&container, &link);
        Ok(Done {})
    }
}

/// What is lent.
enum Thing {
    /// A detached mount.
    Mapped(OwnedFd),
    /// A daemonless owner's directory.
    Unmapped(PassedDisk),
    Node {
        node: PassedNode,
        is_bound: bool,
    },
}

/// A detached mount of it that belongs to the container's user namespace: only in a copy that was made there are
/// read-only, nodev and nosuid locked. A child makes that copy.
fn lend(thing: &Thing, namespace: &OwnedFd, ids: IdRange) -> SysResult<OwnedFd> {
    let tree = match thing {
        Thing::Mapped(tree) | Thing::Unmapped(PassedDisk { tree, .. }) => Some(tree),
        Thing::Node { .. } => None,
    };
    let fork = Fork::new("lend a guest a device").keep([namespace]).keep(tree);
    let (child, ours) = fork.start_with_socket(|theirs| {
        caps::undumpable();
        let sent = match copy(thing, namespace, ids) {
            Ok(copy) => seqpacket::send(&theirs, &None::<Failure>, &[copy.as_fd()]),
            Err(e) => seqpacket::send(&theirs, &Some((error_text(&e), e.errno())), &[]),
        };
        i32::from(sent.is_err())
    })?;
    let timeout = rustix::net::sockopt::Timeout::Recv;
    rustix::net::sockopt::set_socket_timeout(&ours, timeout, Some(waits::DEVICE_LEND))
        .cannot(|| "bound the wait for a device")?;
    let heard = seqpacket::recv::<Option<Failure>>(&ours);
    child.kill();
    match heard? {
        Some((None, fds)) => {
            let none = || SysError::new("lend a guest a device", std::io::ErrorKind::UnexpectedEof);
            fds.into_iter().next().ok_or_else(none)
        }
        Some((Some((reason, Some(errno))), _)) => Err(SysError::from_worker(&reason, Some(errno))),
        Some((Some((reason, None)), _)) => {
            Err(SysError::new("lend a guest a device", std::io::Error::other(reason)))
        }
        None => Err(SysError::new("lend a guest a device", std::io::ErrorKind::UnexpectedEof)),
    }
}

/// A failure's text and the kernel's answer.
type Failure = (String, Option<i32>);

/// In the child.
fn copy(thing: &Thing, namespace: &OwnedFd, ids: IdRange) -> SysResult<OwnedFd> {
    identity::unshare(UnshareFlags::NEWNS)?;
    mount::make_private()?;
    let place = mount::open_dir("/tmp")?;
    let (here, name) = match thing {
        Thing::Mapped(tree) => {
            mount::attach(tree.as_fd(), place.as_fd())?;
            (tree.try_clone().cannot(|| "duplicate a descriptor")?, None)
        }
        Thing::Unmapped(disk) => {
            let tree = mount::whole(rootless_stage::again(disk.tree.as_fd())?.as_fd(), None, disk.flags())?;
            mount::attach(tree.as_fd(), place.as_fd())?;
            (tree, None)
        }
        Thing::Node { node, is_bound } => {
            rustix::process::umask(rustix::fs::Mode::empty());
            let options = [("mode", "755"), ("size", "4k"), ("nr_inodes", "8")];
            let dir = mount::fresh("tmpfs", &options, NOSUID | NOEXEC)?;
            mount::attach(dir.as_fd(), place.as_fd())?;
            match is_bound {
                true => node.bind(&dir)?,
                false => node.make(&dir, ids)?,
            }
            (dir, Some(node.name.as_str()))
        }
    };
    // The container's ids may not be able to pass through the directories on the way.
    rustix::process::fchdir(&here).cannot(|| "enter what is lent")?;
    drop((here, place));
    userns::enter(namespace, LinkNameSpaceType::User, "container's user")?;
    userns::become_root_inside()?;
    identity::unshare(UnshareFlags::NEWNS)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = rustix::fs::open(name.unwrap_or("."), flags, rustix::fs::Mode::empty());
    mount::clone_whole(found.cannot(|| "open what is lent")?.as_fd())
}
