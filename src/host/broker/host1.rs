//! What the broker knows of its caller, and what it checks for more than one verb. Every argument comes from a caller
//! who is not trusted: names are checked again, ids against what the caller owns, and nothing is opened by a path
//! that a caller gave.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::authorised::AuthorisedOwner;
use super::caller::Caller;
use super::claims::holdings;
use super::claims::ports;
use super::claims::ports::PortsError;
use super::container_lock::ContainerLock;
use super::firewall::{self, FirewallError, Owned};
use super::network::BridgedLink;
use super::rests::Rests;
use super::spawn::{LauncherContext, Order};
use super::{container_lock, limits, network, quota};
use crate::host::api::error::{HostError, failed, refused};
use crate::host::api::grants;
use crate::host::api::requests::{Device, Spawn};
use crate::host::setup::Owner;
use crate::model::firewall::plan::{ContainerPlan, ForwardPlan, LinkPlan, NetworkPlan};
use crate::model::grant::Grant;
use crate::model::ids::IdRange;
use crate::model::instance::Instance;
use crate::model::monitor::DEVICES;
use crate::model::name::{ContainerId, Name};
use crate::model::network::Network;
use crate::model::nic::{MOST_NICS, NicKind, NicOrder};
use crate::sys::cgroup::home::Home;
use crate::sys::error_text;
use crate::sys::net::netlink::Netlink;
use crate::sys::net::sysctl;

/// The broker's state: who the caller is, and what belongs to it.
pub struct Host1 {
    pub instance: Instance,
    pub netlink: Netlink,
    pub caller: Caller,
    /// None before the caller has been given ids.
    authorised: Mutex<Option<Arc<AuthorisedOwner>>>,
    /// Networks that this caller has called `EnsureNetwork` for, by their bridges, with the bridges'
    /// indices.
    pub bridges: Mutex<HashMap<String, (u32, Network)>>,
    /// What is done once the caller has gone, or wants something else of the same container.
    pub rests: Rests,
}

impl Host1 {
    /// Needs a running tokio runtime. `owner` is the caller, unless it has still to be set up.
    pub fn new(instance: Instance, owner: Option<Owner>, caller: Caller) -> Result<Self, HostError> {
        let authorised = Mutex::new(owner.map(|owner| AuthorisedOwner::new(&instance, owner)));
        let netlink = Netlink::open().map_err(failed)?;
        let (bridges, rests) = (Mutex::default(), Rests::default());
        Ok(Self { instance, netlink, caller, authorised, bridges, rests })
    }

    pub fn authorised(&self) -> Result<Arc<AuthorisedOwner>, HostError> {
        let authorised = self.authorised.lock().unwrap_or_else(PoisonError::into_inner);
        authorised.clone().ok_or_else(|| refused("nothing is set up for you yet: Setup does it"))
    }

    /// The caller has been set up as `owner`.
    pub fn authorise(&self, owner: Owner) {
        let mut authorised = self.authorised.lock().unwrap_or_else(PoisonError::into_inner);
        *authorised = Some(AuthorisedOwner::new(&self.instance, owner));
    }

    /// How many containers the caller can have: each needs an id range. None for a daemonless owner, whose
    /// containers share one range and keep only what is the owner's own.
    pub fn most_containers(&self) -> Result<Option<usize>, HostError> {
        let id_ranges = self.authorised()?.owner.range.id_ranges();
        Ok((!self.instance.is_daemonless()).then_some(id_ranges.saturating_sub(1) as usize))
    }

    /// Whether the caller's container of this id has been started; its guest may be booting again.
    pub fn runs(&self, container: &ContainerId) -> bool {
        Home::find(&self.instance).is_ok_and(|home| home.container_dir(container).exists())
    }

    pub fn check_container(text: &str) -> Result<ContainerId, HostError> {
        ContainerId::new(text).map_err(|e| refused(e.to_string()))
    }

    /// Runtime ids of the caller's. For a daemonless owner, and for nobody else, the storage ids are that.
    pub fn check_id_range(&self, owner: &Owner, base: u32) -> Result<IdRange, HostError> {
        let daemonless = self.instance.is_daemonless();
        IdRange::at(base)
            .filter(|s| owner.range.holds(*s) && (*s == owner.storage) == daemonless)
            .filter(|s| (s.base() - owner.range.start).is_multiple_of(crate::model::ids::IDS_PER_RANGE))
            .ok_or_else(|| refused(format!("{base} does not begin a runtime id range of yours")))
    }

    /// The trees and descriptors that come with the order are checked where they are opened.
    pub fn check_order(&self, owner: &Owner, spawn: &Spawn) -> Result<Order, HostError> {
        limits::check(&spawn.limits)?;
        limits::check_grant(&self.instance, &spawn.limits, self.grant()?.as_ref())?;
        network::nics(&self.instance, self.grant()?.as_ref(), &spawn.nics)?;
        if let Some(pid) = spawn.adopt.filter(|pid| *pid <= 0) {
            return Err(refused(format!("{pid} is no process number")));
        }
        let links = match spawn.adopt {
            // Who takes over a guest finds its links in place.
            Some(_) => Vec::new(),
            None => spawn.nics.iter().map(|nic| self.check_link(nic.clone())).collect::<Result<_, _>>()?,
        };
        Ok(Order {
            container: Self::check_container(&spawn.container)?,
            name: Name::new(&spawn.name).map_err(|e| refused(e.to_string()))?.to_string(),
            id_range: self.check_id_range(owner, spawn.first_id)?,
            links,
            adopt: spawn.adopt,
            devices: devices(&spawn.devices)?,
            limits: spawn.limits.clone(),
        })
    }

    /// An interface with the bridge that it will be a port of.
    pub fn check_link(&self, nic: NicOrder) -> Result<BridgedLink, HostError> {
        if !matches!(nic.nic.kind, NicKind::Bridged { .. }) {
            return Ok((None, nic));
        }
        let bridges = self.bridges.lock().unwrap_or_else(PoisonError::into_inner);
        let (index, network) =
            bridges.get(&nic.bridge).ok_or_else(|| refused("EnsureNetwork has to come first"))?;
        network::fits(network, &nic)?;
        Ok((Some(*index), nic))
    }

    /// Makes the links known to the firewall before anything passes them.
    pub fn count_links(&self, container: &ContainerId, links: &[BridgedLink]) -> Result<(), HostError> {
        let link = |(_, nic): &BridgedLink| LinkPlan {
            link: self.instance.host_link(container, nic.nic.slot),
            bridge: (!nic.bridge.is_empty()).then(|| nic.bridge.clone()),
        };
        let with_end = links.iter().filter(|(_, nic)| nic.nic.has_host_end());
        let links: Vec<LinkPlan> = with_end.map(link).collect();
        let mut owned = self.owned(&[], &[])?;
        for bridge in links.iter().filter_map(|link| link.bridge.clone()) {
            // Each was made sure of, and so checked, before.
            owned.bridges.entry(bridge).or_default();
        }
        let _turn = self.firewalls_turn()?;
        match firewall::add_links(&owned, container, &links) {
            // Somebody has emptied it since it was looked at: it is put back with all links.
            Ok(()) | Err(FirewallError::NotInPlace) => Ok(()),
            Err(e) => Err(told_of_firewall(e)),
        }
    }

    /// Sets up hairpin NAT for these guests. A failure concerns nobody but them.
    pub fn set_hairpin(&self, containers: impl IntoIterator<Item = ContainerId>) {
        if !sysctl::bridged_packets_meet_rules() {
            return;
        }
        let containers: BTreeSet<ContainerId> = containers.into_iter().collect();
        for container in &containers {
            for slot in 0..MOST_NICS {
                if let Err(e) = self.netlink.set_hairpin(&self.instance.host_link(container, slot)) {
                    tracing::warn!("{}", error_text(&e));
                }
            }
        }
    }

    /// The same for a guest that has just started.
    pub fn set_hairpin_of(&self, container: &ContainerId, links: &[BridgedLink]) {
        if !sysctl::bridged_packets_meet_rules() {
            return;
        }
        let addresses: Vec<IpAddr> = links.iter().flat_map(|(_, nic)| nic.nic.addresses()).collect();
        match firewall::leads_to(&self.instance.nft_table(), &addresses) {
            Ok(false) => {}
            Ok(true) => self.set_hairpin([container.clone()]),
            Err(e) => tracing::warn!("{}", error_text(&e)),
        }
    }

    /// What of the host's network and firewall belongs to this caller.
    pub fn owned(&self, networks: &[NetworkPlan], containers: &[ContainerPlan]) -> Result<Owned, HostError> {
        let most = self.instance.uid_of_user().map(|_| self.most_containers()).transpose()?.flatten();
        holdings::owned(&self.instance, self.grant()?.as_ref(), most, networks, containers).map_err(failed)
    }

    pub fn is_in_place(&self) -> Result<bool, HostError> {
        firewall::is_in_place(self.instance.name(), &self.instance.nft_table()).map_err(told_of_firewall)
    }

    /// Nobody else changes the caller's firewall meanwhile.
    pub fn firewalls_turn(&self) -> Result<ContainerLock, HostError> {
        let lock = container_lock::of_owner(&self.instance, "firewall").map_err(failed)?;
        self.caller.check()?;
        Ok(lock)
    }

    /// Nobody else works on the container meanwhile.
    pub async fn turn(&self, container: &ContainerId) -> Result<ContainerLock, HostError> {
        self.rests.finish(container, &self.netlink).await;
        let lock = container_lock::take(&self.instance, container).map_err(failed)?;
        self.caller.check()?;
        Ok(lock)
    }

    /// Claims the host's ports for these forwards, which are all that the caller is to have.
    pub fn claim(&self, forwards: &[ForwardPlan]) -> Result<ports::Claim, HostError> {
        ports::claim(&self.instance, forwards).map_err(|e| match e {
            PortsError::Taken { .. } => refused(e.to_string()),
            PortsError::Record(e) => failed(e),
        })
    }

    /// The caller's grant. None for the service user and a daemonless owner, whom nothing bounds.
    pub fn grant(&self) -> Result<Option<Grant>, HostError> {
        match self.instance.uid_of_user() {
            None => Ok(None),
            Some(_) => grants::effective(&self.instance, self.instance.user()).map(Some).map_err(failed),
        }
    }

    /// Checks that another container may run within the caller's grant.
    pub async fn check_room(&self, launcher: &LauncherContext, id: &ContainerId) -> Result<(), HostError> {
        let Some(grant) = self.grant()? else { return Ok(()) };
        let most = grant.containers();
        let running = launcher.running_beside(id, most as usize);
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

/// Those of the guest, of which the monitor needs one itself.
fn devices(wanted: &[Device]) -> Result<Vec<&'static str>, HostError> {
    let known = |device: &Device| {
        let found = DEVICES.iter().find(|(name, ..)| *name == device.name);
        found
            .map(|(name, ..)| *name)
            .ok_or_else(|| refused(format!("'{:.64}' is no device of a guest's", device.name)))
    };
    let names: Vec<&str> = wanted.iter().map(known).collect::<Result<_, _>>()?;
    let is_twice = (1..names.len()).any(|n| names[..n].contains(&names[n]));
    match is_twice || !names.contains(&"null") {
        true => Err(refused("the devices of a guest are each named once, and 'null' is one of them")),
        false => Ok(names),
    }
}

/// What went wrong with a firewall, which also refuses.
pub fn told_of_firewall(error: FirewallError) -> HostError {
    match error {
        FirewallError::Refused(why) => HostError::Refused(why),
        other => failed(other),
    }
}
