//! The broker's interface, `org.nagaya.Host1`: the few verbs that need the host's rights, on plain
//! data and descriptors. Every argument comes from a caller who is not trusted: names are checked
//! again, ids against what the caller owns, and nothing is opened by a path that a caller gave.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use zbus::{Fd, OwnedFd as BusFd};

use super::firewall::calls as firewall_calls;
use super::lent::Lent;
use super::setup::{self, Owner, SetupOptions};
use super::spawn::{Ground, Order, SpawnError};
use super::{dns, grants, hold, ledger, limits, lxcfs, machined, network, private, quota};
#[allow(unused_imports)] // Named in comments.
use crate::model::firewall;
use crate::model::grant::Grant;
use crate::model::ids::Slice;
use crate::model::instance::Instance;
use crate::model::limits::Limits;
use crate::model::name::{ContainerId, Name};
use crate::model::network::Network;
use crate::model::nic::{NicKind, NicOrder};
use crate::sys::cgroup_home::Home;
use crate::sys::error_text;
use crate::sys::netlink::Netlink;
use crate::sys::sysctl;
use crate::sys::userns::{self, Creator};

/// Object path of the interface.
pub const PATH: &str = "/org/nagaya/Host1";

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
    /// Its interfaces: a JSON array of [`NicOrder`].
    pub nics: String,
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
    /// Networks that this caller has made sure of, by their bridges, with those's indices.
    bridges: Mutex<HashMap<String, (u32, Network)>>,
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

    fn check_order(&self, owner: &Owner, order: SpawnOrder) -> Result<Order, HostError> {
        limits::check(&order.limits)?;
        limits::check_grant(&order.limits, self.grant()?.as_ref())?;
        let nics = network::nics(&self.instance, self.grant()?.as_ref(), &order.nics)?;
        let links = match order.adopt {
            // Who takes over a guest finds its links in place.
            1.. => Vec::new(),
            _ => nics.into_iter().map(|nic| self.check_link(nic)).collect::<Result<_, _>>()?,
        };
        Ok(Order {
            container: Self::check_container(&order.container)?,
            name: Name::new(&order.name).map_err(|e| refused(e.to_string()))?.to_string(),
            slice: self.check_slice(owner, order.slice)?,
            links,
            adopt: (order.adopt > 0).then_some(order.adopt),
            limits: order.limits,
        })
    }

    /// An interface with the bridge that it will be a port of.
    fn check_link(&self, nic: NicOrder) -> Result<(Option<u32>, NicOrder), HostError> {
        if !matches!(nic.nic.kind, NicKind::Bridged { .. }) {
            return Ok((None, nic));
        }
        let bridges = self.bridges.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (index, network) =
            bridges.get(&nic.bridge).ok_or_else(|| refused("EnsureNetwork has to come first"))?;
        network::fits(network, &nic)?;
        Ok((Some(*index), nic))
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

    /// Makes sure that a network of the caller's is there as `network`, JSON of [`Network`], says: its
    /// bridge with its addresses, that the host forwards, and that what leaves it is translated.
    async fn ensure_network(&self, network: &str) -> Result<(), HostError> {
        let grant = self.grant()?;
        let network = network::parsed(&self.instance, grant.as_ref(), network)?;
        network::check_subnets(&self.instance, grant.as_ref(), &self.netlink, &network)?;
        let alias = self.instance.bridge_alias(&network.name);
        let bridge = self.netlink.ensure_bridge(&network, &alias).map_err(failed)?;
        if !network.foreign {
            sysctl::enable_forwarding(network.ipv6.is_some()).map_err(failed)?;
        }
        let mut bridges = self.bridges.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        bridges.insert(network.bridge.clone(), (bridge.index, network));
        Ok(())
    }

    /// Removes the caller's bridge, which has no port any more, and its rules. None is fine.
    async fn remove_network(&self, network: &str) -> Result<(), HostError> {
        let network = network::parsed(&self.instance, self.grant()?.as_ref(), network)?;
        dns::stop(&self.instance, &network).await.map_err(failed)?;
        let alias = self.instance.bridge_alias(&network.name);
        self.netlink.delete_bridge(&network, &alias).map_err(failed)?;
        if self.instance.person().is_some() {
            ledger::release(&self.instance, &network.bridge).map_err(failed)?;
        }
        Ok(())
    }

    /// Makes sure that the network, JSON of [`Network`], is answered for with these guests, a JSON array
    /// of [`dns::DnsLease`], and no others; or that it is not, if it does not want that.
    async fn ensure_names(&self, network: &str, leases: &str) -> Result<(), HostError> {
        let network = network::parsed(&self.instance, self.grant()?.as_ref(), network)?;
        let leases = network::leases(leases)?;
        let done = match network.wants_dnsmasq() {
            true => dns::ensure(&self.instance, &network, &leases).await.map(drop),
            false => dns::stop(&self.instance, &network).await,
        };
        done.map_err(|e| match e {
            dns::DnsError::Key { .. } | dns::DnsError::Lease { .. } => refused(error_text(&e)),
            dns::DnsError::Taken(_) | dns::DnsError::NoAccount => HostError::Lacking(error_text(&e)),
            other => failed(other),
        })
    }

    /// Gives the link of a running container other rates and another isolation: `nic` is JSON of
    /// [`NicOrder`].
    async fn adjust_link(&self, container: &str, nic: &str) -> Result<(), HostError> {
        let container = Self::check_container(container)?;
        let nics = network::nics(&self.instance, self.grant()?.as_ref(), &format!("[{nic}]"))?;
        let [order] = nics.as_slice() else { return Err(refused("that is not one interface")) };
        let _hold = hold::take(&self.instance, &container).map_err(failed)?;
        let link = self.instance.host_link(&container, order.nic.slot);
        let shaper = self.instance.shaper_link(&container, order.nic.slot);
        let settings = &order.nic.settings;
        self.netlink.set_rates(&link, &shaper, settings.ingress, settings.egress).map_err(failed)?;
        if matches!(order.nic.kind, NicKind::Bridged { .. }) {
            self.netlink.set_port_isolated(&link, order.isolated).map_err(failed)?;
        }
        Ok(())
    }

    /// Puts the caller's whole firewall in place: `plan` is JSON of [`firewall::Plan`]. Returns whether
    /// blocks have to be told again.
    fn firewall_apply(&self, plan: &str) -> Result<bool, HostError> {
        firewall_calls::apply(&self.instance, self.grant()?.as_ref(), plan)
    }

    /// Changes parts of it: `change` is JSON of [`firewall::Change`]. False: it is not in place.
    fn firewall_change(&self, change: &str) -> Result<bool, HostError> {
        firewall_calls::change(&self.instance, self.grant()?.as_ref(), change)
    }

    /// Puts it in place, if it is not as `plan` says. Returns whether that was necessary.
    fn firewall_repair(&self, plan: &str) -> Result<bool, HostError> {
        firewall_calls::repair(&self.instance, self.grant()?.as_ref(), plan)
    }

    /// Makes a container's links known to it: `links` is a JSON array of [`firewall::plan::LinkPlan`],
    /// `routed` one of bridges. False: it is not in place.
    fn firewall_links(&self, container: &str, links: &str, routed: &str) -> Result<bool, HostError> {
        let container = Self::check_container(container)?;
        firewall_calls::links(&self.instance, self.grant()?.as_ref(), &container, links, routed)
    }

    /// Forgets a container with these links and addresses, JSON arrays.
    fn firewall_forget(&self, container: &str, links: &str, addresses: &str) -> Result<(), HostError> {
        let container = Self::check_container(container)?;
        firewall_calls::forget(&self.instance, self.grant()?.as_ref(), &container, links, addresses)
    }

    /// Blocks and unblocks addresses: both lists as [`firewall::block::encode`] writes them, `members`
    /// JSON of the containers' ids with their addresses. False: the firewall is not in place.
    fn firewall_block(&self, add: &[u8], remove: &[u8], members: &str) -> Result<bool, HostError> {
        firewall_calls::block(&self.instance, self.grant()?.as_ref(), add, remove, members)
    }

    /// What has been counted of `what`: `traffic`, `rules` or `blocks`; JSON.
    fn firewall_counts(&self, what: &str) -> Result<String, HostError> {
        firewall_calls::counts(&self.instance, what)
    }

    /// Removes it.
    fn firewall_remove(&self) -> Result<(), HostError> {
        firewall_calls::remove(&self.instance)
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
    fn ensure_network(&self, network: &str) -> Result<(), HostError>;
    fn remove_network(&self, network: &str) -> Result<(), HostError>;
    fn ensure_names(&self, network: &str, leases: &str) -> Result<(), HostError>;
    fn adjust_link(&self, container: &str, nic: &str) -> Result<(), HostError>;
    fn firewall_apply(&self, plan: &str) -> Result<bool, HostError>;
    fn firewall_change(&self, change: &str) -> Result<bool, HostError>;
    fn firewall_repair(&self, plan: &str) -> Result<bool, HostError>;
    fn firewall_links(&self, container: &str, links: &str, routed: &str) -> Result<bool, HostError>;
    fn firewall_forget(&self, container: &str, links: &str, addresses: &str) -> Result<(), HostError>;
    fn firewall_block(&self, add: &[u8], remove: &[u8], members: &str) -> Result<bool, HostError>;
    fn firewall_counts(&self, what: &str) -> Result<String, HostError>;
    fn firewall_remove(&self) -> Result<(), HostError>;
    fn spawn(&self, order: SpawnOrder, fds: Vec<Fd<'_>>) -> Result<(i32, i32), HostError>;
    fn set_limits(&self, container: &str, limits: Limits) -> Result<(), HostError>;
    fn clear(&self, container: &str) -> Result<Vec<String>, HostError>;
    fn attach_lxcfs(&self, container: &str) -> Result<(), HostError>;
    fn register_machine(&self, container: &str, name: &str, uuid: &str) -> Result<(), HostError>;
}
