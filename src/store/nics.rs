//! Interfaces of containers, and the addresses that are theirs.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::{Ipv4Network, Ipv6Network};
use rusqlite::{Connection, OptionalExtension};

use super::allot::lowest_free;
use super::columns::json;
use super::error::Attempt;
use super::networks::network;
use super::{Store, StoreError};
use crate::model::name::ContainerId;
use crate::model::network::Network;
use crate::model::nic::{MOST_NICS, Nic, NicKind, NicRequest, ROUTED_GATEWAY4, ROUTED_GATEWAY6, Wanted};

impl Store {
    /// Gives a container one more interface, with the addresses asked for or free ones. The request has
    /// an Ethernet address.
    pub fn add_nic(&mut self, id: &ContainerId, request: &NicRequest) -> Result<Nic, StoreError> {
        self.write("add an interface", |tx| {
            if !tx.prepare_cached("SELECT 1 FROM container WHERE id = ?1")?.exists([id])? {
                return Err(StoreError::NoSuchContainer { id: id.clone() }.into());
            }
            let nic = allot(tx, id, request)?;
            insert(tx, id, &nic)?;
            Ok(nic)
        })
    }

    /// Puts another interface in the place of the one of that device, in its slot.
    pub fn set_nic(&mut self, id: &ContainerId, request: &NicRequest) -> Result<Nic, StoreError> {
        self.write("change an interface", |tx| {
            let slot = remove(tx, id, &request.device)?;
            let nic = Nic { slot, ..allot(tx, id, request)? };
            insert(tx, id, &nic)?;
            Ok(nic)
        })
    }

    /// Removes an interface; its addresses are free.
    pub fn remove_nic(&mut self, id: &ContainerId, device: &str) -> Result<(), StoreError> {
        self.write("remove an interface", |tx| remove(tx, id, device).map(drop))
    }
}

fn remove(conn: &Connection, id: &ContainerId, device: &str) -> Attempt<u8> {
    let slot = conn
        .prepare_cached("DELETE FROM nic WHERE container = ?1 AND device = ?2 RETURNING slot")?
        .query_row((id, device), |row| row.get(0))
        .optional()?;
    Ok(slot.ok_or_else(|| StoreError::NoSuchDevice { device: device.to_owned() })?)
}

/// The segment within which addresses must differ from one another.
fn segment(kind: &NicKind) -> String {
    match kind {
        NicKind::Bridged { network } => network.clone(),
        NicKind::Macvlan { parent } => format!("on {parent}"),
        NicKind::Routed => "routed".to_owned(),
    }
}

/// The interface for `request`: in the lowest free slot, with addresses that nobody has.
pub(super) fn allot(conn: &Connection, id: &ContainerId, request: &NicRequest) -> Attempt<Nic> {
    let slots = conn
        .prepare_cached("SELECT slot FROM nic WHERE container = ?1 ORDER BY slot")?
        .query_map([id], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<u8>>>()?;
    let slot = (0..MOST_NICS).find(|slot| !slots.contains(slot)).ok_or(StoreError::NoSlotLeft)?;
    let mac = request.mac.ok_or(StoreError::NoMac)?;
    let mut nic = Nic {
        device: request.device.clone(),
        name: request.name.clone().unwrap_or_else(|| format!("eth{slot}")),
        slot,
        kind: request.kind.clone(),
        mac,
        ipv4: None,
        gateway4: None,
        ipv6: None,
        gateway6: None,
        settings: request.settings.clone(),
    };
    match &request.kind {
        NicKind::Bridged { network: name } => {
            let network =
                network(conn, name)?.ok_or_else(|| StoreError::NoSuchNetwork { name: name.clone() })?;
            let ipv4 = pick4(conn, &network, request.ipv4)?;
            let ipv6 = pick6(conn, &network, ipv4, request.ipv6)?;
            place(&mut nic, &network, ipv4, ipv6);
            // Nobody but the bridge's own network knows what is free there.
            nic.settings.dhcp |= network.foreign && ipv4.is_none() && ipv6.is_none();
            // A filter cannot know which address somebody else will give it.
            if nic.settings.dhcp {
                nic.settings.ipv4_filtering &= ipv4.is_some();
                nic.settings.ipv6_filtering &= ipv6.is_some();
            }
        }
        NicKind::Macvlan { .. } => {
            if let (Wanted::At(ip), Some((prefix, gateway))) = (request.ipv4, request.outside4) {
                (nic.ipv4, nic.gateway4) = (Ipv4Network::new(ip, prefix).ok(), gateway);
            }
            if let (Wanted::At(ip), Some((prefix, gateway))) = (request.ipv6, request.outside6) {
                (nic.ipv6, nic.gateway6) = (Ipv6Network::new(ip, prefix).ok(), gateway);
            }
        }
        NicKind::Routed => {
            if let Wanted::At(ip) = request.ipv4 {
                (nic.ipv4, nic.gateway4) = (Some(Ipv4Network::from(ip)), Some(ROUTED_GATEWAY4));
            }
            if let Wanted::At(ip) = request.ipv6 {
                (nic.ipv6, nic.gateway6) = (Some(Ipv6Network::from(ip)), Some(ROUTED_GATEWAY6));
            }
            not_in_a_network(conn, &nic)?;
        }
    }
    check_free(conn, id, &nic)?;
    Ok(nic)
}

/// Gives `nic` its addresses as `network` has them now.
pub(super) fn place(nic: &mut Nic, network: &Network, ipv4: Option<Ipv4Addr>, ipv6: Option<Ipv6Addr>) {
    nic.ipv4 = ipv4.zip(network.ipv4).and_then(|(ip, net)| Ipv4Network::new(ip, net.prefix()).ok());
    nic.ipv6 = ipv6.zip(network.ipv6).and_then(|(ip, net)| Ipv6Network::new(ip, net.prefix()).ok());
    nic.gateway4 = nic.ipv4.and(network.gateway4());
    nic.gateway6 = nic.ipv6.and(network.gateway6());
}

/// A routed address must not be inside a subnet whose bridge has the route.
fn not_in_a_network(conn: &Connection, nic: &Nic) -> Attempt<()> {
    for network in super::networks::all(conn)? {
        let inside4 = nic.ipv4.zip(network.ipv4).is_some_and(|(ip, net)| net.contains(ip.ip()));
        let inside6 = nic.ipv6.zip(network.ipv6).is_some_and(|(ip, net)| net.contains(ip.ip()));
        if inside4 || inside6 {
            return Err(StoreError::RoutedInside { name: network.name }.into());
        }
    }
    Ok(())
}

/// Refuses what another interface has.
pub(super) fn check_free(conn: &Connection, id: &ContainerId, nic: &Nic) -> Attempt<()> {
    let segment = segment(&nic.kind);
    let taken = |sql: &str, value: &dyn rusqlite::ToSql| -> rusqlite::Result<bool> {
        conn.prepare_cached(sql)?.exists((&segment, value))
    };
    for ip in nic.addresses() {
        let found = match ip {
            std::net::IpAddr::V4(ip) => {
                taken("SELECT 1 FROM nic WHERE segment = ?1 AND ipv4 = ?2", &ip.to_bits())?
            }
            std::net::IpAddr::V6(ip) => {
                taken("SELECT 1 FROM nic WHERE segment = ?1 AND ipv6 = ?2", &ip.octets())?
            }
        };
        if found {
            return Err(StoreError::AddressTaken { place: segment, ip }.into());
        }
    }
    if conn.prepare_cached("SELECT 1 FROM nic WHERE mac = ?1")?.exists([nic.mac])? {
        return Err(StoreError::MacTaken { mac: nic.mac }.into());
    }
    let own = "SELECT 1 FROM nic WHERE container = ?1 AND (device = ?2 OR name = ?3)
               UNION ALL SELECT 1 FROM device WHERE container = ?1 AND name = ?2";
    if conn.prepare_cached(own)?.exists((id, &nic.device, &nic.name))? {
        return Err(StoreError::DeviceTaken { device: nic.device.clone(), name: nic.name.clone() }.into());
    }
    Ok(())
}

fn pick4(conn: &Connection, network: &Network, wanted: Wanted<Ipv4Addr>) -> Attempt<Option<Ipv4Addr>> {
    let name = || network.name.clone();
    match wanted {
        Wanted::None => Ok(None),
        Wanted::At(ip) if network.is_guest_address4(ip) => Ok(Some(ip)),
        Wanted::At(ip) => Err(StoreError::OutsideNetwork { name: name(), ip: ip.into() }.into()),
        // On a bridge of the host's own, others give out addresses too.
        Wanted::Auto if network.ipv4.is_none() || network.foreign => Ok(None),
        Wanted::Auto => {
            let sql = "SELECT ipv4 FROM nic WHERE segment = ?1 AND ipv4 IS NOT NULL ORDER BY ipv4";
            let mut taken = conn.prepare_cached(sql)?;
            let candidates = network.guest_addresses4().map(Ipv4Addr::to_bits);
            let free = lowest_free(candidates, taken.query_map([&network.name], |row| row.get(0))?)?;
            let free = free.ok_or_else(|| StoreError::NoAddressLeft { name: name() })?;
            Ok(Some(Ipv4Addr::from(free)))
        }
    }
}

/// The twin of the IPv4 address if that is free, else the lowest free address.
fn pick6(
    conn: &Connection,
    network: &Network,
    ipv4: Option<Ipv4Addr>,
    wanted: Wanted<Ipv6Addr>,
) -> Attempt<Option<Ipv6Addr>> {
    let name = || network.name.clone();
    let net = match (wanted, network.ipv6) {
        (Wanted::None, _) => return Ok(None),
        (Wanted::At(ip), _) if network.is_guest_address6(ip) => return Ok(Some(ip)),
        (Wanted::At(ip), _) => return Err(StoreError::OutsideNetwork { name: name(), ip: ip.into() }.into()),
        (Wanted::Auto, Some(net)) if !network.foreign => net,
        (Wanted::Auto, _) => return Ok(None),
    };
    let taken = |ip: Ipv6Addr| -> rusqlite::Result<bool> {
        conn.prepare_cached("SELECT 1 FROM nic WHERE segment = ?1 AND ipv6 = ?2")?
            .exists((&network.name, ip.octets()))
    };
    if let Some(twin) = ipv4.and_then(|ip| network.twin6(ip))
        && !taken(twin)?
    {
        return Ok(Some(twin));
    }
    let first = u128::from(net.network()) + 2;
    // There are more addresses than there can be guests: one of so many is free.
    for number in 0..=u128::from(u32::MAX) {
        let ip = Ipv6Addr::from(first + number);
        if !network.is_guest_address6(ip) {
            break;
        }
        if !taken(ip)? {
            return Ok(Some(ip));
        }
    }
    Err(StoreError::NoAddressLeft { name: name() }.into())
}

/// Stores an interface all of whose parts were found free.
pub(super) fn insert(conn: &Connection, id: &ContainerId, nic: &Nic) -> Attempt<()> {
    let sql = "INSERT INTO nic (container, device, slot, name, network, segment, mac, ipv4, ipv6, spec)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    conn.prepare_cached(sql)?.execute((
        id,
        &nic.device,
        nic.slot,
        &nic.name,
        nic.network(),
        segment(&nic.kind),
        nic.mac,
        nic.ipv4.map(|net| net.ip().to_bits()),
        nic.ipv6.map(|net| net.ip().octets()),
        json(nic)?,
    ))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::mac::Mac;
    use crate::model::nic::NicSettings;
    use crate::store::fixture::{store, web};

    fn request(device: &str, last: u8) -> NicRequest {
        NicRequest { mac: Some(Mac::guest([9, 9, 9, 9, last])), ..NicRequest::on(device, "nagaya0") }
    }

    #[test]
    fn interfaces_come_and_go_with_their_addresses() {
        let (_dir, mut store) = store();
        let id = store.create_container(&web(1)).unwrap().id;
        let second = store.add_nic(&id, &request("lan", 1)).unwrap();
        assert_eq!((second.slot, second.name.as_str()), (1, "eth1"));
        assert_eq!(second.ipv4.unwrap().to_string(), "10.9.0.3/24");
        assert_eq!(second.ipv6.unwrap().to_string(), "fd00:9::3/64");
        assert_eq!(store.container_by_id(&id).unwrap().unwrap().nics[1], second);
        let settings = NicSettings { port_isolation: true, ..NicSettings::default() };
        let changed = store.set_nic(&id, &NicRequest { settings, ..request("lan", 2) }).unwrap();
        assert_eq!((changed.slot, changed.settings.port_isolation), (1, true));
        for slot in 2..6 {
            assert_eq!(store.add_nic(&id, &request(&format!("n{slot}"), 10 + slot)).unwrap().slot, slot);
        }
        assert!(matches!(store.add_nic(&id, &request("n6", 20)), Err(StoreError::NoSlotLeft)));
        store.remove_nic(&id, "lan").unwrap();
        assert!(matches!(store.remove_nic(&id, "lan"), Err(StoreError::NoSuchDevice { .. })));
        let again = store.add_nic(&id, &request("again", 21)).unwrap();
        assert_eq!((again.slot, again.ipv4.unwrap().to_string()), (1, "10.9.0.3/24".to_owned()));
        let gone = store.add_nic(&web(9).id, &request("x", 30));
        assert!(matches!(gone, Err(StoreError::NoSuchContainer { .. })));
    }

    #[test]
    fn what_another_interface_has_is_refused() {
        let (_dir, mut store) = store();
        let id = store.create_container(&web(1)).unwrap().id;
        let mut refused = |request: NicRequest| store.add_nic(&id, &request).unwrap_err();
        let at = |ip: &str| NicRequest { ipv6: Wanted::At(ip.parse().unwrap()), ..request("lan", 1) };
        assert!(matches!(refused(at("fd00:9::2")), StoreError::AddressTaken { .. }));
        assert!(matches!(refused(at("fd00:8::2")), StoreError::OutsideNetwork { .. }));
        assert!(matches!(refused(at("fd00:9::1")), StoreError::OutsideNetwork { .. }));
        assert!(matches!(refused(request("eth0", 1)), StoreError::DeviceTaken { .. }));
        let name = NicRequest { name: Some("eth0".into()), ..request("lan", 1) };
        assert!(matches!(refused(name), StoreError::DeviceTaken { .. }));
        let mac = NicRequest { mac: web(1).nics[0].mac, ..request("lan", 1) };
        assert!(matches!(refused(mac), StoreError::MacTaken { .. }));
        let routed = |ip: &str| NicRequest {
            kind: NicKind::Routed,
            ipv4: Wanted::At(ip.parse().unwrap()),
            ipv6: Wanted::None,
            ..request("pub", 2)
        };
        assert!(matches!(refused(routed("10.9.0.77")), StoreError::RoutedInside { .. }));
        let nic = store.add_nic(&id, &routed("198.51.100.7")).unwrap();
        assert_eq!((nic.ipv4.unwrap().prefix(), nic.gateway4), (32, Some(ROUTED_GATEWAY4)));
    }

    #[test]
    fn an_interface_may_have_one_family_or_none() {
        let (_dir, mut store) = store();
        let id = store.create_container(&web(1)).unwrap().id;
        let bare = NicRequest { ipv4: Wanted::None, ipv6: Wanted::None, ..request("a", 1) };
        let bare = store.add_nic(&id, &bare).unwrap();
        assert_eq!((bare.addresses().count(), bare.gateway4, bare.gateway6), (0, None, None));
        let six = store.add_nic(&id, &NicRequest { ipv4: Wanted::None, ..request("b", 2) }).unwrap();
        assert_eq!(six.ipv6.unwrap().to_string(), "fd00:9::3/64", "the lowest that is free");
        assert_eq!(six.ipv4, None);
    }
}
