//! firewalld: guests' interfaces are in a zone of ours, which comes as files of the package with what
//! is allowed there.

use std::path::Path;

use super::finding::{Finding, Who};
use crate::host::services::bus::{self, BusError};
use crate::render::iptables::Link;

const SERVICE: &str = "org.fedoraproject.FirewallD1";
/// Packages install it; one that firewalld has not yet read is known after its next reload.
const ZONE: &str = "nagaya";
/// firewalld's own zone that lets everything pass, for a firewalld that does not know ours yet.
const FALLBACK: &str = "trusted";

#[zbus::proxy(
    interface = "org.fedoraproject.FirewallD1.zone",
    default_service = "org.fedoraproject.FirewallD1",
    default_path = "/org/fedoraproject/FirewallD1"
)]
trait Zones {
    #[zbus(name = "getZones")]
    fn get_zones(&self) -> zbus::Result<Vec<String>>;
    #[zbus(name = "getZoneOfInterface")]
    fn get_zone_of_interface(&self, interface: &str) -> zbus::Result<String>;
    #[zbus(name = "changeZoneOfInterface")]
    fn change_zone_of_interface(&self, zone: &str, interface: &str) -> zbus::Result<String>;
    #[zbus(name = "removeInterface")]
    fn remove_interface(&self, zone: &str, interface: &str) -> zbus::Result<String>;
}

/// A running firewalld.
struct Firewalld {
    zones: ZonesProxy<'static>,
    zone: &'static str,
}

impl Firewalld {
    /// None where no bus listens at `address`, or no firewalld is on it. It is not started by asking.
    async fn find(address: &Path) -> Result<Option<Self>, BusError> {
        if !address.exists() {
            return Ok(None);
        }
        let connection = bus::connect(address).await?;
        let what = || BusError::call("ask whether firewalld runs");
        let names = zbus::fdo::DBusProxy::new(&connection).await.map_err(BusError::Connect)?;
        let service = SERVICE.try_into().map_err(|e: zbus::Error| what()(e))?;
        if !names.name_has_owner(service).await.map_err(|e| what()(e.into()))? {
            return Ok(None);
        }
        let zones = ZonesProxy::new(&connection).await.map_err(BusError::Connect)?;
        let known = zones.get_zones().await.map_err(BusError::call("ask firewalld for its zones"))?;
        let zone = if known.iter().any(|zone| zone == ZONE) { ZONE } else { FALLBACK };
        Ok(Some(Self { zones, zone }))
    }

    async fn zone_of(&self, name: &str) -> Result<String, BusError> {
        let zone = self.zones.get_zone_of_interface(name).await;
        zone.map_err(BusError::call(format!("ask firewalld for the zone of {name}")))
    }

    /// An interface that the administrator has put in a zone stays there.
    async fn put(&self, name: &str) -> Result<bool, BusError> {
        let found = self.zone_of(name).await?;
        let is_ours = found.is_empty() || (found == FALLBACK && self.zone == ZONE);
        if is_ours {
            let put = self.zones.change_zone_of_interface(self.zone, name).await;
            put.map_err(BusError::call(format!("have firewalld put {name} in zone {}", self.zone)))?;
        }
        Ok(is_ours || found == self.zone)
    }
}

/// Puts the links in the zone; this holds until firewalld's next reload.
pub async fn ensure(bus: &Path, links: &[Link]) -> Result<Vec<Finding>, BusError> {
    let Some(firewalld) = Firewalld::find(bus).await? else { return Ok(Vec::new()) };
    let mut is_handled = true;
    for link in links {
        is_handled &= firewalld.put(&link.name).await?;
    }
    Ok(vec![firewalld.finding(is_handled)])
}

/// Looks without changing anything; `names` are the links of guests.
pub async fn look(bus: &Path, names: &[String]) -> Result<Vec<Finding>, BusError> {
    let Some(firewalld) = Firewalld::find(bus).await? else { return Ok(Vec::new()) };
    let mut is_handled = true;
    for name in names {
        is_handled &= !firewalld.zone_of(name).await?.is_empty();
    }
    Ok(vec![firewalld.finding(is_handled)])
}

/// Takes interfaces out of the zone.
pub async fn forget(bus: &Path, names: &[String]) -> Result<(), BusError> {
    let Some(firewalld) = Firewalld::find(bus).await? else { return Ok(()) };
    for name in names {
        let zone = firewalld.zone_of(name).await?;
        if zone == ZONE || zone == FALLBACK {
            let removed = firewalld.zones.remove_interface(&zone, name).await;
            removed.map_err(BusError::call(format!("have firewalld take {name} out of zone {zone}")))?;
        }
    }
    Ok(())
}

impl Firewalld {
    fn finding(&self, is_handled: bool) -> Finding {
        Finding { who: Who::Firewalld, place: format!("zone {}", self.zone), is_handled }
    }
}
