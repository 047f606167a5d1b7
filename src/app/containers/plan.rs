//! A start, planned: all that it needs, computed once before anything is claimed or begun.

use std::net::IpAddr;

use super::attached::Attached;
use super::given::Given;
use super::guest_config;
use crate::app::config::limits;
use crate::app::error::AppResult;
use crate::app::instance::App;
use crate::app::network;
use crate::app::storage::quota;
use crate::model::container::Container;
use crate::model::layer::LayerId;
use crate::model::limits::Limits;
use crate::model::network::Network;
use crate::model::nic::NicOrder;
use crate::model::template::TemplateFacts;
use crate::runtime::config::MonitorConfig;
use crate::store::StoreError;

/// What a start depends on besides the container's own row.
pub struct Circumstances {
    pub template: TemplateFacts,
    /// Those that the container stands on above its template, the lowest first.
    pub layers: Vec<LayerId>,
    /// Those that the container is on, in the order of its interfaces, each once.
    pub networks: Vec<Network>,
    /// Those that the host enforces and the grant holds.
    pub limits: Limits,
    /// Whom the guest is to ask for names.
    pub resolvers: Vec<IpAddr>,
    /// Directories and device nodes of the host's.
    pub given: Given,
}

/// All that a start needs, or that taking over a guest needs whose monitor is gone.
#[derive(Debug, Clone, PartialEq)]
pub struct StartPlan {
    pub container: Container,
    /// Those that it stands on above its template, the lowest first.
    pub layers: Vec<LayerId>,
    pub networks: Vec<Network>,
    pub limits: Limits,
    /// The interfaces, as the broker makes them.
    pub orders: Vec<NicOrder>,
    /// Directories and device nodes of the host's.
    pub given: Given,
    /// What the monitor is told.
    pub config: MonitorConfig,
    /// What the guest was given, to be kept for as long as it runs.
    pub attached: Attached,
    /// What the operator should know, a sentence each.
    pub notes: Vec<String>,
}

impl StartPlan {
    /// The plan of a start; or, with `adopt`, of taking over the guest whose init has that process number.
    ///
    /// # Errors
    /// Where the system call filter cannot be made.
    pub fn of(container: &Container, circumstances: Circumstances, adopt: Option<i32>) -> AppResult<Self> {
        let Circumstances { template, layers, networks, limits, resolvers, given } = circumstances;
        let lack = guest_config::lack_of_resolvers(&container.name, &container.nics, &resolvers);
        let mut config =
            guest_config::build(container, &template, &limits.rlimits, adopt, &networks, resolvers)?;
        config.mounts.clone_from(&given.mounts);
        Ok(Self {
            orders: network::orders(container, &networks),
            attached: Attached::of(container, &networks),
            // A guest that runs was told of it when it was started.
            notes: lack.filter(|_| adopt.is_none()).into_iter().collect(),
            container: container.clone(),
            layers,
            networks,
            limits,
            config,
            given,
        })
    }

    /// The process number of the init that is taken over; none for a start.
    pub fn adopts(&self) -> Option<i32> {
        self.config.adopt
    }
}

/// Plans with what the database and the host say now. Nothing is changed by it.
pub fn plan(app: &App, container: &Container, adopt: Option<i32>) -> AppResult<StartPlan> {
    let template = app
        .store
        .template(&container.template)?
        .ok_or_else(|| StoreError::TemplateGone { id: container.template.clone() })?;
    let networks = network::of(app, container)?;
    let limits = match limits::granted(app, &container.name, container.config.expanded(), &container.id) {
        // The limits that the kernel has stay.
        Err(_) if adopt.is_some() => Limits::default(),
        other => other?,
    };
    let resolvers = guest_config::resolvers(&app.instance, &networks);
    let layers = app.store.chain(&container.id)?.layers;
    for device in container.all_devices().into_iter().map(|(device, _)| device).filter(|_| adopt.is_none()) {
        quota::check(app, &container.pool, device)?;
    }
    let given = match Given::of(app, container) {
        // What the guest has stays.
        Err(_) if adopt.is_some() => Given::default(),
        other => other?,
    };
    let circumstances =
        Circumstances { template: template.facts, layers, networks, limits, resolvers, given };
    StartPlan::of(container, circumstances, adopt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::container::Phase;
    use crate::model::ids::IdRange;
    use crate::model::name::{ContainerId, Name};
    use crate::model::pool::PoolName;
    use crate::model::profile::Layered;
    use crate::model::template::{InitKind, NetworkStyle, TemplateId};
    use crate::sys::net::netns_fixture::nic;

    fn container() -> Container {
        Container {
            id: ContainerId::from_random(1),
            name: Name::new("web01").unwrap(),
            template: TemplateId::new(&"c".repeat(64)).unwrap(),
            template_name: "centos7".into(),
            pool: PoolName::default_one(),
            id_range: IdRange::at(1 << 20).unwrap(),
            uuid: "0".repeat(32),
            created_at: 1,
            phase: Phase::Starting,
            wanted_up: true,
            nics: vec![nic("eth0", 1)],
            devices: Vec::new(),
            config: Layered::default(),
        }
    }

    fn given() -> Circumstances {
        let os = "CentOS Linux 7 (Core)".into();
        let facts =
            TemplateFacts { init: InitKind::Systemd, network: NetworkStyle::None, os, arch: "x86_64".into() };
        let mut network = Network::new("lan", "lan", Some("10.9.0.1/24".parse().unwrap()), None);
        (network.mtu, network.isolated, network.domain) = (Some(1400), true, Some("test.example".into()));
        Circumstances {
            template: facts,
            layers: vec![],
            networks: vec![network],
            limits: Limits::default(),
            resolvers: vec![],
            given: Given::default(),
        }
    }

    #[test]
    fn what_a_network_says_reaches_broker_guest_and_record() {
        let mut container = container();
        container.nics[0].kind = crate::model::nic::NicKind::Bridged { network: "lan".into() };
        let plan = StartPlan::of(&container, given(), None).unwrap();
        assert_eq!((plan.orders[0].mtu, plan.orders[0].isolated), (Some(1400), true));
        assert_eq!(plan.config.nics[0].settings.mtu, Some(1400));
        assert_eq!(plan.config.guest.domain.as_deref(), Some("test.example"));
        assert_eq!(plan.attached.nics, plan.orders);
        assert_eq!(plan.config.init_kind, InitKind::Systemd);
        assert!(plan.config.env.iter().any(|(name, _)| name == "NOTIFY_SOCKET"));
    }

    #[test]
    fn the_operator_is_told_at_a_start_and_not_when_a_guest_is_taken_over() {
        let start = StartPlan::of(&container(), given(), None).unwrap();
        assert!(start.notes[0].contains("has no resolver"), "{:?}", start.notes);
        let taken_over = StartPlan::of(&container(), given(), Some(17)).unwrap();
        assert_eq!((taken_over.notes.len(), taken_over.adopts()), (0, Some(17)));
        let again = StartPlan::of(&container(), given(), Some(17)).unwrap();
        assert_eq!(again, taken_over, "a plan depends on nothing else");
    }
}
