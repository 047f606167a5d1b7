//! The broker's interface, `org.nagaya.Host1`: the few verbs that need the host's rights, on plain
//! data and descriptors. Every argument comes from a caller who is not trusted: names are checked
//! again, ids against what the caller owns, and nothing is opened by a path that a caller gave.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Mutex;

use ipnetwork::Ipv4Network;
use nftables::types::NfFamily;
use serde::{Deserialize, Serialize};
use zbus::{Fd, OwnedFd as BusFd};

use super::lent::Lent;
use super::setup::{self, Owner, SetupOptions};
use super::spawn::{Ground, Order, SpawnError};
use super::{grants, hold, ledger, limits, lxcfs, machined, private, quota};
use crate::model::grant::Grant;
use crate::model::ids::Slice;
use crate::model::instance::Instance;
use crate::model::lan::Network;
use crate::model::limits::Limits;
use crate::model::mac::Mac;
use crate::model::name::{ContainerId, Name};
use crate::render;
use crate::sys::cgroup_home::Home;
use crate::sys::error_text;
use crate::sys::netlink::Netlink;
use crate::sys::userns::{self, Creator};
use crate::sys::{nft, sysctl};

/// Object path of the interface.
pub const PATH: &str = "/org/nagaya/Host1";

/// Smallest and largest prefix of a managed network.
const PREFIXES: std::ops::RangeInclusive<u8> = 8..=29;
/// The widest that an ordinary user may lay over the host's view of the world.
const WIDEST_OF_USERS: u8 = 20;

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

/// The broker's state: who the caller is, and what belongs to it.
pub struct Host1 {
    instance: Instance,
    netlink: Netlink,
    /// None before the caller has been given ids.
    standing: Option<Standing>,
    /// Bridges that this caller has made sure of, with their indices.
    bridges: Mutex<HashMap<String, u32>>,
}

/// Whoever has been set up.
struct Standing {
    owner: Owner,
    ground: Ground,
}

impl Standing {
    fn new(instance: &Instance, owner: Owner) -> Result<Self, HostError> {
        let exe = super::spawn::own_program().map_err(failed)?;
        Ok(Self { owner, ground: Ground { instance: instance.clone(), storage: owner.storage, exe } })
    }
}

fn failed(error: impl std::error::Error) -> HostError {
    HostError::Failed(error_text(&error))
}

fn refused(why: impl Into<String>) -> HostError {
    HostError::Refused(why.into())
}

impl Host1 {
    /// Needs a running tokio runtime. `owner` is the caller, unless it has still to be set up.
    pub fn new(instance: Instance, owner: Option<Owner>) -> Result<Self, HostError> {
        let standing = owner.map(|owner| Standing::new(&instance, owner)).transpose()?;
        let netlink = Netlink::open().map_err(failed)?;
        Ok(Self { instance, netlink, standing, bridges: Mutex::default() })
    }

    fn standing(&self) -> Result<&Standing, HostError> {
        self.standing.as_ref().ok_or_else(|| refused("nothing is set up for you yet: Setup does it"))
    }

    fn check_container(text: &str) -> Result<ContainerId, HostError> {
        ContainerId::new(text).map_err(|e| refused(e.to_string()))
    }

    /// A runtime slice of the caller's, which the storage slice is for a private owner alone.
    fn check_slice(&self, owner: &Owner, base: u32) -> Result<Slice, HostError> {
        let private = self.instance.is_private();
        Slice::at(base)
            .filter(|s| owner.range.holds(*s) && (*s == owner.storage) == private)
            .filter(|s| (s.base() - owner.range.start).is_multiple_of(crate::model::ids::SLICE))
            .ok_or_else(|| refused(format!("{base} does not begin a runtime slice of yours")))
    }

    fn check_bridge(&self, bridge: &str) -> Result<(), HostError> {
        if bridge == self.instance.bridge() {
            Ok(())
        } else {
            Err(refused(format!("'{bridge}' is not a network of yours")))
        }
    }

    fn check_order(&self, owner: &Owner, order: SpawnOrder) -> Result<Order, HostError> {
        limits::check(&order.limits)?;
        limits::check_grant(&order.limits, self.grant()?.as_ref())?;
        let link = if order.bridge.is_empty() {
            None
        } else {
            self.check_bridge(&order.bridge)?;
            let mac = <[u8; 6]>::try_from(order.mac.as_slice()).ok().filter(|mac| mac[0] & 3 == 2);
            let mac = mac.ok_or_else(|| refused("the MAC address is not a local unicast one"))?;
            let bridges = self.bridges.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let index = bridges.get(&order.bridge).copied();
            match (index, order.adopt) {
                (Some(index), _) => Some((index, Mac(mac))),
                // Who takes over a guest finds its link in place.
                (None, 1..) => None,
                (None, _) => return Err(refused("EnsureNetwork has to come first")),
            }
        };
        Ok(Order {
            container: Self::check_container(&order.container)?,
            name: Name::new(&order.name).map_err(|e| refused(e.to_string()))?.to_string(),
            slice: self.check_slice(owner, order.slice)?,
            link,
            adopt: (order.adopt > 0).then_some(order.adopt),
            limits: order.limits,
        })
    }

    /// What the administrator lets this caller have; the service user and a private owner may have
    /// what there is.
    fn grant(&self) -> Result<Option<Grant>, HostError> {
        match self.instance.person() {
            None => Ok(None),
            Some(_) => grants::effective(&self.instance, self.instance.user()).map(Some).map_err(failed),
        }
    }

    /// One more container may run, within the bounds of all.
    async fn check_room(&self, ground: &Ground, id: &ContainerId) -> Result<(), HostError> {
        let Some(grant) = self.grant()? else { return Ok(()) };
        let (most, running) = (grant.containers(), ground.running_beside(id));
        if running >= most as usize {
            let why = format!("your grant is {most} containers at once, and {running} are running");
            return Err(refused(why));
        }
        let home = Home::find(&self.instance).map_err(|e| HostError::Lacking(error_text(&e)))?;
        quota::apply(&home, &grant).await.map_err(|e| match e {
            quota::QuotaError::Lacking { .. } => HostError::Lacking(error_text(&e)),
            other => failed(other),
        })
    }

    /// A subnet that an ordinary user may have: nobody else's on this host, now or by the record.
    async fn check_subnet(&self, network: &Network) -> Result<(), HostError> {
        let Some(grant) = self.grant()? else { return Ok(()) };
        if grant.networks() == 0 {
            return Err(refused("your grant holds no network of your own on this host"));
        }
        if network.ipv4.prefix() < WIDEST_OF_USERS {
            return Err(refused(format!("{} is wider than /{WIDEST_OF_USERS}", network.ipv4)));
        }
        ledger::claim(&self.instance, network).map_err(|e| match e {
            ledger::LedgerError::Overlaps { .. } => refused(e.to_string()),
            other => failed(other),
        })?;
        let mut used = self.netlink.used_subnets_but(&network.bridge).map_err(failed)?;
        let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        used.extend(render::guest_files::resolvers(&text, None).into_iter().filter_map(|ip| match ip {
            std::net::IpAddr::V4(ip) => Some(Ipv4Network::from(ip)),
            std::net::IpAddr::V6(_) => None,
        }));
        match used.iter().find(|used| used.overlaps(network.ipv4)) {
            Some(used) => {
                // What cannot be had is nobody's.
                ledger::release(&self.instance, &network.bridge).map_err(failed)?;
                Err(refused(format!("{} overlaps {used}, which the host uses", network.ipv4)))
            }
            None => Ok(()),
        }
    }
}

#[zbus::interface(name = "org.nagaya.Host1")]
impl Host1 {
    /// Gives the caller ids and directories, unless it has them. Returns uid, gid, and the first and
    /// the number of the ids.
    fn setup(&mut self) -> Result<(u32, u32, u32, u32), HostError> {
        if self.instance.is_private() {
            let owner = self.standing()?.owner;
            private::make_pool(&self.instance).map_err(failed)?;
            return Ok((owner.uid, owner.gid, owner.range.start, owner.range.count));
        }
        let options = SetupOptions::of(&self.instance);
        let done = setup::setup(&self.instance, options).map_err(|e| match e {
            setup::SetupError::ProgramMissing { .. } => HostError::Lacking(error_text(&e)),
            setup::SetupError::Io { .. } => failed(e),
            other => refused(error_text(&other)),
        })?;
        let owner = done.owner().ok_or_else(|| refused("your ids are too few"))?;
        self.standing = Some(Standing::new(&self.instance, owner)?);
        Ok((done.uid, done.gid, done.range.start, done.range.count))
    }

    /// A user namespace over the caller's storage slice, for file work.
    fn storage_namespace(&self) -> Result<BusFd, HostError> {
        let owner = &self.standing()?.owner;
        let made = || {
            // Made by the owner's own uid, the owner may enter it.
            let helper = userns::start(Creator::Id(owner.uid), false)?;
            helper.map(0, owner.storage)
        };
        made().map(Into::into).map_err(|e: crate::sys::SysError| failed(e))
    }

    /// Makes sure that the caller's bridge is there with this address (`10.1.0.1/20`), that the
    /// host forwards, and that what leaves the subnet is translated.
    async fn ensure_network(&self, bridge: &str, ipv4: &str) -> Result<(), HostError> {
        self.check_bridge(bridge)?;
        let ipv4: Ipv4Network =
            ipv4.parse().map_err(|_| refused(format!("'{ipv4}' is not an address with a prefix")))?;
        if !ipv4.ip().is_private() || !PREFIXES.contains(&ipv4.prefix()) {
            return Err(refused(format!("{ipv4} is not a private network of /8 to /29")));
        }
        let network = Network { bridge: bridge.to_owned(), ipv4 };
        if !network.has_guest_addresses() {
            return Err(refused(format!("{ipv4} is not a host's address on its network")));
        }
        self.check_subnet(&network).await?;
        let alias = self.instance.nft_table();
        let index = self.netlink.ensure_bridge(&network.now(), &alias).map_err(failed)?.index;
        sysctl::enable_forwarding(false).map_err(failed)?;
        let nft_failed = |e: nft::NftError| match e {
            nft::NftError::NoProgram => HostError::Lacking(error_text(&e)),
            other => failed(other),
        };
        let table = &self.instance.nft_table();
        if !nft::table_exists(NfFamily::INet, table).map_err(nft_failed)? {
            let others = format!("{}-*", self.instance.name());
            let others = [others, format!("{}0", self.instance.name())];
            nft::apply(&render::nft::network_table(table, &network, &others)).map_err(nft_failed)?;
        }
        let mut bridges = self.bridges.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        bridges.insert(bridge.to_owned(), index);
        Ok(())
    }

    /// Removes the caller's bridge, which has no port any more, and its rules. None is fine.
    async fn remove_network(&self, bridge: &str, ipv4: &str) -> Result<(), HostError> {
        self.check_bridge(bridge)?;
        let ipv4 = ipv4.parse().map_err(|_| refused(format!("'{ipv4}' is not an address with a prefix")))?;
        let network = Network { bridge: bridge.to_owned(), ipv4 };
        self.netlink.delete_bridge(&network.now(), &self.instance.nft_table()).map_err(failed)?;
        nft::delete_table(NfFamily::INet, &self.instance.nft_table()).map_err(failed)?;
        if self.instance.person().is_some() {
            ledger::release(&self.instance, bridge).map_err(failed)?;
        }
        Ok(())
    }

    /// Starts a container, or gives a running one a new monitor. Returns the monitor's and init's
    /// process numbers.
    async fn spawn(&self, order: SpawnOrder, fds: Vec<BusFd>) -> Result<(i32, i32), HostError> {
        let Standing { owner, ground } = self.standing()?;
        let order = self.check_order(owner, order)?;
        let lent = Lent::checked(fds.into_iter().map(OwnedFd::from).collect(), owner.storage)
            .map_err(HostError::Refused)?;
        let _hold = hold::take(&self.instance, &order.container).map_err(failed)?;
        if order.adopt.is_none() {
            self.check_room(ground, &order.container).await?;
        }
        ground.spawn(&order, &lent, &self.netlink).await.map_err(|e| match e {
            SpawnError::NoHierarchy(e) => HostError::Lacking(error_text(&e)),
            SpawnError::Limits(e) => limits::told(&e),
            other => failed(other),
        })
    }

    /// Gives a running container other limits: all of them or, on failure, none.
    async fn set_limits(&self, container: &str, limits: Limits) -> Result<(), HostError> {
        let container = Self::check_container(container)?;
        limits::check(&limits)?;
        limits::check_grant(&limits, self.grant()?.as_ref())?;
        self.standing()?.ground.set_limits(&container, &limits)
    }

    /// Ends whatever runs of the container and removes its cgroup and link. Returns what could not
    /// be removed.
    async fn clear(&self, container: &str) -> Result<Vec<String>, HostError> {
        let container = Self::check_container(container)?;
        let ground = &self.standing()?.ground;
        let _hold = hold::take(&self.instance, &container).map_err(failed)?;
        Ok(ground.clear(&container, &self.netlink).await)
    }

    /// Gives a running container the lxcfs that the host has now.
    fn attach_lxcfs(&self, container: &str) -> Result<(), HostError> {
        let container = Self::check_container(container)?;
        lxcfs::attach(&self.instance, &container).map_err(|e| HostError::Failed(error_text(&e)))
    }

    /// Tells systemd-machined, where there is one, of a running container under its name. Does not
    /// wait for it.
    fn register_machine(&self, container: &str, name: &str, uuid: &str) -> Result<(), HostError> {
        let container = Self::check_container(container)?;
        let name = Name::new(name).map_err(|e| HostError::Refused(e.to_string()))?;
        let uuid = machined::uuid(uuid)
            .ok_or_else(|| HostError::Refused(format!("'{uuid}' is not 32 hexadecimal digits")))?;
        machined::register(&self.instance, &container, &name, uuid, &self.standing()?.ground.exe)
            .map_err(|e| HostError::Failed(error_text(&e)))
    }
}

/// The same interface from the caller's side.
#[zbus::proxy(
    interface = "org.nagaya.Host1",
    default_path = "/org/nagaya/Host1",
    default_service = "org.nagaya.Host1"
)]
pub trait Host1Caller {
    fn setup(&self) -> Result<(u32, u32, u32, u32), HostError>;
    fn storage_namespace(&self) -> Result<BusFd, HostError>;
    fn ensure_network(&self, bridge: &str, ipv4: &str) -> Result<(), HostError>;
    fn remove_network(&self, bridge: &str, ipv4: &str) -> Result<(), HostError>;
    fn spawn(&self, order: SpawnOrder, fds: Vec<Fd<'_>>) -> Result<(i32, i32), HostError>;
    fn set_limits(&self, container: &str, limits: Limits) -> Result<(), HostError>;
    fn clear(&self, container: &str) -> Result<Vec<String>, HostError>;
    fn attach_lxcfs(&self, container: &str) -> Result<(), HostError>;
    fn register_machine(&self, container: &str, name: &str, uuid: &str) -> Result<(), HostError>;
}
