//! What is known of each error of a verb beside its text. What comes from another layer says so itself. Every error
//! stands here, so that a new one cannot be forgotten.

use super::AppError;
use crate::model::fault::{Code, Facts, Fault};
use crate::model::name::Name;
use crate::store::NO_TEMPLATE;
use crate::sys::fs::lock;

impl Fault for AppError {
    fn facts(&self) -> Facts {
        let user = Facts::user;
        match self {
            Self::Grants(error) => error.facts(),
            Self::Setup(error) => error.facts(),
            Self::Source(error) => error.facts(),
            Self::Forwarding(error) => error.facts(),
            Self::Daemonless(error) => error.facts(),
            Self::Store(error) => error.facts(),
            Self::Broker(error) => error.facts(),
            Self::Sys(error) => error.facts(),
            Self::Lock(error) => error.facts(),
            Self::Nft(error) => error.facts(),
            Self::Limit(error) => error.facts(),
            Self::Key(error) => error.facts(),
            Self::Policy(error) => error.facts(),
            Self::Block(error) => error.facts(),
            Self::Stays { facts, .. } => facts.clone(),

            Self::Interrupted => Facts::interrupted(),
            Self::Refused(_) => user(Code::Refused),
            Self::Advised { hint, .. } => user(Code::Refused).hint(hint),
            Self::NotRoot => user(Code::NotRoot).hint("run it as root, for example with sudo"),
            Self::NothingOf(owner) => user(Code::OwnerNotSetUp)
                .hint(format!("make the first: nagaya --owner {owner} launch debian12 NAME")),
            Self::SystemAccount(_) => {
                user(Code::SystemAccount).hint("name a user with a uid from 1000 on, or leave --owner out")
            }
            Self::NoUser(_) => user(Code::UserNotFound),
            Self::Newer(_) => Facts::newer(),
            Self::NoOperation(_) => user(Code::OperationNotFound)
                .hint("'nagaya operation list' shows those that are under way and the last hundred"),
            Self::SeveralOperations(_) => {
                user(Code::OperationAmbiguous).hint("give more of the id: nagaya operation list")
            }

            Self::NoTemplate { name, nearest } => {
                user(Code::TemplateNotFound).meant(nearest.as_deref(), no_template(name))
            }
            Self::Template { hint, lack, .. } => or_lack(*lack, Code::TemplateFailed).maybe(hint.clone()),

            Self::NoContainer { nearest, .. } => {
                user(Code::ContainerNotFound).meant(nearest.as_deref(), "'nagaya list' shows the containers")
            }
            Self::NoSnapshot { container, nearest, .. } => {
                let list = format!("see which it has: nagaya snapshot list {container}");
                match nearest {
                    Some(nearest) => user(Code::SnapshotNotFound).hint(format!("did you mean '{nearest}'?")),
                    None => user(Code::SnapshotNotFound).hint(list),
                }
            }
            Self::TooManySnapshots(name) => user(Code::Refused).hint(format!(
                "delete some first: nagaya snapshot list {name}; nagaya snapshot delete {name} NAME"
            )),
            Self::TooManyLayers(name) => user(Code::TooManyLayers)
                .hint(format!("stop it and merge them: nagaya storage optimize {name}")),
            Self::Unfinished { .. } => {
                user(Code::Unfinished).hint("mend that, and type it again; see 'nagaya operation list'")
            }
            Self::Document(error) => error.facts(),
            Self::At { source, .. } => source.facts(),
            Self::Outdated { .. } => user(Code::Outdated).hint("begin again with what it is now"),
            Self::NoProfile { nearest, .. } => user(Code::ProfileNotFound)
                .meant(nearest.as_deref(), "'nagaya profile list' shows the profiles"),
            Self::NoPool { nearest, .. } => {
                user(Code::PoolNotFound).meant(nearest.as_deref(), "'nagaya storage list' shows the pools")
            }
            Self::NoVolume { pool, nearest, .. } => {
                let all = format!("'nagaya storage volume list {pool}' shows its volumes");
                user(Code::VolumeNotFound).meant(nearest.as_deref(), &all)
            }
            Self::VolumeInUse { pool, name, .. } => user(Code::VolumeInUse).hint(format!(
                "take it from them first: nagaya storage volume detach {pool} {name} CONTAINER"
            )),
            Self::PoolUnavailable { .. } => Facts::host(Code::PoolUnavailable).hint(
                "see whether its disk is mounted, and whether others may pass through the directories above",
            ),
            Self::ProfileRefused { source, .. } => source.facts(),
            Self::NotRunning(name) => {
                user(Code::ContainerNotRunning).hint(format!("start it: nagaya start {name}"))
            }
            Self::AlreadyRunning(name) => {
                user(Code::ContainerRunning).hint(format!("restart it: nagaya restart {name}"))
            }
            Self::Running(name) => user(Code::ContainerRunning)
                .hint(format!("stop it first: nagaya stop {name}, or use --force")),
            Self::RunningAsks(_) => {
                user(Code::ContainerRunning).hint("with --stop it is stopped for that, and started again")
            }
            Self::MustBeStopped(name) => {
                user(Code::ContainerRunning).hint(format!("stop it first: nagaya stop {name}"))
            }
            Self::Frozen(name) => {
                user(Code::ContainerPaused).hint(format!("let it go on: nagaya resume {name}"))
            }
            Self::NotFrozen(_) => user(Code::ContainerNotPaused),
            Self::Busy { holder, .. } => user(Code::Busy).hint(lock::wait_for(holder.as_ref())),
            Self::Unknown(name) => user(Code::ContainerStateUnknown)
                .hint(format!("see what the kernel says: NAGAYA_LOG=nagaya=debug nagaya info {name}")),
            Self::StopInterrupted { name, restart: true } => {
                Facts::interrupted().hint(format!("start it: nagaya start {name}"))
            }
            Self::StopInterrupted { name, restart: false } => {
                Facts::interrupted().hint(format!("see how far it is: nagaya info {name}"))
            }
            Self::StopTimeout { name, .. } => {
                user(Code::ShutdownTimeout).hint(format!("end it at once: nagaya stop --force {name}"))
            }
            Self::WaitTimeout { name, .. } => user(Code::WaitTimeout).hint(printed(name)),
            Self::Ended { name, .. } => user(Code::ContainerEnded).hint(printed(name)),
            Self::Start { lack, .. } => or_lack(*lack, Code::ContainerStartFailed),
            Self::Monitor { .. } => user(Code::MonitorFailed),
            Self::Left { name, .. } => {
                user(Code::ContainerRemains).hint(format!("try again: nagaya delete --force {name}"))
            }
            Self::CutOff(names) => {
                user(Code::ContainerCutOff).hint(format!("restart them: nagaya restart {}", typed(names)))
            }

            Self::Terminal(_) => {
                user(Code::SystemCall).hint("try without a terminal: nagaya exec -T NAME -- COMMAND")
            }
            Self::Relay(_) => Facts::bug(Code::SystemCall),
            Self::Input(_) | Self::Printed(_) => user(Code::SystemCall),
            Self::NotPassed(_) => user(Code::DescriptorMissing)
                .hint("it must be 3 or higher, and open in the process that starts 'nagaya engine'"),

            Self::NoNetwork { nearest, .. } => user(Code::NetworkNotFound)
                .meant(nearest.as_deref(), "'nagaya network list' shows the networks"),
            Self::NoDevice { container, .. } => {
                user(Code::DeviceNotFound).hint(format!("see what it has: nagaya device list {container}"))
            }
            Self::NoDeviceOfProfile { profile, .. } => user(Code::DeviceNotFound)
                .hint(format!("see what it has: nagaya profile device list {profile}")),
            Self::Overlaps { .. } => user(Code::NetworkConflict)
                .hint("see what the host uses: ip address; ip route show table all"),
            Self::NoSubnet(_) => {
                Facts::host(Code::NoAddressLeft).hint("choose one: nagaya setup --subnet 10.1.0.1/20")
            }
            Self::NoIpv6 => user(Code::InvalidValue).hint("without IPv6: ipv6.address=none"),
            Self::Unrepaired(_) => user(Code::NetworkNotRepaired),
            Self::ShutOut(_) => {
                user(Code::ShutOut).hint("if you have another way in: the same command with --force")
            }
            Self::Unconfirmed(_) => user(Code::PolicyUnconfirmed).hint("keep it: nagaya firewall confirm"),
        }
    }
}

/// `code`, unless the host has run out of something.
fn or_lack(lack: Option<Code>, code: Code) -> Facts {
    lack.map_or(Facts::user(code), Facts::host)
}

fn no_template(name: &str) -> &'static str {
    match name.contains(':') {
        true => "nagaya has no image servers; 'nagaya template recipes' lists what can be built",
        false => NO_TEMPLATE,
    }
}

/// As they are typed one after the other.
fn typed(names: &[Name]) -> String {
    names.iter().map(Name::as_str).collect::<Vec<_>>().join(" ")
}

fn printed(name: &Name) -> String {
    format!("see what it printed: nagaya logs {name}")
}
