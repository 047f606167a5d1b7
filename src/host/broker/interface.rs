//! The verbs of the broker's interface, carried out. `host::api::verbs` says of each what it does and checks. Every
//! verb can fail with [`HostError`]: `Refused` if something in the request does not belong to the caller, is beyond
//! the grant or makes no sense, or if the caller's command has ended; `Lacking`, `Full` or `ReadOnly` if the host
//! lacks what the verb needs; otherwise `Failed`, with what the kernel or a program answered.

use std::path::Path;
use std::sync::PoisonError;

use zbus::Connection;
use zbus::message::Header;

use super::claims::{ports, subnets};
use super::coexist::{self, Link};
use super::firewall::{self, BlockOrder};
use super::host1::{Host1, told_of_firewall};
use super::rests::Rest;
use super::spawn::SpawnError;
use super::spawn::passed::Passed;
use super::{container_lock, forwarding, limits, network};
use crate::host::api::error::{HostError, failed, refused};
use crate::host::api::line::Answers;
use crate::host::api::packet::{Descriptors, Packet};
use crate::host::api::requests::{
    AdjustLink, Applied, ApplyFirewall, AttachLink, AttachLxcfs, Block, BlockHitList, BlockHits,
    ChangeFirewall, Clear, Cleared, DetachLink, Done, EnsureNames, EnsureNetwork, FirewallInPlace,
    ForgetContainer, InPlace, KeepSources, LendDevice, Lent, MakePool, MendLink, Mended, Namespace,
    RegisterMachine, RemoveFirewall, RemoveNetwork, RemovePool, RuleCountList, RuleCounts, SetDiskQuota,
    SetLimits, SetUp, Setup, Spawn, Spawned, StorageNamespace, Traffic, TrafficMap,
};
use crate::host::api::verbs::{Verb, Verbs, carry_out};
use crate::host::rootless::owner;
use crate::host::services::{dns, lxcfs, machined};
use crate::host::setup;
use crate::host::setup::SetupOptions;
use crate::host::sources;
use crate::model::firewall::block;
use crate::model::ids::SubordinateIds;
use crate::model::name::Name;
use crate::model::nic::{MOST_NICS, NicKind};
use crate::sys::error_text;
use crate::sys::net::netlink::{Fault, NetlinkError, Port};
use crate::sys::net::sysctl;
use crate::sys::process::rlimit::Ceilings;
use crate::sys::process::userns;
use crate::sys::process::userns::Creator;

impl Answers for Host1 {
    async fn answer(
        &self,
        verb: Verb,
        request: Packet,
        _header: &Header<'_>,
        _connection: &Connection,
    ) -> Result<Packet, HostError> {
        carry_out(self, verb, request).await
    }
}

impl Verbs for Host1 {
    /// A user names no more guests than can be.
    fn longest(&self, verb: Verb) -> Result<usize, HostError> {
        let usual = verb.spec().longest;
        match verb {
            Verb::EnsureNames => Ok(self.most_containers()?.map_or(usual, network::longest_leases)),
            _ => Ok(usual),
        }
    }

    /// Gives the caller ids and directories, unless it has them.
    async fn setup(&self, _: Setup) -> Result<SetUp, HostError> {
        if self.instance.is_daemonless() {
            let owner = self.authorised()?.owner;
            owner::make_pool(&self.instance).map_err(failed)?;
            return Ok(set_up(owner.uid, owner.gid, owner.range));
        }
        let options = SetupOptions::of(&self.instance);
        let done = setup::setup(&self.instance, options).map_err(|e| match e {
            setup::SetupError::ProgramMissing { .. } => HostError::Lacking(error_text(&e)),
            setup::SetupError::Io { .. } => failed(e),
            other => refused(error_text(&other)),
        })?;
        let owner = done.owner().ok_or_else(|| refused("your ids are too few"))?;
        self.authorise(owner);
        Ok(set_up(done.uid, done.gid, done.range))
    }

    /// A user namespace over the caller's storage ids, for file work.
    async fn storage_namespace(&self, _: StorageNamespace) -> Result<Namespace, HostError> {
        let owner = self.authorised()?.owner;
        let made = || {
            // Made by the owner's own uid, the owner may enter it.
            let ceilings = match self.instance.uid_of_user() {
                Some(uid) => Ceilings::OfUser(uid),
                None => Ceilings::NONE,
            };
            let helper = userns::start(Creator::Id(owner.uid), false, ceilings)?;
            helper.map(0, owner.storage)
        };
        let namespace = made().map_err(|e: crate::sys::SysError| failed(e))?;
        Ok(Namespace { descriptors: Descriptors::of([("namespace", namespace)]) })
    }

    /// Makes sure that a network of the caller's exists as it is described: its bridge with its addresses, and
    /// forwarding by the host. Returns whether the caller's firewall is in place and knows this very bridge; if
    /// not, the caller has to call `ApplyFirewall` next.
    async fn ensure_network(&self, EnsureNetwork { network }: EnsureNetwork) -> Result<InPlace, HostError> {
        let grant = self.grant()?;
        network::check(&self.instance, grant.as_ref(), &network)?;
        network::check_subnets(&self.instance, grant.as_ref(), &self.netlink, &network)?;
        self.caller.check()?;
        let alias = self.instance.bridge_alias(&network.name);
        let bridge = self.netlink.ensure_bridge(&network, &alias).map_err(failed)?;
        if !network.foreign && self.instance.is_daemonless() {
            sysctl::enable_forwarding(network.ipv6.is_some()).map_err(failed)?;
        } else if !network.foreign {
            forwarding::enable(network.ipv6.is_some()).map_err(failed)?;
        }
        let mut bridges = self.bridges.lock().unwrap_or_else(PoisonError::into_inner);
        bridges.insert(network.bridge.clone(), (bridge.index, network));
        Ok(InPlace { is_in_place: !bridge.is_new && self.is_in_place()? })
    }

    /// Removes the caller's bridge, which has no port any more. A bridge that does not exist is no error.
    async fn remove_network(&self, RemoveNetwork { network }: RemoveNetwork) -> Result<Done, HostError> {
        network::check(&self.instance, self.grant()?.as_ref(), &network)?;
        dns::stop(&self.instance, &network).await.map_err(failed)?;
        let alias = self.instance.bridge_alias(&network.name);
        self.netlink.delete_bridge(&network, &alias).map_err(failed)?;
        if self.instance.uid_of_user().is_some() {
            subnets::release(&self.instance, &network.bridge).map_err(failed)?;
        }
        Ok(Done {})
    }

    /// Whether the caller's firewall tables exist, with the rules that lead into them.
    async fn firewall_in_place(&self, _: FirewallInPlace) -> Result<InPlace, HostError> {
        Ok(InPlace { is_in_place: self.is_in_place()? })
    }

    /// Puts the caller's whole firewall in place, and exceptions for its traffic into other firewalls. With
    /// `if_needed`, a firewall that is in place already stays, with its counts. Returns whether the caller has to
    /// send its blocks again, and what still drops guests' traffic.
    async fn apply_firewall(
        &self,
        ApplyFirewall { plan, if_needed }: ApplyFirewall,
    ) -> Result<Applied, HostError> {
        let owned = self.owned(&plan.networks, &plan.containers)?;
        let _turn = self.firewalls_turn()?;
        let claim = self.claim(&plan.forwards)?;
        let done = match if_needed {
            true => firewall::repair(&owned, &plan),
            false => firewall::apply_all(&owned, &plan),
        };
        let done = done.map_err(told_of_firewall)?;
        claim.keep().map_err(failed)?;
        self.set_hairpin(plan.forwards.iter().map(|forward| forward.container.clone()));
        let bridges =
            plan.networks.iter().map(|network| Link { name: network.bridge.clone(), is_answered: true });
        let links = plan.containers.iter().flat_map(|container| &container.links);
        let routed = links.filter(|link| link.bridge.is_none());
        let routed = routed.map(|link| Link { name: link.link.clone(), is_answered: false });
        let there = |link: &Link| Path::new("/sys/class/net").join(&link.name).exists();
        let links: Vec<Link> = bridges.chain(routed).filter(there).collect();
        let found = coexist::ensure(&self.instance, &links).await.map_err(failed)?;
        let dropping = found.into_iter().filter(|finding| !finding.is_handled);
        let dropping = dropping.map(|finding| finding.place).collect();
        Ok(Applied { lacks_blocks: done, dropping })
    }

    /// Changes parts of the caller's firewall. Fails if the firewall is not in place.
    async fn change_firewall(&self, ChangeFirewall { change }: ChangeFirewall) -> Result<Done, HostError> {
        let owned = self.owned(&change.networks, &change.containers)?;
        let _turn = self.firewalls_turn()?;
        let claim = change.forwards.as_ref().map(|forwards| self.claim(forwards)).transpose()?;
        firewall::apply_change(&owned, &change).map_err(told_of_firewall)?;
        claim.map_or(Ok(()), ports::Claim::keep).map_err(failed)?;
        self.set_hairpin(change.forwards.into_iter().flatten().map(|forward| forward.container));
        Ok(Done {})
    }

    /// Removes a deleted container from the caller's firewall, with its counts; `addresses` are those that it had.
    async fn forget_container(
        &self,
        ForgetContainer { container, addresses }: ForgetContainer,
    ) -> Result<Done, HostError> {
        let container = Self::check_container(&container)?;
        if !self.is_in_place()? {
            return Ok(Done {});
        }
        let links: Vec<String> =
            (0..MOST_NICS).map(|slot| self.instance.host_link(&container, slot)).collect();
        let owned = self.owned(&[], &[])?;
        let _turn = self.firewalls_turn()?;
        firewall::remove_container(&owned, &container, &links, &addresses).map_err(told_of_firewall)?;
        Ok(Done {})
    }

    /// Blocks and unblocks addresses in one transaction. `add` and `remove` are lists as `model::firewall::block`
    /// writes them; `members` has the addresses of the containers that have blocks of their own.
    async fn block(&self, Block { members, mut descriptors }: Block) -> Result<Done, HostError> {
        let mut list = |name| {
            let list = network::blocks(&descriptors.take(name)?)?;
            block::decode(&list).ok_or_else(|| refused("that is not a list of blocks"))
        };
        let order = BlockOrder { add: list("add")?, remove: list("remove")?, members };
        descriptors.end()?;
        let owned = self.owned(&[], &[])?;
        let _turn = self.firewalls_turn()?;
        firewall::block(&owned, &order).map_err(told_of_firewall)?;
        Ok(Done {})
    }

    /// The hits of the caller's blocks.
    async fn block_hits(&self, _: BlockHits) -> Result<BlockHitList, HostError> {
        let hits = firewall::block_hits(&self.instance.nft_table()).map_err(told_of_firewall)?;
        Ok(BlockHitList { hits })
    }

    /// Packets and bytes that have passed the caller's links, by the links' names.
    async fn traffic(&self, _: Traffic) -> Result<TrafficMap, HostError> {
        let links = firewall::traffic(&self.instance.nft_table()).map_err(told_of_firewall)?;
        Ok(TrafficMap { links })
    }

    /// Packets and bytes that each of the caller's rules and defaults has decided.
    async fn rule_counts(&self, _: RuleCounts) -> Result<RuleCountList, HostError> {
        let rules = firewall::rule_counts(&self.instance.nft_table()).map_err(told_of_firewall)?;
        Ok(RuleCountList { rules })
    }

    /// Removes the caller's whole firewall, and the exceptions in other firewalls for its networks, whose
    /// bridges these are.
    async fn remove_firewall(&self, RemoveFirewall { bridges }: RemoveFirewall) -> Result<Done, HostError> {
        let own: Vec<String> =
            bridges.into_iter().filter(|bridge| self.instance.may_be_bridge(bridge)).collect();
        coexist::remove(&self.instance, &own).await.map_err(failed)?;
        let _turn = self.firewalls_turn()?;
        firewall::remove_all(self.instance.name(), &self.instance.nft_table()).map_err(told_of_firewall)?;
        self.claim(&[])?.keep().map_err(failed)?;
        Ok(Done {})
    }

    /// Makes sure that a server answers DHCP and names on the network for exactly
    /// these guests; or that none does, if the network wants none.
    async fn ensure_names(&self, EnsureNames { network, leases }: EnsureNames) -> Result<Done, HostError> {
        network::check(&self.instance, self.grant()?.as_ref(), &network)?;
        network::check_claimed(&self.instance, &network)?;
        network::check_leases(self.most_containers()?, &leases)?;
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
        })?;
        Ok(Done {})
    }

    /// Changes the rates and the isolation of a running container's interface to those of `nic`.
    async fn adjust_link(&self, AdjustLink { container, nic }: AdjustLink) -> Result<Done, HostError> {
        let container = Self::check_container(&container)?;
        network::nics(&self.instance, self.grant()?.as_ref(), std::slice::from_ref(&nic))?;
        let _lock = self.turn(&container).await?;
        let link = self.instance.host_link(&container, nic.nic.slot);
        let shaper = self.instance.shaper_link(&container, nic.nic.slot);
        let settings = &nic.nic.settings;
        let adjusted = self.netlink.set_rates(&link, &shaper, settings.ingress, settings.egress);
        let adjusted = adjusted.and_then(|()| match nic.nic.kind {
            NicKind::Bridged { .. } => self.netlink.set_port_isolated(&link, nic.isolated),
            _ => Ok(()),
        });
        match adjusted {
            // A link that is gone needs no change: the next start makes it with these settings.
            Err(NetlinkError::NoLink(_)) if self.runs(&container) => Ok(Done {}),
            other => other.map(|()| Done {}).map_err(failed),
        }
    }

    /// Puts back what somebody else has changed at the host's side of a running container's interface, which was
    /// started as `nic` describes it. Returns whether the link exists at all, and which faults it had.
    async fn mend_link(&self, MendLink { container, nic }: MendLink) -> Result<Mended, HostError> {
        let container = Self::check_container(&container)?;
        network::nics(&self.instance, self.grant()?.as_ref(), std::slice::from_ref(&nic))?;
        if !nic.nic.has_host_end() {
            return Ok(Mended { is_there: true, faults: Vec::new() });
        }
        let (bridge, order) = self.check_link(nic)?;
        let _lock = self.turn(&container).await?;
        if !self.runs(&container) {
            return Err(refused(format!("no container '{container}' of yours is running")));
        }
        let (bridges, name) = (&self.bridges, &order.bridge);
        let bridges = bridges.lock().unwrap_or_else(PoisonError::into_inner);
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
        let faults = found.iter().map(|fault| fault.as_str().to_owned()).collect();
        Ok(Mended { is_there, faults })
    }

    /// Starts a container, or gives a running one a new monitor. Returns the process numbers of the monitor and of
    /// init. On failure nothing of the container runs.
    async fn spawn(&self, mut spawn: Spawn) -> Result<Spawned, HostError> {
        let authorised = self.authorised()?;
        let (owner, launcher) = (&authorised.owner, &authorised.launcher);
        let order = self.check_order(owner, &spawn)?;
        let passed = Passed::checked(&mut spawn, &self.instance, owner)?;
        let _lock = self.turn(&order.container).await?;
        // If two start at the same time, the second must see that the first runs.
        let _turn = match order.adopt.is_none() && self.instance.uid_of_user().is_some() {
            true => Some(container_lock::of_owner(&self.instance, "starts").map_err(failed)?),
            false => None,
        };
        if order.adopt.is_none() {
            self.check_room(launcher, &order.container).await?;
        }
        let begun = launcher.begin(&order).map_err(failed)?;
        if order.adopt.is_none() {
            self.count_links(&order.container, &order.links)?;
        }
        let meanwhile = || self.set_hairpin_of(&order.container, &order.links);
        let spawned = launcher.spawn(&order, begun, &passed, &self.netlink, meanwhile).await;
        let (monitor, init) = spawned.map_err(|e| match e {
            SpawnError::NoHierarchy(e) => HostError::Lacking(error_text(&e)),
            SpawnError::Limits(e) => limits::told(&e),
            other => failed(other),
        })?;
        Ok(Spawned { monitor, init })
    }

    /// Makes a mount for a running container.
    async fn lend_device(&self, request: LendDevice) -> Result<Lent, HostError> {
        self.lend(request).await
    }

    /// Gives a running container one more interface.
    async fn attach_link(&self, request: AttachLink) -> Result<Done, HostError> {
        self.attach(request).await
    }

    /// Takes an interface away from a running container.
    async fn detach_link(&self, DetachLink { container, slot }: DetachLink) -> Result<Done, HostError> {
        let container = Self::check_container(&container)?;
        if slot >= MOST_NICS {
            return Err(refused(format!("{slot} is no interface's place")));
        }
        let _lock = self.turn(&container).await?;
        let link = (self.instance.host_link(&container, slot), self.instance.shaper_link(&container, slot));
        self.netlink.detach_all(&[link]).map_err(failed)?;
        Ok(Done {})
    }

    /// Forgets directories that root has allowed for disks, but for these.
    async fn keep_sources(&self, KeepSources { directories }: KeepSources) -> Result<Done, HostError> {
        if self.instance.uid_of_user().is_some() || self.instance.is_daemonless() {
            return Err(refused("directories are recorded for the containers of root's alone"));
        }
        self.caller.check()?;
        sources::keep(&self.instance, &directories).map_err(failed)?;
        Ok(Done {})
    }

    /// Bounds what a container may take of the disk.
    async fn set_disk_quota(&self, request: SetDiskQuota) -> Result<Done, HostError> {
        self.limit_disk(request).await
    }

    /// Makes a pool in a directory.
    async fn make_pool(&self, request: MakePool) -> Result<Done, HostError> {
        self.caller.check()?;
        self.make_pool_in(request)
    }

    /// Removes an empty pool.
    async fn remove_pool(&self, request: RemovePool) -> Result<Done, HostError> {
        self.caller.check()?;
        self.remove_pool_from(request)
    }

    /// Gives a running container other limits: all of them or, on failure, none.
    async fn set_limits(&self, SetLimits { container, limits }: SetLimits) -> Result<Done, HostError> {
        let container = Self::check_container(&container)?;
        limits::check(&limits)?;
        limits::check_grant(&self.instance, &limits, self.grant()?.as_ref())?;
        self.authorised()?.launcher.set_limits(&container, &limits)?;
        Ok(Done {})
    }

    /// Ends whatever runs of the container and removes its cgroup and links. Returns a line for each thing that
    /// could not be removed; another call tries again. Where the guest was killed, that may be done later.
    async fn clear(&self, Clear { container, is_killed }: Clear) -> Result<Cleared, HostError> {
        let container = Self::check_container(&container)?;
        let authorised = self.authorised()?;
        let lock = self.turn(&container).await?;
        let launcher = &authorised.launcher;
        if is_killed
            && self.rests.have_room()
            && let Some(dying) = launcher.dying(&container, &self.netlink)
        {
            self.rests.put_off(Rest { container, dying, authorised, lock });
            return Ok(Cleared { left: Vec::new(), goes_on: true });
        }
        let left = match is_killed {
            true => launcher.clear_killed(&container, &self.netlink).await,
            false => launcher.clear(&container, &self.netlink).await,
        };
        Ok(Cleared { left, goes_on: false })
    }

    /// Gives a running container the lxcfs that the host has now.
    async fn attach_lxcfs(&self, AttachLxcfs { container }: AttachLxcfs) -> Result<Done, HostError> {
        let container = Self::check_container(&container)?;
        lxcfs::attach(&self.instance, &container).map_err(|e| HostError::Failed(error_text(&e)))?;
        Ok(Done {})
    }

    /// Tells systemd-machined, where there is one, of a running container under its name. Does not
    /// wait for it.
    async fn register_machine(
        &self,
        RegisterMachine { container, name, uuid }: RegisterMachine,
    ) -> Result<Done, HostError> {
        let container = Self::check_container(&container)?;
        let name = Name::new(&name).map_err(|e| HostError::Refused(e.to_string()))?;
        let uuid = machined::uuid(&uuid)
            .ok_or_else(|| HostError::Refused(format!("'{uuid}' is not 32 hexadecimal digits")))?;
        machined::register(&self.instance, &container, &name, uuid)
            .map_err(|e| HostError::Failed(error_text(&e)))?;
        Ok(Done {})
    }
}

fn set_up(uid: u32, gid: u32, range: SubordinateIds) -> SetUp {
    SetUp { uid, gid, first_id: range.start, ids: range.count }
}
