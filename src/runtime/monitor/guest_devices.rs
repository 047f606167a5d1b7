//! The devices of a running guest: what comes, and what goes.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::thread::ThreadNameSpaceType;

use super::changes::Change;
use super::state::Monitor;
use crate::model::monitor::{GuestMount, MountSource};
use crate::model::nic::Nic;
use crate::runtime::devices::{self, Identity, Loose};
use crate::runtime::interests::Id;
use crate::runtime::protocol::{Reply, Unmount};
use crate::sys::fs::mount;
use crate::sys::net::guest_net;
use crate::sys::{SysError, SysResult, error_text};

impl Monitor {
    /// Mounts a device whose mount is the first of `fds`, or one in memory.
    pub(super) fn mount_device(&mut self, client: Id, wanted: GuestMount, fds: &[OwnedFd]) {
        if let Err(e) = self.begin_mount(client, wanted, fds) {
            self.clients.reply(client, &Reply::failed(error_text(&e)), &[]);
        }
    }

    fn begin_mount(&mut self, client: Id, mut wanted: GuestMount, fds: &[OwnedFd]) -> SysResult<()> {
        self.changes.check_room(self.config.mounts.len())?;
        let refused = |why: &str| SysError::new("mount a device", std::io::Error::other(why.to_owned()));
        if self.config.mounts.iter().any(|other| other.device == wanted.device) {
            return Err(refused("the guest has a device of that name"));
        }
        if let MountSource::Place(_) = wanted.source {
            let mount = fds.first().ok_or_else(|| refused("no mount came along"))?;
            wanted.source = MountSource::Place(self.changes.places.keep(mount)?);
        }
        let (source, path) = (wanted.source.clone(), wanted.path.clone());
        let begun = Loose::of(&source).and_then(|loose| {
            let loose = loose.ok_or_else(|| refused("it is not there"))?;
            let work = || loose.attach(mount::open_dir("/")?.as_fd(), &path);
            let namespaces = ThreadNameSpaceType::MOUNT;
            self.changes.begin(
                client,
                Change::Mount(wanted),
                &self.init.pidfd,
                namespaces,
                Some(&loose),
                work,
            )
        });
        begun.inspect_err(|_| devices::let_go(&source))
    }

    pub(super) fn unmount_device(&mut self, client: Id, Unmount { device, path, force }: Unmount) {
        let known = self.config.mounts.iter().find(|mount| mount.device == device);
        let path = known.map_or(path, |known| known.path.clone());
        let expected = known.and_then(|known| Identity::at(&known.source));
        let work = || devices::detach(mount::open_dir("/")?.as_fd(), &path, expected, force);
        let namespaces = ThreadNameSpaceType::MOUNT;
        let begun = self.changes.check_room(0).and_then(|()| {
            self.changes.begin(client, Change::Unmount(device), &self.init.pidfd, namespaces, None, work)
        });
        if let Err(e) = begun {
            self.clients.reply(client, &Reply::failed(error_text(&e)), &[]);
        }
    }

    /// Sets up an interface that the broker has put into the guest's network namespace.
    pub(super) fn set_up_interface(&mut self, client: Id, nic: Nic) {
        let others: Vec<Nic> =
            self.config.nics.iter().filter(|other| other.device != nic.device).cloned().collect();
        let own = nic.clone();
        let work = || {
            let done = guest_net::configure_one(&own, &others);
            done.map_err(|e| SysError::new("set up the interface", std::io::Error::other(error_text(&e))))
        };
        // Settings of the network are files of the guest's /proc.
        let namespaces = ThreadNameSpaceType::MOUNT | ThreadNameSpaceType::NETWORK;
        let begun = self.changes.check_room(0).and_then(|()| {
            self.changes.begin(client, Change::SetUp(nic), &self.init.pidfd, namespaces, None, work)
        });
        if let Err(e) = begun {
            self.clients.reply(client, &Reply::failed(error_text(&e)), &[]);
        }
    }

    pub(super) fn forget_interface(&mut self, client: Id, device: &str) {
        self.config.nics.retain(|nic| nic.device != device);
        self.clients.reply(client, &Reply::Done, &[]);
    }

    /// A child has told how its change has gone, or has ended.
    pub(super) fn has_changed(&mut self, id: Id) {
        let ended = self.changes.heard(id);
        self.take_in(ended);
    }

    /// Gives up changes that the guest holds up.
    pub(super) fn end_late_changes(&mut self, now: Instant) {
        let ended = self.changes.late(now);
        self.take_in(ended);
    }

    fn take_in(&mut self, ended: Vec<(Id, Change, Result<(), String>)>) {
        for (client, change, outcome) in ended {
            match (change, &outcome) {
                (Change::Mount(mount), Ok(())) => {
                    self.config.mounts.push(mount);
                    self.config.mounts.sort_by(|a, b| a.path.cmp(&b.path));
                }
                (Change::Mount(mount), Err(_)) => devices::let_go(&mount.source),
                (Change::Unmount(device), Ok(())) => {
                    let gone = self.config.mounts.extract_if(.., |mount| mount.device == device);
                    gone.for_each(|mount| devices::let_go(&mount.source));
                }
                (Change::SetUp(nic), Ok(())) => {
                    self.config.nics.retain(|other| other.device != nic.device);
                    self.config.nics.push(nic);
                    self.config.nics.sort_by_key(|nic| nic.slot);
                }
                (Change::Unmount(_) | Change::SetUp(_), Err(_)) => {}
            }
            let reply = outcome.map_or_else(Reply::failed, |()| Reply::Done);
            self.clients.reply(client, &reply, &[]);
        }
    }
}
