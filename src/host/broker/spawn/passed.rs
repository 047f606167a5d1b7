//! The descriptors that an owner passes for a new container: its trees, and what its monitor gets. The
//! caller is not trusted, so each is checked to be of its kind.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::net::{AddressFamily, SocketType, sockopt};

use super::disk::PassedDisk;
use super::node::PassedNode;
use super::trees::{answering, tree};
use crate::host::api::error::HostError;
use crate::host::api::packet::Descriptors;
use crate::host::api::requests::{DEVICES, Layer, Mount, Spawn};
use crate::host::setup::Owner;
use crate::model::ids::IdRange;
use crate::model::instance::Instance;
use crate::model::monitor::{MAX_CONFIG, MOST_LAYERS, MOST_MOUNTS, place};
use crate::sys::error_text;
use crate::sys::fs::sealed;

/// A tree that the monitor has at a place of its own.
pub struct PassedMount {
    pub name: String,
    pub tree: OwnedFd,
    pub is_read_only: bool,
}

/// The descriptors that come with `Spawn`, checked.
pub struct Passed {
    /// Read-only trees, the lowest first.
    pub layers: Vec<OwnedFd>,
    /// One of them is the directory with the overlay's `upper` and `work`.
    pub mounts: Vec<PassedMount>,
    /// Directories of the host's.
    pub disks: Vec<PassedDisk>,
    pub nodes: Vec<PassedNode>,
    /// A sealed memory file.
    pub config: OwnedFd,
    /// A listening socket.
    pub control: OwnedFd,
    /// The monitor's state record, a regular file.
    pub state: OwnedFd,
    /// The console's history, regular files.
    pub logs: [OwnedFd; 2],
}

impl Passed {
    /// Takes the descriptors of `spawn`, which `owner` passes.
    ///
    /// # Errors
    /// What is wrong with which descriptor.
    pub fn checked(spawn: &mut Spawn, instance: &Instance, owner: &Owner) -> Result<Self, HostError> {
        check_names(spawn).map_err(HostError::Refused)?;
        let fds = &mut spawn.descriptors;
        fds.unpack(DEVICES, 2 * MOST_MOUNTS)?;
        let layers = take_layers(&spawn.layers, fds)?;
        let mount = |Mount { name, is_read_only }: &Mount| {
            Ok(PassedMount { name: name.clone(), tree: fds.take(name)?, is_read_only: *is_read_only })
        };
        let mounts = spawn.mounts.iter().map(mount).collect::<Result<Vec<_>, HostError>>()?;
        let mut disks = Vec::new();
        for disk in &spawn.disks {
            match PassedDisk::checked(disk, fds, instance, owner) {
                // The guest that is taken over has what it has.
                Err(e) if spawn.adopt.is_some() => tracing::warn!("{}", error_text(&e)),
                checked => disks.extend(checked?),
            }
        }
        let nodes = spawn.nodes.iter().map(|node| PassedNode::checked(node, fds, instance));
        let nodes = nodes.collect::<Result<_, _>>()?;
        let (config, control, state) = (fds.take("config")?, fds.take("control")?, fds.take("state")?);
        let logs = [fds.take("log")?, fds.take("other-log")?];
        let passed = Self { layers, mounts, disks, nodes, config, control, state, logs };
        fds.end()?;
        passed.check(owner.storage, instance.is_daemonless()).map_err(HostError::Refused)?;
        Ok(passed)
    }

    /// `is_own`: the broker is the caller's own, whom the caller may keep waiting.
    fn check(&self, storage: IdRange, is_own: bool) -> Result<(), String> {
        let trees = || self.layers.iter().chain(self.mounts.iter().map(|mount| &mount.tree));
        let [log, other_log] = &self.logs;
        let files = [(&self.state, "state record"), (log, "first log"), (other_log, "second log")];
        if !is_own {
            answering(trees().chain(files.map(|(fd, _)| fd)))?;
        }
        for (number, layer) in self.layers.iter().enumerate() {
            tree(layer, storage).map_err(|e| format!("layer {number} {e}"))?;
        }
        for PassedMount { name, tree: fd, .. } in &self.mounts {
            tree(fd, storage).map_err(|e| format!("the container's directory '{name}' {e}"))?;
        }
        sealed::size(&self.config, MAX_CONFIG as usize).ok_or_else(|| {
            format!("the configuration is not a sealed memory file of at most {} MiB", MAX_CONFIG >> 20)
        })?;
        listening(self.control.as_fd()).map_err(|e| format!("the control socket {e}"))?;
        files.iter().try_for_each(|(fd, what)| writable(fd).map_err(|e| format!("the {what} {e}")))
    }
}

/// The layers, of which several may be in one directory.
fn take_layers(layers: &[Layer], fds: &mut Descriptors) -> Result<Vec<OwnedFd>, HostError> {
    let mut dirs: BTreeMap<&str, OwnedFd> = BTreeMap::new();
    let mut trees = Vec::new();
    for (number, Layer { descriptor, name }) in layers.iter().enumerate() {
        let Some(name) = name else {
            trees.push(fds.take(descriptor)?);
            continue;
        };
        let dir = match dirs.entry(descriptor) {
            Entry::Occupied(dir) => dir.into_mut(),
            Entry::Vacant(place) => place.insert(fds.take(descriptor)?),
        };
        // The caller could have put anything there.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let within = ResolveFlags::BENEATH
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_XDEV;
        let tree = rustix::fs::openat2(&*dir, name.as_str(), flags, Mode::empty(), within);
        trees.push(tree.map_err(|e| HostError::Refused(format!("layer {number} cannot be opened: {e}")))?);
    }
    Ok(trees)
}

/// Whether as many trees as there can be are asked for, by names that are each a directory's.
fn check_names(Spawn { layers, mounts, disks, nodes, .. }: &Spawn) -> Result<(), String> {
    if !(1..=MOST_LAYERS).contains(&layers.len()) {
        return Err(format!("a container stands on 1 to {MOST_LAYERS} layers"));
    }
    if mounts.len() + disks.len() > MOST_MOUNTS || nodes.len() > MOST_MOUNTS {
        return Err(format!("a container has {MOST_MOUNTS} mounts at most"));
    }
    let is_name = |name: &str| {
        (1..=32).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let names = mounts.iter().map(|mount| &mount.name).chain(disks.iter().map(|disk| &disk.name));
    let names: Vec<&String> = names.collect();
    if let Some(name) = names.iter().find(|name| !is_name(name)) {
        return Err(format!("'{name:.64}' is not a mount's name: letters a to z, digits and -"));
    }
    // Some come with no descriptor.
    let is_twice = |n: usize| nodes[..n].iter().any(|node| node.name == nodes[n].name);
    if (1..names.len()).any(|n| names[..n].contains(&names[n])) || (1..nodes.len()).any(is_twice) {
        return Err("a mount is named twice".to_owned());
    }
    match mounts.iter().any(|mount| mount.name == place::DATA_MOUNT && !mount.is_read_only) {
        true => Ok(()),
        false => Err(format!("a container has a mount '{}' to write to", place::DATA_MOUNT)),
    }
}

fn listening(fd: BorrowedFd<'_>) -> Result<(), String> {
    let right = sockopt::socket_domain(fd) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(fd) == Ok(SocketType::SEQPACKET)
        && sockopt::socket_acceptconn(fd) == Ok(true);
    if right { Ok(()) } else { Err("is not a listening unix socket of packets".to_owned()) }
}

fn writable(fd: &OwnedFd) -> Result<(), String> {
    let stat = rustix::fs::fstat(fd).map_err(|e| format!("cannot be looked at: {e}"))?;
    let flags = rustix::fs::fcntl_getfl(fd).unwrap_or(OFlags::PATH);
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if regular && flags & OFlags::RWMODE == OFlags::RDWR && !flags.contains(OFlags::PATH) {
        Ok(())
    } else {
        Err("is not a file that is open for reading and writing".to_owned())
    }
}

/// What a monitor gets of the host's file systems: detached mounts, and files that were opened through such
/// mounts, so that no path leads from them to anything else.
pub struct Handed {
    /// Mounts idmapped to the container's ids; those of a daemonless owner are as they are on disk. The
    /// lowest layer is first.
    pub layers: Vec<OwnedFd>,
    /// Likewise, by their names.
    pub mounts: Vec<(String, OwnedFd)>,
    /// The state record.
    pub state: OwnedFd,
    /// The console's history.
    pub logs: [OwnedFd; 2],
    /// What `program::monitors` found.
    pub exe: OwnedFd,
}
