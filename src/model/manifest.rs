//! The manifest that stands beside each container's data: what the database knows of it, as TOML,
//! so that a lost database can be rebuilt.
//!
//! It says nothing of the phase, and what is read from it is settled. A manifest may be older
//! than the database that was lost, and a stale `creating` or `deleting` would have the next
//! command destroy a container that was whole.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;
use serde::{Deserialize, Serialize};

use super::config::{self, Config};
use super::container::{Container, Phase};
use super::device::Device;
use super::field::FieldError;
use super::ids::IdRange;
use super::keys::KeyError;
use super::layer::LayerId;
use super::mac::Mac;
use super::name::{ContainerId, Name};
use super::network::Network;
use super::nic::{Nic, NicKind, NicSettings};
use super::pool::{Pool, PoolName};
use super::profile::{Layered, MAX_DESCRIPTION, MOST_PROFILES, Profile, check_description};
use super::snapshot::{MOST_SNAPSHOTS, Snapshot};
use super::stored::{self, StoredError};
use super::template::TemplateId;

/// The latest version that is written. Of those that are read too, version 1 has no configuration and version 2 one
/// interface at most, with the one network that there was.
pub const VERSION: u32 = 4;
/// The version without layers, snapshots, profiles, pools and devices besides interfaces, which is still written where there are none.
const PLAIN: u32 = 3;

/// Longer than any manifest, in which every character of the configuration may take two; longer
/// input is not looked at.
const MAX_BYTES: usize = 64 * 1024
    + 4 * config::MAX_BYTES
    + MOST_PROFILES * 2 * MAX_DESCRIPTION
    + MOST_SNAPSHOTS * (64 * 1024 + 2 * config::MAX_BYTES);

/// What a manifest describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// In phase `Settled`.
    pub container: Container,
    /// Where its files are, if that is not the pool that is always there.
    pub pool: Option<Pool>,
    /// Those that its interfaces are on.
    pub networks: Vec<Network>,
    /// What it stands on above its template, the lowest first.
    pub layers: Vec<LayerId>,
    /// Its snapshots, the oldest first.
    pub snapshots: Vec<Snapshot>,
}

/// Why a text is not a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("a manifest of {0} bytes is longer than any that nagaya writes")]
    TooLong(usize),
    #[error("cannot read the manifest as TOML of version 1 to 4")]
    Syntax(#[source] Box<toml::de::Error>),
    #[error("the manifest has version {0}, and only versions 1 to 4 are known")]
    Version(i64),
    #[error("the manifest has parts that its version does not know")]
    TooNew,
    #[error("the manifest's id range cannot begin at id {0}")]
    IdRange(u32),
    #[error("the manifest's profile breaks a rule")]
    Profile(#[source] KeyError),
    #[error("the manifest's storage pool breaks a rule")]
    Pool(#[source] KeyError),
    #[error("the manifest's network breaks a rule")]
    Network(#[source] KeyError),
    #[error("the manifest breaks a rule")]
    Field(#[source] FieldError),
}

impl ManifestError {
    fn of_head(err: StoredError) -> Self {
        match err {
            StoredError::Newer { found, .. } | StoredError::Version(found) => Self::Version(found),
            StoredError::Syntax(err) => Self::Syntax(err),
        }
    }

    /// Whether a later nagaya can read it.
    pub fn is_newer(&self) -> bool {
        matches!(self, Self::Version(version) if *version > i64::from(VERSION))
    }
}

/// What is not marked as optional says whose data it is that stands beside the manifest.
#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    id: ContainerId,
    name: Name,
    template: TemplateId,
    /// None: the template's id, which is a name, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    template_name: Option<String>,
    #[serde(rename = "slice")]
    id_range: u32,
    uuid: String,
    #[serde(default)]
    created_at: i64,
    #[serde(default)]
    wanted_up: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    layers: Vec<LayerId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<LeaseTable>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pool: Option<Pool>,
    #[serde(default, skip_serializing_if = "Config::is_empty")]
    config: Config,
    /// Those that it uses, as they were when this was written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    profiles: Vec<Profile>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    networks: Vec<Network>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    nics: Vec<Nic>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    devices: Vec<Device>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    snapshots: Vec<Snapshot>,
}

#[derive(Serialize, Deserialize)]
struct LeaseTable {
    bridge: String,
    mac: Mac,
    ipv4: Ipv4Network,
    gateway: Ipv4Addr,
}

/// A manifest as text; the phase is left out, and so are networks that no interface is on.
pub fn to_toml(manifest: &Manifest) -> String {
    let Manifest { container, pool, networks, layers, snapshots } = manifest;
    let profiles = container.config.profiles();
    let stands = !layers.is_empty() || !snapshots.is_empty() || !container.devices.is_empty();
    let is_plain = !stands && profiles.is_empty() && pool.is_none();
    let used = |network: &&Network| container.nics.iter().any(|nic| nic.network() == Some(&network.name));
    let document = Document {
        version: if is_plain { PLAIN } else { VERSION },
        id: container.id.clone(),
        name: container.name.clone(),
        template: container.template.clone(),
        template_name: Some(container.template_name.clone()),
        id_range: container.id_range.base(),
        uuid: container.uuid.clone(),
        created_at: container.created_at,
        wanted_up: container.wanted_up,
        layers: layers.clone(),
        lease: None,
        pool: pool.clone(),
        config: container.config.own().clone(),
        profiles: profiles.to_vec(),
        networks: networks.iter().filter(used).cloned().collect(),
        nics: container.nics.clone(),
        devices: container.devices.clone(),
        snapshots: snapshots.clone(),
    };
    toml::to_string(&document).expect("strings, integers and tables, which come last, are TOML")
}

/// What `text` describes. Every value that could not have been stored is an error; a field that is not
/// known is none.
pub fn from_toml(text: &str) -> Result<Manifest, ManifestError> {
    if text.len() > MAX_BYTES {
        return Err(ManifestError::TooLong(text.len()));
    }
    let syntax = |err| ManifestError::Syntax(Box::new(err));
    // The version first: fields may mean something else in a later one.
    let version = stored::check_version(text, VERSION).map_err(ManifestError::of_head)?;
    let document: Document = toml::from_str(text).map_err(syntax)?;
    let later = !document.nics.is_empty() || !document.networks.is_empty();
    let stands =
        !document.layers.is_empty() || !document.snapshots.is_empty() || !document.devices.is_empty();
    let too_new = (version < 2 && !document.config.is_empty())
        || (version < 3 && later)
        || (version < VERSION && (stands || document.pool.is_some() || !document.profiles.is_empty()));
    if too_new || (version >= 3 && document.lease.is_some()) {
        return Err(ManifestError::TooNew);
    }
    let (nics, networks) = match document.lease {
        Some(lease) => (vec![of_lease(&lease)], vec![network_of(&lease)?]),
        None => (document.nics, document.networks),
    };
    let container = Container {
        id: document.id,
        name: document.name,
        template_name: document.template_name.unwrap_or_else(|| document.template.to_string()),
        template: document.template,
        pool: document.pool.as_ref().map_or_else(PoolName::default_one, |pool| pool.name.clone()),
        id_range: IdRange::at(document.id_range).ok_or(ManifestError::IdRange(document.id_range))?,
        uuid: document.uuid,
        created_at: document.created_at,
        phase: Phase::Settled,
        wanted_up: document.wanted_up,
        nics,
        devices: document.devices,
        config: Layered::new(document.config, document.profiles),
    };
    container.check().map_err(ManifestError::Field)?;
    for profile in container.config.profiles() {
        check_description(&profile.description).map_err(ManifestError::Profile)?;
    }
    if let Some(pool) = &document.pool {
        pool.check().map_err(ManifestError::Pool)?;
    }
    networks.iter().try_for_each(Network::check).map_err(ManifestError::Network)?;
    for nic in &container.nics {
        let on = networks.iter().find(|network| Some(network.name.as_str()) == nic.network());
        let fits = on.is_none_or(|network| {
            let prefix4 = network.ipv4.map(|net| net.prefix());
            let prefix6 = network.ipv6.map(|net| net.prefix());
            nic.ipv4.is_none_or(|net| network.is_guest_address4(net.ip()) && prefix4 == Some(net.prefix()))
                && nic
                    .ipv6
                    .is_none_or(|net| network.is_guest_address6(net.ip()) && prefix6 == Some(net.prefix()))
        });
        if !fits || (nic.network().is_some() && on.is_none()) {
            let value = nic.addresses().map(|ip| ip.to_string()).collect::<Vec<_>>().join(" ");
            let rule = "a guest's address on its network";
            return Err(ManifestError::Field(FieldError { field: "nics", value, rule }));
        }
    }
    let (pool, layers, snapshots) = (document.pool, document.layers, document.snapshots);
    Ok(Manifest { container, pool, networks, layers, snapshots })
}

/// The one interface that a container of the older versions had.
fn of_lease(lease: &LeaseTable) -> Nic {
    Nic {
        device: "eth0".to_owned(),
        name: "eth0".to_owned(),
        slot: 0,
        kind: NicKind::Bridged { network: lease.bridge.clone() },
        mac: lease.mac,
        ipv4: Some(lease.ipv4),
        gateway4: Some(lease.gateway),
        ipv6: None,
        gateway6: None,
        settings: NicSettings::default(),
    }
}

fn network_of(lease: &LeaseTable) -> Result<Network, ManifestError> {
    let wrong =
        |_| ManifestError::Network(KeyError::wrong("gateway", &lease.gateway.to_string(), "an address"));
    let gateway = Ipv4Network::new(lease.gateway, lease.ipv4.prefix()).map_err(wrong)?;
    Ok(Network::new(&lease.bridge, &lease.bridge, Some(gateway), None))
}

#[cfg(test)]
mod tests;
