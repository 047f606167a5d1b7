//! The broker's interface, `org.nagaya.Host1`: the few verbs that need the host's rights, on plain
//! data and descriptors. Every argument comes from a caller who is not trusted: names are checked
//! again, ids against what the caller owns, and nothing is opened by a path that a caller gave.

use std::os::fd::OwnedFd;

use ipnetwork::Ipv4Network;
use nftables::types::NfFamily;
use serde::{Deserialize, Serialize};
use zbus::{Fd, OwnedFd as BusFd};

use super::limits;
use super::setup::Owner;
use super::spawn::{Ground, Lent, Order, SpawnError};
use crate::model::ids::Slice;
use crate::model::instance::Instance;
use crate::model::limits::Limits;
use crate::model::name::{ContainerId, Name};
use crate::model::network::{Mac, Network};
use crate::render;
use crate::sys::error_text;
use crate::sys::netlink::Netlink;
use crate::sys::userns::{self, Creator};
use crate::sys::{nft, sysctl};

/// Object path of the interface.
pub const PATH: &str = "/org/nagaya/Host1";

/// Smallest and largest prefix of a managed network.
const PREFIXES: std::ops::RangeInclusive<u8> = 8..=29;

/// What a caller hears.
#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.nagaya.Host1.Error")]
pub enum HostError {
    #[zbus(error)]
    Bus(zbus::Error),
    /// The caller may not have this, or it makes no sense.
    Refused(String),
    /// The host lacks something.
    Lacking(String),
    Failed(String),
}

/// A container to start: the arguments of `Spawn` that are not descriptors.
#[derive(Debug, Clone, Serialize, Deserialize, zbus::Type)]
pub struct SpawnOrder {
    pub container: String,
    pub name: String,
    /// First id of its runtime slice.
    pub slice: u32,
    /// Empty for a container without a link.
    pub bridge: String,
    pub mac: Vec<u8>,
    /// Init to take over; 0 to boot one.
    pub adopt: i32,
    pub limits: Limits,
}

/// Order of the descriptors of `Spawn`: template, data, config, control, state, two logs.
pub const SPAWN_FDS: usize = 7;

/// The broker's state: who the caller is, and what belongs to it.
pub struct Host1 {
    instance: Instance,
    owner: Owner,
    ground: Ground,
    netlink: Netlink,
}

impl Host1 {
    /// Needs a running tokio runtime.
    pub fn new(instance: Instance, owner: Owner) -> Result<Self, HostError> {
        let failed = |e: &dyn std::error::Error| HostError::Failed(error_text(e));
        let ground = Ground {
            instance: instance.clone(),
            storage: owner.storage,
            exe: super::spawn::own_program().map_err(|e| failed(&e))?,
        };
        let netlink = Netlink::open().map_err(|e| failed(&e))?;
        Ok(Self { instance, owner, ground, netlink })
    }

    fn check_container(text: &str) -> Result<ContainerId, HostError> {
        ContainerId::new(text).map_err(|e| HostError::Refused(e.to_string()))
    }

    /// A runtime slice of the caller's, which the storage slice is not.
    fn check_slice(&self, base: u32) -> Result<Slice, HostError> {
        Slice::at(base)
            .filter(|s| self.owner.range.holds(*s) && *s != self.owner.storage)
            .filter(|s| (s.base() - self.owner.range.start).is_multiple_of(crate::model::ids::SLICE))
            .ok_or_else(|| HostError::Refused(format!("{base} does not begin a runtime slice of yours")))
    }

    fn check_bridge(&self, bridge: &str) -> Result<(), HostError> {
        if bridge == self.instance.bridge() {
            Ok(())
        } else {
            Err(HostError::Refused(format!("'{bridge}' is not a network of yours")))
        }
    }

    /// A tree that may be lent: a directory that belongs to the storage slice's root.
    fn check_tree(&self, fd: &OwnedFd, what: &str) -> Result<(), HostError> {
        let stat = rustix::fs::fstat(fd).map_err(|e| HostError::Refused(format!("the {what}: {e}")))?;
        let is_dir = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory;
        if is_dir && stat.st_uid == self.owner.storage.base() {
            Ok(())
        } else {
            Err(HostError::Refused(format!("the {what} is not a directory of your storage slice")))
        }
    }

    fn check_order(&self, order: SpawnOrder, bridge_index: Option<u32>) -> Result<Order, HostError> {
        limits::check(&order.limits)?;
        let mac: Option<[u8; 6]> = order.mac.as_slice().try_into().ok();
        let link = match (bridge_index, mac) {
            (Some(index), Some(mac)) if mac[0] & 3 == 2 => Some((index, Mac(mac))),
            (None, _) => None,
            _ => return Err(HostError::Refused("the MAC address is not a local unicast one".to_owned())),
        };
        Ok(Order {
            container: Self::check_container(&order.container)?,
            name: Name::new(&order.name).map_err(|e| HostError::Refused(e.to_string()))?.to_string(),
            slice: self.check_slice(order.slice)?,
            link,
            adopt: (order.adopt > 0).then_some(order.adopt),
            limits: order.limits,
        })
    }
}

#[zbus::interface(name = "org.nagaya.Host1")]
impl Host1 {
    /// A user namespace over the caller's storage slice, for file work.
    fn storage_namespace(&self) -> Result<BusFd, HostError> {
        let made = || {
            // Made by the owner's own uid, the owner may enter it.
            let helper = userns::start(Creator::Id(self.owner.uid), false)?;
            helper.map(0, self.owner.storage)
        };
        made().map(Into::into).map_err(|e: crate::sys::SysError| HostError::Failed(error_text(&e)))
    }

    /// Makes sure that the caller's bridge is there with this address (`10.1.0.1/20`), that the
    /// host forwards, and that what leaves the subnet is translated.
    async fn ensure_network(&self, bridge: &str, ipv4: &str) -> Result<u32, HostError> {
        self.check_bridge(bridge)?;
        let ipv4: Ipv4Network = ipv4
            .parse()
            .map_err(|_| HostError::Refused(format!("'{ipv4}' is not an address with a prefix")))?;
        if !ipv4.ip().is_private() || !PREFIXES.contains(&ipv4.prefix()) {
            return Err(HostError::Refused(format!("{ipv4} is not a private network of /8 to /29")));
        }
        let network = Network { bridge: bridge.to_owned(), ipv4 };
        let index =
            self.netlink.ensure_bridge(&network).await.map_err(|e| HostError::Failed(error_text(&e)))?;
        sysctl::enable_ipv4_forwarding().map_err(|e| HostError::Failed(error_text(&e)))?;
        let nft_failed = |e: nft::NftError| match e {
            nft::NftError::NoProgram => HostError::Lacking(error_text(&e)),
            other => HostError::Failed(error_text(&other)),
        };
        let table = &self.instance.nft_table();
        if !nft::table_exists(NfFamily::INet, table).map_err(nft_failed)? {
            nft::apply(&render::nft::network_table(table, &network)).map_err(nft_failed)?;
        }
        Ok(index)
    }

    /// Removes the caller's bridge, which has no port any more, and its rules. None is fine.
    async fn remove_network(&self, bridge: &str, ipv4: &str) -> Result<(), HostError> {
        self.check_bridge(bridge)?;
        let ipv4 = ipv4
            .parse()
            .map_err(|_| HostError::Refused(format!("'{ipv4}' is not an address with a prefix")))?;
        let network = Network { bridge: bridge.to_owned(), ipv4 };
        self.netlink.delete_bridge(&network).await.map_err(|e| HostError::Failed(error_text(&e)))?;
        nft::delete_table(NfFamily::INet, &self.instance.nft_table())
            .map_err(|e| HostError::Failed(error_text(&e)))
    }

    /// Starts a container, or gives a running one a new monitor. Returns the monitor's and init's
    /// process numbers.
    async fn spawn(
        &self,
        order: SpawnOrder,
        bridge_index: u32,
        fds: Vec<BusFd>,
    ) -> Result<(i32, i32), HostError> {
        let linked = !order.bridge.is_empty();
        if linked {
            self.check_bridge(&order.bridge)?;
        }
        let order = self.check_order(order, linked.then_some(bridge_index))?;
        let fds: Vec<OwnedFd> = fds.into_iter().map(OwnedFd::from).collect();
        let fds: [OwnedFd; SPAWN_FDS] =
            fds.try_into().map_err(|_| HostError::Refused(format!("Spawn takes {SPAWN_FDS} descriptors")))?;
        let [template, data, config, control, state, log, other_log] = fds;
        self.check_tree(&template, "template")?;
        self.check_tree(&data, "container's directory")?;
        let lent = Lent { template, data, config, control, state, logs: [log, other_log] };
        self.ground.spawn(&order, &lent, &self.netlink).await.map_err(|e| match e {
            SpawnError::NoHierarchy(e) => HostError::Lacking(error_text(&e)),
            SpawnError::Limits(e) => limits::told(&e),
            other => HostError::Failed(error_text(&other)),
        })
    }

    /// Gives a running container other limits: all of them or, on failure, none.
    async fn set_limits(&self, container: &str, limits: Limits) -> Result<(), HostError> {
        let container = Self::check_container(container)?;
        limits::check(&limits)?;
        self.ground.set_limits(&container, &limits)
    }

    /// Ends whatever runs of the container and removes its cgroup and link. Returns what could not
    /// be removed.
    async fn clear(&self, container: &str) -> Result<Vec<String>, HostError> {
        let container = Self::check_container(container)?;
        Ok(self.ground.clear(&container, &self.netlink).await)
    }
}

/// The same interface from the caller's side.
#[zbus::proxy(
    interface = "org.nagaya.Host1",
    default_path = "/org/nagaya/Host1",
    default_service = "org.nagaya.Host1"
)]
pub trait Host1Caller {
    fn storage_namespace(&self) -> Result<BusFd, HostError>;
    fn ensure_network(&self, bridge: &str, ipv4: &str) -> Result<u32, HostError>;
    fn remove_network(&self, bridge: &str, ipv4: &str) -> Result<(), HostError>;
    fn spawn(&self, order: SpawnOrder, bridge_index: u32, fds: Vec<Fd<'_>>) -> Result<(i32, i32), HostError>;
    fn set_limits(&self, container: &str, limits: Limits) -> Result<(), HostError>;
    fn clear(&self, container: &str) -> Result<Vec<String>, HostError>;
}
