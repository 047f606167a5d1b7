//! The broker's interface, `org.nagaya.Host1`: the few verbs that need the host's rights, on plain
//! data and descriptors. Every argument comes from a caller who is not trusted: names are checked
//! again, ids against what the caller owns, and nothing is opened by a path that a caller gave. What may
//! be large, arguments and answers, is in sealed memory files.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use zbus::{Fd, OwnedFd as BusFd};

use super::caller::Caller;
use super::coexist::{self, Link};
use super::error::{HostError, failed, refused, told_of_firewall};
use super::firewall::{self, BlockOrder, FirewallError, Owned};
use super::hold::Hold;
use super::lent::Lent;
use super::ports::{self, PortsError};
use super::setup::{self, Owner, SetupOptions};
use super::spawn::{Ground, Order, SpawnError};
use super::{dns, forwarding, grants, hold, ledger, limits, lxcfs, machined, network, owned, private, quota};
use crate::model::firewall::plan::{ContainerPlan, ForwardPlan, LinkPlan, NetworkPlan, Plan};
use crate::model::firewall::{Change, block};
use crate::model::grant::Grant;
use crate::model::ids::Slice;
use crate::model::instance::Instance;
use crate::model::limits::Limits;
use crate::model::name::{ContainerId, Name};
use crate::model::network::Network;
use crate::model::nic::{MOST_NICS, NicKind, NicOrder};
use crate::sys::cgroup_home::Home;
use crate::sys::error_text;
use crate::sys::netlink::{Fault, Netlink, NetlinkError, Port};
use crate::sys::rlimit::Ceilings;
use crate::sys::sysctl;
use crate::sys::userns::{self, Creator};

/// Object path of the interface.
pub const PATH: &str = "/org/nagaya/Host1";

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
    caller: Caller,
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
        Ok(Self { owner, ground: Ground { instance: instance.clone(), storage: owner.storage } })
    }
}

impl Host1 {
    /// Needs a running tokio runtime. `owner` is the caller, unless it has still to be set up.
    pub fn new(instance: Instance, owner: Option<Owner>, caller: Caller) -> Result<Self, HostError> {
        let standing = owner.map(|owner| Standing::new(&instance, owner)).transpose()?;
        let netlink = Netlink::open().map_err(failed)?;
        Ok(Self { instance, netlink, caller, standing, bridges: Mutex::default() })
    }

    fn standing(&self) -> Result<&Standing, HostError> {
        self.standing.as_ref().ok_or_else(|| refused("nothing is set up for you yet: Setup does it"))
    }

    /// How many containers the caller can have: each has a slice. None where all of a private owner's
    /// share one, and what is kept is the owner's own.
    fn most_containers(&self) -> Result<Option<usize>, HostError> {
        let slices = self.standing()?.owner.range.slices();
        Ok((!self.instance.is_private()).then_some(slices.saturating_sub(1) as usize))
    }

    /// Whether a container of the caller's has been started that has this id; its guest may be booting anew.
    fn runs(&self, container: &ContainerId) -> bool {
        Home::find(&self.instance).is_ok_and(|home| home.container_dir(container).exists())
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
        limits::check_grant(&self.instance, &order.limits, self.grant()?.as_ref())?;
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

    /// Makes the links known to the firewall before anything passes them.
    fn count_links(&self, order: &Order) -> Result<(), HostError> {
        let link = |(_, nic): &(Option<u32>, NicOrder)| LinkPlan {
            link: self.instance.host_link(&order.container, nic.nic.slot),
            bridge: (!nic.bridge.is_empty()).then(|| nic.bridge.clone()),
        };
        let with_end = order.links.iter().filter(|(_, nic)| nic.nic.has_host_end());
        let links: Vec<LinkPlan> = with_end.map(link).collect();
        let mut owned = self.owned(&[], &[])?;
        for bridge in links.iter().filter_map(|link| link.bridge.clone()) {
            // Each was made sure of, and so checked, before.
            owned.bridges.entry(bridge).or_default();
        }
        let _turn = self.firewalls_turn()?;
        match firewall::add_links(&owned, &order.container, &links) {
            // Somebody has emptied it since it was looked at: it is put back with all links.
            Ok(()) | Err(FirewallError::NotInPlace) => Ok(()),
            Err(e) => Err(told_of_firewall(e)),
        }
    }

    /// Lets guests reach themselves by forwarded ports. What cannot be done is for nobody but them.
    fn give_back(&self, containers: impl IntoIterator<Item = ContainerId>) {
        if !sysctl::bridged_packets_meet_rules() {
            return;
        }
        let containers: BTreeSet<ContainerId> = containers.into_iter().collect();
        for container in &containers {
            for slot in 0..MOST_NICS {
                if let Err(e) = self.netlink.give_back(&self.instance.host_link(container, slot)) {
                    tracing::warn!("{}", error_text(&e));
                }
            }
        }
    }

    /// The same for one that has just started.
    fn give_back_to(&self, order: &Order) {
        if !sysctl::bridged_packets_meet_rules() {
            return;
        }
        let addresses: Vec<IpAddr> = order.links.iter().flat_map(|(_, nic)| nic.nic.addresses()).collect();
        match firewall::leads_to(&self.instance.nft_table(), &addresses) {
            Ok(false) => {}
            Ok(true) => self.give_back([order.container.clone()]),
            Err(e) => tracing::warn!("{}", error_text(&e)),
        }
    }

    /// What of a firewall is this caller's.
    fn owned(&self, networks: &[NetworkPlan], containers: &[ContainerPlan]) -> Result<Owned, HostError> {
        let most = self.instance.person().map(|_| self.most_containers()).transpose()?.flatten();
        owned::owned(&self.instance, self.grant()?.as_ref(), most, networks, containers).map_err(failed)
    }

    /// Nobody else changes the caller's firewall meanwhile.
    fn firewalls_turn(&self) -> Result<Hold, HostError> {
        let hold = hold::of_owner(&self.instance, "firewall").map_err(failed)?;
        self.caller.check()?;
        Ok(hold)
    }

    /// Nobody else works on the container meanwhile.
    fn turn(&self, container: &ContainerId) -> Result<Hold, HostError> {
        let hold = hold::take(&self.instance, container).map_err(failed)?;
        self.caller.check()?;
        Ok(hold)
    }

    /// Ports of the host's for these forwards, which are all that the caller is to have.
    fn claim(&self, forwards: &[ForwardPlan]) -> Result<ports::Claim, HostError> {
        ports::claim(&self.instance, forwards).map_err(|e| match e {
            PortsError::Taken { .. } => refused(e.to_string()),
            PortsError::Record(e) => failed(e),
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
            let user = self.instance.user();
            let more = most.saturating_add(1);
            let why = format!(
                "as many of your containers run as your grant allows ({running} of {most}); stop one, or have an \
                 administrator allow more: nagaya grant {user} containers={more}"
            );
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
            let ceilings = match self.instance.person() {
                Some(uid) => Ceilings::OfUser(uid),
                None => Ceilings::NONE,
            };
            let helper = userns::start(Creator::Id(owner.uid), false, ceilings)?;
            helper.map(0, owner.storage)
        };
        made().map(Into::into).map_err(|e: crate::sys::SysError| failed(e))
    }

    /// Makes sure that a network of the caller's is there as `network`, JSON of [`Network`], says: its
    /// bridge with its addresses, and that the host forwards. Returns whether the caller's firewall is in
    /// place and knows this very bridge; if not, `ApplyFirewall` is to follow.
    async fn ensure_network(&self, network: &str) -> Result<bool, HostError> {
        let grant = self.grant()?;
        let network = network::parsed(&self.instance, grant.as_ref(), network)?;
        network::check_subnets(&self.instance, grant.as_ref(), &self.netlink, &network)?;
        self.caller.check()?;
        let alias = self.instance.bridge_alias(&network.name);
        let bridge = self.netlink.ensure_bridge(&network, &alias).map_err(failed)?;
        if !network.foreign && self.instance.is_private() {
            sysctl::enable_forwarding(network.ipv6.is_some()).map_err(failed)?;
        } else if !network.foreign {
            forwarding::enable(network.ipv6.is_some()).map_err(failed)?;
        }
        let mut bridges = self.bridges.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        bridges.insert(network.bridge.clone(), (bridge.index, network));
        Ok(!bridge.is_new && self.firewall_in_place()?)
    }

    /// Removes the caller's bridge, which has no port any more. None is fine.
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

    /// Whether the caller's tables are there.
    fn firewall_in_place(&self) -> Result<bool, HostError> {
        firewall::is_in_place(self.instance.name(), &self.instance.nft_table()).map_err(told_of_firewall)
    }

    /// Puts the caller's whole firewall in place: `plan` is JSON of [`Plan`]; and lets its traffic
    /// through the firewalls of others. With `if_needed` what is in place already stays, with its counts.
    /// Returns whether blocks are to be told again; and what drops guests'
    /// traffic all the same.
    async fn apply_firewall(&self, plan: BusFd, if_needed: bool) -> Result<(bool, Vec<String>), HostError> {
        let plan: Plan = network::plan(plan)?;
        let owned = self.owned(&plan.networks, &plan.containers)?;
        let _turn = self.firewalls_turn()?;
        let claim = self.claim(&plan.forwards)?;
        let done = match if_needed {
            true => firewall::repair(&owned, &plan),
            false => firewall::apply_all(&owned, &plan),
        };
        let done = done.map_err(told_of_firewall)?;
        claim.keep().map_err(failed)?;
        self.give_back(plan.forwards.iter().map(|forward| forward.container.clone()));
        let bridges =
            plan.networks.iter().map(|network| Link { name: network.bridge.clone(), is_answered: true });
        let links = plan.containers.iter().flat_map(|container| &container.links);
        let routed = links.filter(|link| link.bridge.is_none());
        let routed = routed.map(|link| Link { name: link.link.clone(), is_answered: false });
        let there = |link: &Link| Path::new("/sys/class/net").join(&link.name).exists();
        let links: Vec<Link> = bridges.chain(routed).filter(there).collect();
        let found = coexist::ensure(&self.instance, &links).await.map_err(failed)?;
        let dropping = found.into_iter().filter(|finding| !finding.is_handled);
        Ok((done, dropping.map(|finding| finding.place).collect()))
    }

    /// Changes parts of a firewall that is in place: `change` is JSON of [`Change`].
    fn change_firewall(&self, change: BusFd) -> Result<(), HostError> {
        let change: Change = network::plan(change)?;
        let owned = self.owned(&change.networks, &change.containers)?;
        let _turn = self.firewalls_turn()?;
        let claim = change.forwards.as_ref().map(|forwards| self.claim(forwards)).transpose()?;
        firewall::apply_change(&owned, &change).map_err(told_of_firewall)?;
        claim.map_or(Ok(()), ports::Claim::keep).map_err(failed)?;
        self.give_back(change.forwards.into_iter().flatten().map(|forward| forward.container));
        Ok(())
    }

    /// Forgets a container that is deleted, with its counts; `addresses` are those that it had.
    fn forget_container(&self, container: &str, addresses: Vec<String>) -> Result<(), HostError> {
        let container = Self::check_container(container)?;
        if !self.firewall_in_place()? {
            return Ok(());
        }
        let parsed = addresses.iter().map(|text| text.parse::<IpAddr>());
        let addresses: Vec<IpAddr> =
            parsed.collect::<Result<_, _>>().map_err(|e| refused(format!("an address: {e}")))?;
        let links: Vec<String> =
            (0..MOST_NICS).map(|slot| self.instance.host_link(&container, slot)).collect();
        let owned = self.owned(&[], &[])?;
        let _turn = self.firewalls_turn()?;
        firewall::remove_container(&owned, &container, &links, &addresses).map_err(told_of_firewall)
    }

    /// Blocks and unblocks addresses in one transaction: the lists are as `model::firewall::block`
    /// writes them; `members`, JSON, has the addresses of containers for which alone something is
    /// blocked.
    fn block(&self, add: BusFd, remove: BusFd, members: BusFd) -> Result<(), HostError> {
        let list =
            |fd| block::decode(&network::blocks(fd)?).ok_or_else(|| refused("that is not a list of blocks"));
        let order = BlockOrder { add: list(add)?, remove: list(remove)?, members: network::plan(members)? };
        let owned = self.owned(&[], &[])?;
        let _turn = self.firewalls_turn()?;
        firewall::block(&owned, &order).map_err(told_of_firewall)
    }

    /// What has hit the caller's blocks, as JSON of [`block::Hits`].
    fn block_hits(&self) -> Result<BusFd, HostError> {
        let hits = firewall::block_hits(&self.instance.nft_table()).map_err(told_of_firewall)?;
        network::answer(&hits)
    }

    /// What has passed the caller's links, by their names, as JSON.
    fn traffic(&self) -> Result<BusFd, HostError> {
        network::answer(&firewall::traffic(&self.instance.nft_table()).map_err(told_of_firewall)?)
    }

    /// What the caller's rules have decided, as JSON.
    fn rule_counts(&self) -> Result<BusFd, HostError> {
        network::answer(&firewall::rule_counts(&self.instance.nft_table()).map_err(told_of_firewall)?)
    }

    /// Takes the caller's whole firewall away, and what lets its networks' traffic, whose bridges these
    /// are, through the firewalls of others.
    async fn remove_firewall(&self, bridges: Vec<String>) -> Result<(), HostError> {
        let own: Vec<String> =
            bridges.into_iter().filter(|bridge| self.instance.may_be_bridge(bridge)).collect();
        coexist::remove(&self.instance, &own).await.map_err(failed)?;
        let _turn = self.firewalls_turn()?;
        firewall::remove_all(self.instance.name(), &self.instance.nft_table()).map_err(told_of_firewall)?;
        self.claim(&[])?.keep().map_err(failed)
    }

    /// Makes sure that the network, JSON of [`Network`], is answered for with these guests, a JSON array
    /// of [`dns::DnsLease`], and no others; or that it is not, if nobody wants that.
    async fn ensure_names(&self, network: &str, leases: BusFd) -> Result<(), HostError> {
        let network = network::parsed(&self.instance, self.grant()?.as_ref(), network)?;
        network::check_claimed(&self.instance, &network)?;
        let leases = network::leases(self.most_containers()?, leases)?;
        self.caller.check()?;
        let done = match dns::is_wanted(&self.instance, &network) {
            true => dns::ensure(&self.instance, &network, &leases).await.map(drop),
            false => dns::stop(&self.instance, &network).await,
        };
        done.map_err(|e| match e {
            dns::DnsError::Key { .. } | dns::DnsError::Lease { .. } | dns::DnsError::Guests(_) => {
                refused(error_text(&e))
            }
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
        let _hold = self.turn(&container)?;
        let link = self.instance.host_link(&container, order.nic.slot);
        let shaper = self.instance.shaper_link(&container, order.nic.slot);
        let settings = &order.nic.settings;
        let adjusted = self.netlink.set_rates(&link, &shaper, settings.ingress, settings.egress);
        let adjusted = adjusted.and_then(|()| match order.nic.kind {
            NicKind::Bridged { .. } => self.netlink.set_port_isolated(&link, order.isolated),
            _ => Ok(()),
        });
        match adjusted {
            // Of a link that is gone nothing is to be changed; the next start makes it so.
            Err(NetlinkError::NoLink(_)) if self.runs(&container) => Ok(()),
            other => other.map_err(failed),
        }
    }

    /// Puts back what somebody else has changed of the host's side of a running container's interface,
    /// which was started as `nic`, JSON of [`NicOrder`], says. Returns whether the link is there at all,
    /// and what of it was not so.
    async fn mend_link(&self, container: &str, nic: &str) -> Result<(bool, Vec<String>), HostError> {
        let container = Self::check_container(container)?;
        let nics = network::nics(&self.instance, self.grant()?.as_ref(), &format!("[{nic}]"))?;
        let [order] = nics.as_slice() else { return Err(refused("that is not one interface")) };
        if !order.nic.has_host_end() {
            return Ok((true, Vec::new()));
        }
        let (bridge, order) = self.check_link(order.clone())?;
        let _hold = self.turn(&container)?;
        if !self.runs(&container) {
            return Err(refused(format!("no container '{container}' of yours is running")));
        }
        let (bridges, name) = (&self.bridges, &order.bridge);
        let bridges = bridges.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let network = bridges.get(name).map(|(_, network)| network);
        let port = Port {
            nic: &order.nic,
            host_name: &self.instance.host_link(&container, order.nic.slot),
            shaper_name: &self.instance.shaper_link(&container, order.nic.slot),
            bridge,
            is_foreign: network.is_some_and(|network| network.foreign),
            mtu: order.mtu,
            isolated: order.isolated,
        };
        let found = self.netlink.mend(&port).map_err(failed)?;
        let is_there = !found.contains(&Fault::Gone);
        if is_there && bridge.is_none() {
            sysctl::harden_routed(port.host_name).map_err(failed)?;
        }
        if let Some(network) = network.filter(|network| !network.foreign) {
            let ipv6 = network.ipv6.is_some();
            let set = sysctl::harden_bridge(name, ipv6).and_then(|()| sysctl::forward_from(name, ipv6));
            set.map_err(failed)?;
        }
        Ok((is_there, found.iter().map(|fault| fault.as_str().to_owned()).collect()))
    }

    /// Starts a container, or gives a running one a new monitor. Returns the monitor's and init's
    /// process numbers.
    async fn spawn(&self, order: SpawnOrder, fds: Vec<BusFd>) -> Result<(i32, i32), HostError> {
        let Standing { owner, ground } = self.standing()?;
        let order = self.check_order(owner, order)?;
        let fds = fds.into_iter().map(OwnedFd::from).collect();
        let lent =
            Lent::checked(fds, owner.storage, self.instance.is_private()).map_err(HostError::Refused)?;
        let _hold = self.turn(&order.container)?;
        // Of two that start at once, the second is to find the first running.
        let _turn = match order.adopt.is_none() && self.instance.person().is_some() {
            true => Some(hold::of_owner(&self.instance, "starts").map_err(failed)?),
            false => None,
        };
        if order.adopt.is_none() {
            self.check_room(ground, &order.container).await?;
        }
        let begun = ground.begin(&order).map_err(failed)?;
        if order.adopt.is_none() {
            self.count_links(&order)?;
        }
        let meanwhile = || self.give_back_to(&order);
        ground.spawn(&order, begun, &lent, &self.netlink, meanwhile).await.map_err(|e| match e {
            SpawnError::NoHierarchy(e) => HostError::Lacking(error_text(&e)),
            SpawnError::Limits(e) => limits::told(&e),
            other => failed(other),
        })
    }

    /// Gives a running container other limits: all of them or, on failure, none.
    async fn set_limits(&self, container: &str, limits: Limits) -> Result<(), HostError> {
        let container = Self::check_container(container)?;
        limits::check(&limits)?;
        limits::check_grant(&self.instance, &limits, self.grant()?.as_ref())?;
        self.standing()?.ground.set_limits(&container, &limits)
    }

    /// Ends whatever runs of the container and removes its cgroup and link. Returns what could not
    /// be removed.
    async fn clear(&self, container: &str) -> Result<Vec<String>, HostError> {
        let container = Self::check_container(container)?;
        let ground = &self.standing()?.ground;
        let _hold = self.turn(&container)?;
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
        machined::register(&self.instance, &container, &name, uuid)
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
    fn ensure_network(&self, network: &str) -> Result<bool, HostError>;
    fn firewall_in_place(&self) -> Result<bool, HostError>;
    fn apply_firewall(&self, plan: Fd<'_>, if_needed: bool) -> Result<(bool, Vec<String>), HostError>;
    fn change_firewall(&self, change: Fd<'_>) -> Result<(), HostError>;
    fn forget_container(&self, container: &str, addresses: Vec<String>) -> Result<(), HostError>;
    fn block(&self, add: Fd<'_>, remove: Fd<'_>, members: Fd<'_>) -> Result<(), HostError>;
    fn block_hits(&self) -> Result<BusFd, HostError>;
    fn traffic(&self) -> Result<BusFd, HostError>;
    fn rule_counts(&self) -> Result<BusFd, HostError>;
    fn remove_firewall(&self, bridges: Vec<String>) -> Result<(), HostError>;
    fn remove_network(&self, network: &str) -> Result<(), HostError>;
    fn ensure_names(&self, network: &str, leases: Fd<'_>) -> Result<(), HostError>;
    fn adjust_link(&self, container: &str, nic: &str) -> Result<(), HostError>;
    fn mend_link(&self, container: &str, nic: &str) -> Result<(bool, Vec<String>), HostError>;
    fn spawn(&self, order: SpawnOrder, fds: Vec<Fd<'_>>) -> Result<(i32, i32), HostError>;
    fn set_limits(&self, container: &str, limits: Limits) -> Result<(), HostError>;
    fn clear(&self, container: &str) -> Result<Vec<String>, HostError>;
    fn attach_lxcfs(&self, container: &str) -> Result<(), HostError>;
    fn register_machine(&self, container: &str, name: &str, uuid: &str) -> Result<(), HostError>;
}
