//! A database with a range, a network and a template in it, for tests.

use std::path::Path;

use tempfile::TempDir;

use super::{Store, StoreError, containers};
use crate::model::config::Config;
use crate::model::container::{Container, NewContainer, Phase};
use crate::model::ids::{IDS_PER_RANGE, SubordinateIds};
use crate::model::mac::Mac;
use crate::model::name::{ContainerId, Name};
use crate::model::network::Network;
use crate::model::nic::NicRequest;
use crate::model::pool::PoolName;
use crate::model::template::{InitKind, NetworkStyle, Template, TemplateFacts, TemplateId};

pub const RANGE: SubordinateIds = SubordinateIds { start: 1_000_000, count: 201 * IDS_PER_RANGE };

pub fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = stocked(&dir.path().join("nagaya.db"));
    (dir, store)
}

pub fn stocked(path: &Path) -> Store {
    let mut store = Store::open(path).unwrap();
    store.set_range(RANGE).unwrap();
    store.add_network(&network()).unwrap();
    store.add_template("centos7", &template('c'), false).unwrap();
    store
}

pub fn network() -> Network {
    let (ipv4, ipv6) = ("10.9.0.1/24".parse().unwrap(), "fd00:9::1/64".parse().unwrap());
    Network::new("nagaya0", "nagaya0", Some(ipv4), Some(ipv6))
}

/// The template whose id is 64 times `digit`.
pub fn template(digit: char) -> Template {
    let os = "CentOS Linux 7 (Core)".into();
    let facts =
        TemplateFacts { init: InitKind::Systemd, network: NetworkStyle::None, os, arch: "x86_64".into() };
    let id = TemplateId::new(&digit.to_string().repeat(64)).unwrap();
    Template { id, facts, bytes: 1 << 30, created_at: 1_700_000_000 }
}

/// Container number `n`, on the network, of template `c`.
pub fn web(n: u32) -> NewContainer {
    let [_, b, c, d] = n.to_be_bytes();
    NewContainer {
        id: ContainerId::from_random(n),
        name: Name::new(&format!("web{n:02}")).unwrap(),
        template: template('c').id,
        template_name: "centos7".into(),
        layers: Vec::new(),
        pool: PoolName::default_one(),
        snapshots: Vec::new(),
        uuid: format!("{n:032x}"),
        created_at: 1_700_000_000,
        phase: Phase::Creating,
        wanted_up: false,
        devices: Vec::new(),
        nics: vec![NicRequest {
            mac: Some(Mac::guest([0, 0, b, c, d])),
            ..NicRequest::on("eth0", "nagaya0")
        }],
        config: Config::default(),
        profiles: Vec::new(),
        fleet: None,
    }
}

impl Store {
    /// A container without an operation that makes it.
    pub fn create_container(&mut self, new: &NewContainer) -> Result<Container, StoreError> {
        self.write("create a container", |tx| containers::create(tx, new))
    }

    pub fn delete_container(&mut self, id: &ContainerId) -> Result<Option<TemplateId>, StoreError> {
        self.write("delete a container", |tx| containers::delete(tx, id))
    }
}
