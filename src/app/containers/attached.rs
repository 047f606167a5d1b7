//! The interfaces that a running container was started with. What is changed of them afterwards waits
//! for the next start, but the host's side of the links has to stay as the guest knows it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use nix::net::if_::if_nametoindex;
use serde::{Deserialize, Serialize};

use super::{guest_config, state};
use crate::app::error::AppResult;
use crate::app::instance::App;
use crate::app::instance::{daemonless, layout};
use crate::app::network;
use crate::model::config::Config;
use crate::model::container::{Container, State};
use crate::model::device::Device;
use crate::model::instance::Instance;
use crate::model::name::{ContainerId, Name};
use crate::model::network::Network;
use crate::model::nic::{Nic, NicKind, NicOrder};
use crate::sys::net::netlink::{Fault, Netlink, NetlinkError, Port};
use crate::sys::{Context, SysResult, error_text};

/// Longest record, in bytes.
const MOST: u64 = 256 << 10;

/// What the guest was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    pub container: Name,
    #[serde(default)]
    pub nics: Vec<NicOrder>,
    #[serde(default)]
    pub devices: Vec<Device>,
    /// The resolvers that it was told, and the domain of its networks.
    #[serde(default)]
    resolvers: Vec<IpAddr>,
    domain: Option<String>,
    /// Its configuration, its profiles' included; none where an earlier version has started it.
    pub config: Option<Config>,
}

impl Attached {
    /// What a start would give it now.
    pub fn of(container: &Container, networks: &[Network]) -> Self {
        let answering = networks.iter().find(|network| network.domain.is_some());
        Self {
            container: container.name.clone(),
            nics: network::orders(container, networks),
            devices: container.mounted(),
            resolvers: answering.map(guest_config::gateways).unwrap_or_default(),
            domain: answering.and_then(|network| network.domain.clone()),
            config: Some(container.config.expanded().clone()),
        }
    }

    /// Writes the record. It is valid while the container runs, and goes when the host restarts.
    pub fn write(&self, instance: &Instance, id: &ContainerId) -> SysResult<()> {
        use std::io::Write;
        let path = path(instance, id);
        let what = || format!("write {}", path.display());
        let text = serde_json::to_vec(self).map_err(std::io::Error::other).cannot(what)?;
        let _ = std::fs::remove_file(&path);
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(&text)).cannot(what)
    }

    /// None if there is no record: an earlier version started the container.
    pub fn read(instance: &Instance, id: &ContainerId) -> Option<Self> {
        use std::io::Read;
        let mut text = String::new();
        let file = std::fs::File::open(path(instance, id)).ok()?;
        file.take(MOST).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }

    fn has(&self, nic: &Nic) -> Option<&NicOrder> {
        self.nics.iter().find(|order| order.nic.slot == nic.slot && order.nic.device == nic.device)
    }
}

fn path(instance: &Instance, id: &ContainerId) -> PathBuf {
    layout::monitor_dir(instance, id).join("nics")
}

/// The interfaces that a running container has, with the present values of settings that change at once;
/// and whether that is certain. For a container that an earlier version started, it is what a start would
/// make now.
pub fn orders(app: &App, container: &Container) -> AppResult<(Vec<NicOrder>, bool)> {
    let Some(mut started) = Attached::read(&app.instance, &container.id) else {
        return Ok((network::orders(container, &network::of(app, container)?), false));
    };
    let networks = app.store.networks()?;
    for order in &mut started.nics {
        let same = |nic: &&Nic| nic.slot == order.nic.slot && nic.device == order.nic.device;
        let Some(now) = container.nics.iter().find(same) else { continue };
        let network = networks.iter().find(|network| Some(network.name.as_str()) == order.nic.network());
        let settings = &mut order.nic.settings;
        (settings.ingress, settings.egress) = (now.settings.ingress, now.settings.egress);
        settings.port_isolation = now.settings.port_isolation;
        order.isolated = now.settings.port_isolation || network.is_some_and(|network| network.isolated);
    }
    Ok((started.nics, true))
}

/// What waits for the next start of a container, in a sentence each.
pub fn pending(app: &App, container: &Container) -> AppResult<Vec<String>> {
    if state::of(app, container) == State::Stopped {
        return Ok(Vec::new());
    }
    let Some(started) = Attached::read(&app.instance, &container.id) else { return Ok(Vec::new()) };
    let now = Attached::of(container, &network::of(app, container)?);
    let mut waiting: Vec<String> = Vec::new();
    for order in &now.nics {
        let device = &order.nic.device;
        match started.has(&order.nic) {
            None => waiting.push(format!("device '{device}' is added")),
            Some(was) if of_guest(was) != of_guest(order) => {
                waiting.push(format!("device '{device}' changes"))
            }
            Some(_) => {}
        }
    }
    let mounted = container.mounted();
    for device in &mounted {
        let name = &device.name;
        match started.devices.iter().find(|was| was.name == *name) {
            None => waiting.push(format!("device '{name}' is added")),
            Some(was) if was != device => waiting.push(format!("device '{name}' changes")),
            Some(_) => {}
        }
    }
    let is_gone = |was: &&Device| mounted.iter().all(|device| device.name != was.name);
    waiting.extend(
        started.devices.iter().filter(is_gone).map(|was| format!("device '{}' is removed", was.name)),
    );
    if (&started.resolvers, &started.domain) != (&now.resolvers, &now.domain) {
        waiting.push("its DNS servers change".to_owned());
    }
    Ok(waiting)
}

/// Whether a running container has the device, or may have it: without a record that is not certain.
pub fn has(app: &App, container: &Container, device: &Nic) -> bool {
    Attached::read(&app.instance, &container.id).is_none_or(|started| started.has(device).is_some())
}

/// The device of that name as a running container has it.
pub fn device(app: &App, container: &Container, name: &str) -> Option<Device> {
    let given = Attached::read(&app.instance, &container.id)?;
    given.devices.into_iter().find(|device| device.name == name)
}

/// Whether what the guest sees of a device is as it was started.
pub fn is_as_started(app: &App, container: &Container, device: &str) -> AppResult<bool> {
    let Some(started) = Attached::read(&app.instance, &container.id) else { return Ok(true) };
    let now = network::orders(container, &network::of(app, container)?);
    let now = now.iter().find(|order| order.nic.device == device);
    Ok(now.is_some_and(|now| started.has(&now.nic).is_some_and(|was| of_guest(was) == of_guest(now))))
}

/// The part of an interface that does not change at once.
fn of_guest(order: &NicOrder) -> NicOrder {
    let mut order = NicOrder { isolated: false, ..order.clone() };
    let settings = &mut order.nic.settings;
    (settings.ingress, settings.egress, settings.port_isolation) = (None, None, false);
    order
}

/// Why nothing passes between a running container and the host, or what can pass that must not: a sentence
/// for each interface. Call it in the network namespace that the links are in.
pub fn cut_off(
    instance: &Instance,
    id: &ContainerId,
    nics: &[NicOrder],
) -> Result<Vec<String>, NetlinkError> {
    let netlink = Netlink::open()?;
    let mut found = Vec::new();
    for order in nics.iter().filter(|order| order.nic.has_host_end()) {
        let is_bridged = matches!(order.nic.kind, NicKind::Bridged { .. });
        let port = Port {
            nic: &order.nic,
            host_name: &instance.host_link(id, order.nic.slot),
            shaper_name: &instance.shaper_link(id, order.nic.slot),
            // No link has the number 0.
            bridge: is_bridged.then(|| if_nametoindex(order.bridge.as_str()).unwrap_or(0)),
            is_foreign: true,
            mtu: order.mtu,
            isolated: order.isolated,
        };
        let mut faults = netlink.faults(&port)?;
        faults.retain(|fault| fault.cuts_off() || *fault == Fault::Filter);
        if !faults.is_empty() {
            let (device, link) = (&order.nic.device, port.host_name);
            found.push(format!("the host's link '{link}' of device '{device}' {}", Fault::all(&faults)));
        } else if is_bridged && !netlink.is_up(&order.bridge)? {
            found.push(format!("bridge '{}' of device '{}' is down", order.bridge, order.nic.device));
        }
    }
    Ok(found)
}

/// The same for a running container, with what repairs it.
pub fn cut_off_notes(app: &App, container: &Container) -> Vec<String> {
    let looked = || -> AppResult<Vec<String>> {
        let (nics, is_known) = orders(app, container)?;
        if !is_known {
            return Ok(Vec::new());
        }
        let look = || cut_off(&app.instance, &container.id, &nics).map_err(|e| error_text(&e));
        let found: Result<Vec<String>, String> = daemonless::in_network(app, look)?;
        Ok(found.unwrap_or_else(|why| vec![format!("its links cannot be looked at: {why}")]))
    };
    let found =
        looked().unwrap_or_else(|e| vec![format!("its links cannot be looked at: {}", error_text(&e))]);
    let all: BTreeSet<String> = found.into_iter().collect();
    all.into_iter().map(|what| format!("{what}: nagaya network repair")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stored::tests::value_outlives;
    use crate::sys::net::netns_fixture::nic;

    #[test]
    fn a_record_outlives_versions() {
        let order =
            NicOrder { nic: nic("eth0", 1), bridge: "lan".to_owned(), isolated: true, mtu: Some(1400) };
        let config = Some(Config::of([("limits.cpu", "1")]).unwrap());
        let (resolvers, domain) = (vec![[10, 9, 0, 1].into()], Some("lan".to_owned()));
        let started = Attached {
            container: Name::new("web01").unwrap(),
            nics: vec![order],
            devices: vec![],
            resolvers,
            domain,
            config,
        };
        let nic = ["", ".device", ".name", ".slot", ".mac", ".kind", ".kind.type", ".kind.network"];
        let needed: Vec<String> = nic.iter().map(|field| format!("nics.*.nic{field}")).collect();
        let needed: Vec<&str> = needed.iter().map(String::as_str).chain(["container"]).collect();
        value_outlives(&started, &needed, &["config"]);
    }

    /// Commands look at what runs since before they were installed.
    #[test]
    fn records_of_version_0_1_0_are_read() {
        let below = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/released/0.1.0/run/released/containers");
        let text = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("nics")).unwrap();
        let all: Vec<String> = std::fs::read_dir(below).unwrap().flatten().map(text).collect();
        let read = |text: &String| serde_json::from_str::<Attached>(text).unwrap();
        let web = all.iter().map(read).find(|started| started.container.as_str() == "web01").unwrap();
        assert_eq!(web.domain.as_deref(), Some("lan.example"));
        assert_eq!(web.resolvers, ["10.78.0.1", "fd00:78::1"].map(|ip| ip.parse::<IpAddr>().unwrap()));
        let NicOrder { nic, bridge, isolated, mtu } = &web.nics[0];
        assert_eq!((bridge.as_str(), *isolated, *mtu), ("lan", true, Some(1400)));
        assert_eq!(nic.ipv4.unwrap().to_string(), "10.78.0.2/24");
        assert_eq!(all.len(), 3);
    }

    #[test]
    fn what_changes_at_once_is_not_the_guests() {
        let order = |change: fn(&mut NicOrder)| {
            let mut order =
                NicOrder { nic: nic("eth0", 1), bridge: "lan".to_owned(), isolated: false, mtu: None };
            change(&mut order);
            of_guest(&order)
        };
        let plain = order(|_| {});
        assert_eq!(order(|o| o.isolated = true), plain);
        assert_eq!(order(|o| o.nic.settings.ingress = Some(7)), plain);
        assert_ne!(order(|o| o.mtu = Some(1400)), plain);
        assert_ne!(order(|o| o.nic.settings.mac_filtering = false), plain);
        assert_ne!(order(|o| o.nic.gateway4 = Some([10, 9, 0, 1].into())), plain);
    }
}
