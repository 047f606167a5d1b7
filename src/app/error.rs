//! What can go wrong in a verb, what kind of failure it is, and what to type next.

use crate::host::broker::BrokerError;
use crate::host::forwarding::ForwardingError;
use crate::host::grants::GrantsError;
use crate::host::private::PrivateError;
use crate::host::setup::SetupError;
use crate::model::config::ConfigError;
use crate::model::firewall::Problems;
use crate::model::firewall::block::BlockError;
use crate::model::limits::LimitError;
use crate::model::name::Name;
use crate::model::network::KeyError;
use crate::store::StoreError;
use crate::sys::SysError;
use crate::sys::lock::{Holder, LockError};
use crate::sys::nft::NftError;

/// Whose failure it is; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Kind {
    /// The user's mistake, or a refusal.
    User,
    /// The host lacks something.
    Host,
    /// Ours.
    Bug,
    /// The user has interrupted it.
    Interrupted,
}

#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("nagaya must be run as root for this")]
    NotRoot,
    #[error("'{0}' has no containers here")]
    NothingOf(String),
    #[error("'{0}' is a system account: containers are for ordinary users")]
    SystemAccount(String),
    #[error("there is no user '{0}' in /etc/passwd")]
    NoUser(String),
    #[error(transparent)]
    Grant(#[from] crate::model::grant::GrantError),
    #[error(transparent)]
    Grants(#[from] GrantsError),
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error(transparent)]
    Forwarding(#[from] ForwardingError),
    #[error(transparent)]
    Private(#[from] PrivateError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Sys(#[from] SysError),
    #[error(transparent)]
    Lock(LockError),
    #[error(transparent)]
    Nft(#[from] NftError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Limit(#[from] LimitError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("there is no network '{name}'")]
    NoNetwork { name: String, nearest: Option<String> },
    #[error("container '{container}' has no device '{device}'")]
    NoDevice { container: Name, device: String },
    #[error("{wanted} overlaps {taken}, which the host uses")]
    Overlaps { wanted: String, taken: String },
    #[error("there is no container '{name}'")]
    NoContainer { name: Name, nearest: Option<String> },
    #[error("there is no template '{name}'")]
    NoTemplate { name: String, nearest: Option<String> },
    #[error("container '{0}' is not running")]
    NotRunning(Name),
    #[error("container '{0}' is running already")]
    AlreadyRunning(Name),
    #[error("container '{0}' is running")]
    Running(Name),
    /// As `Running`, where nothing can be forced.
    #[error("container '{0}' is running")]
    MustBeStopped(Name),
    #[error("container '{0}' is paused")]
    Frozen(Name),
    #[error("container '{0}' is not paused")]
    NotFrozen(Name),
    #[error("another command is at work on container '{name}'")]
    Busy { name: Name, holder: Option<Holder> },
    #[error("nobody can tell whether container '{0}' runs: its cgroup cannot be read")]
    Unknown(Name),
    /// A clean stop that the operator has interrupted goes on in the guest.
    #[error("interrupted: the guest of container '{name}' has been asked to shut down{}",
            if *restart { ", and is not started again" } else { "" })]
    StopInterrupted { name: Name, restart: bool },
    #[error("container '{name}' has not shut down within {seconds} s")]
    StopTimeout { name: Name, seconds: u64 },
    #[error("container '{name}' has not answered within {seconds} s")]
    WaitTimeout { name: Name, seconds: u64 },
    #[error("container '{name}' has ended: {reason}")]
    Ended { name: Name, reason: String },
    #[error("cannot start container '{name}': {reason}")]
    Start { name: Name, reason: String },
    #[error("container '{name}': {reason}")]
    Monitor { name: Name, reason: String },
    #[error("something of container '{name}' is left: {left}")]
    Left { name: Name, left: String },
    #[error("cannot {what}: {reason}")]
    Template { what: String, reason: String, hint: Option<String>, lacking: bool },
    #[error("no private network of this host is free for '{0}'")]
    NoSubnet(String),
    #[error("invalid firewall policy")]
    Policy(#[from] Problems),
    #[error("that would shut you out: {0}")]
    ShutOut(String),
    #[error("a policy waits to be confirmed, for {0} more")]
    Unconfirmed(String),
    #[error(transparent)]
    Block(#[from] BlockError),
    #[error("this host has no IPv6")]
    NoIpv6,
    #[error("the host's links of {} are gone; only a restart makes them anew", names(.0))]
    CutOff(Vec<Name>),
    #[error("not all of the networks could be repaired: {0}")]
    Unrepaired(String),
    #[error("interrupted")]
    Interrupted,
    #[error("instance '{instance}' stays: {reason}")]
    Stays { instance: String, reason: String, hint: Option<String>, kind: Kind },
    #[error("{0}")]
    Refused(String),
    /// The same with what to type instead.
    #[error("{what}")]
    Advised { what: String, hint: String },
}

/// Containers, as they are listed in a sentence and on a command line.
fn names(all: &[Name]) -> String {
    all.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}

impl AppError {
    pub fn advised(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Advised { what: what.into(), hint: hint.into() }
    }
}

pub type AppResult<T> = Result<T, AppError>;

impl From<LockError> for AppError {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Sys(error) => Self::Sys(error),
            other => Self::Lock(other),
        }
    }
}

impl AppError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Setup(SetupError::ProgramMissing { .. })
            | Self::Private(_)
            | Self::Broker(BrokerError::Lacking(_))
            | Self::Template { lacking: true, .. }
            | Self::Limit(LimitError { lacking: true, .. })
            | Self::Store(
                StoreError::Full { .. }
                | StoreError::ReadOnly { .. }
                | StoreError::NoSliceLeft { .. }
                | StoreError::NoAddressLeft { .. },
            )
            | Self::NoSubnet(_) => Kind::Host,
            Self::Sys(e) if e.is_host_full() || e.is_read_only() => Kind::Host,
            Self::Start { reason, .. } | Self::Template { reason, .. }
                if reason.contains("No space left") || reason.contains("Read-only file system") =>
            {
                Kind::Host
            }
            Self::Broker(BrokerError::Unreachable(_)) => Kind::Bug,
            Self::Interrupted | Self::StopInterrupted { .. } => Kind::Interrupted,
            Self::Stays { kind, .. } => *kind,
            _ => Kind::User,
        }
    }

    /// What to type next, where we know.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NothingOf(user) => format!("make the first: nagaya --owner {user} launch debian12 NAME"),
            Self::SystemAccount(_) => "name a user with a uid from 1000 on, or leave --owner out".to_owned(),
            Self::NotRoot => "run it as root, for example with sudo".to_owned(),
            Self::Config(ConfigError::Unknown { nearest: Some(nearest), .. }) => {
                format!("did you mean '{nearest}'?")
            }
            Self::Limit(LimitError { lacking: true, .. }) => {
                "see which limits this host can enforce: nagaya doctor".to_owned()
            }
            Self::Config(ConfigError::Foreign { key }) => match foreign_key(key) {
                Some(why) => why.to_owned(),
                None => "'nagaya config keys' lists all keys and what they take".to_owned(),
            },
            Self::Config(_) => "'nagaya config keys' lists all keys and what they take".to_owned(),
            Self::Key(KeyError::Unknown { nearest: Some(nearest), .. }) => {
                format!("did you mean '{nearest}'?")
            }
            Self::Key(_) => {
                "'nagaya network keys' and 'nagaya device keys' list all keys and what they take".to_owned()
            }
            Self::NoNetwork { nearest: Some(nearest), .. } => format!("did you mean '{nearest}'?"),
            Self::NoNetwork { nearest: None, .. } => "'nagaya network list' shows the networks".to_owned(),
            Self::NoDevice { container, .. } => format!("see what it has: nagaya device list {container}"),
            Self::Overlaps { .. } => "see what the host uses: ip address; ip route show table all".to_owned(),
            Self::NoContainer { nearest: Some(nearest), .. } => format!("did you mean '{nearest}'?"),
            Self::NoContainer { nearest: None, .. } => "'nagaya list' shows the containers".to_owned(),
            Self::NoTemplate { nearest: Some(nearest), .. } => format!("did you mean '{nearest}'?"),
            Self::NoTemplate { name, nearest: None } if name.contains(':') => {
                "nagaya has no image servers; 'nagaya template recipes' lists what can be built".to_owned()
            }
            Self::NoTemplate { nearest: None, .. } | Self::Store(StoreError::NoSuchTemplate { .. }) => {
                "'nagaya template list' shows the templates, 'nagaya template recipes' what can be built; \
                 'nagaya template import FILE --name NAME' adds one"
                    .to_owned()
            }
            Self::NoIpv6 => "without IPv6: ipv6.address=none".to_owned(),
            Self::CutOff(names) => {
                let names: Vec<&str> = names.iter().map(Name::as_str).collect();
                format!("restart them: nagaya restart {}", names.join(" "))
            }
            Self::Policy(_) => "see what there is: nagaya firewall rules; nagaya firewall export".to_owned(),
            Self::ShutOut(_) => "if you have another way in: the same command with --force".to_owned(),
            Self::Unconfirmed(_) => "keep it: nagaya firewall confirm".to_owned(),
            Self::NotRunning(name) => format!("start it: nagaya start {name}"),
            Self::AlreadyRunning(name) => format!("restart it: nagaya restart {name}"),
            Self::Running(name) => format!("stop it first: nagaya stop {name}, or use --force"),
            Self::MustBeStopped(name) => format!("stop it first: nagaya stop {name}"),
            Self::Frozen(name) => format!("let it go on: nagaya resume {name}"),
            Self::Unknown(name) => {
                format!("see what the kernel says: NAGAYA_LOG=nagaya=debug nagaya info {name}")
            }
            Self::StopInterrupted { name, restart: true } => format!("start it: nagaya start {name}"),
            Self::StopInterrupted { name, restart: false } => {
                format!("see how far it is: nagaya info {name}")
            }
            Self::Busy { holder: Some(holder), .. }
            | Self::Lock(LockError::Held { holder: Some(holder), .. })
            | Self::Store(StoreError::Lock { source: LockError::Held { holder: Some(holder), .. } }) => {
                format!("wait for it, or see what it is: ps -fp {}", holder.pid)
            }
            Self::Busy { .. } | Self::Lock(LockError::Held { .. }) => {
                "wait for it, or see what it is: ps -C nagaya".to_owned()
            }
            Self::Lock(LockError::Foreign { path }) => format!("see whose it is: ls -ld {}", path.display()),
            Self::StopTimeout { name, .. } => format!("end it at once: nagaya stop --force {name}"),
            Self::WaitTimeout { name, .. } | Self::Ended { name, .. } => {
                format!("see what it printed: nagaya logs {name}")
            }
            Self::Stays { hint, .. } => return hint.clone(),
            Self::Advised { hint, .. } => hint.clone(),
            Self::Store(StoreError::AddressLost { container, .. }) => {
                format!("give it another one first: nagaya device list {container}; nagaya device set")
            }
            Self::Private(e) => return e.fix(),
            Self::Left { name, .. } => format!("try again: nagaya delete --force {name}"),
            Self::NoSubnet(_) => "choose one: nagaya setup --subnet 10.1.0.1/20".to_owned(),
            Self::Template { hint: Some(hint), .. } => hint.clone(),
            Self::Template { lacking: true, .. } => "see what is missing: nagaya doctor".to_owned(),
            Self::Grants(GrantsError::Empty(_) | GrantsError::TooLong(_) | GrantsError::Record(_)) => {
                "see what is in it, or take it away and give it anew: nagaya grant USER --remove".to_owned()
            }
            Self::Setup(SetupError::HoldsData { .. }) => {
                "delete it too: the same command with --yes".to_owned()
            }
            Self::Setup(SetupError::ProgramMissing { package, .. }) => format!("apt-get install {package}"),
            Self::Setup(SetupError::ForeignDir { path, wanted, .. }) => {
                format!("if it may become nagaya's: chown {wanted} {}", path.display())
            }
            Self::Broker(BrokerError::Lacking(_)) => "see what is missing: nagaya doctor".to_owned(),
            Self::Store(StoreError::NameTaken { name }) => {
                format!("choose another name, or delete it: nagaya delete {name}")
            }
            Self::Store(StoreError::NoSliceLeft { .. }) => {
                "delete a container that is not needed, or give the service user a longer range of \
                 subordinate ids: see 'nagaya doctor'"
                    .to_owned()
            }
            Self::Store(StoreError::NetworkInUse { .. }) => {
                "delete those containers first, or put their interfaces elsewhere: nagaya device set"
                    .to_owned()
            }
            Self::Store(StoreError::AddressTaken { .. } | StoreError::MacTaken { .. }) => {
                "leave it out to get one that is free; 'nagaya list' shows those that are taken".to_owned()
            }
            Self::Store(StoreError::OutsideNetwork { name, .. }) => {
                format!("see which addresses it has: nagaya network show {name}")
            }
            Self::Store(StoreError::NoAddressLeft { .. }) => {
                "delete a container that is not needed; its address becomes free".to_owned()
            }
            Self::Store(StoreError::BadTemplateName { .. }) => {
                "1 to 128 of letters, digits and '._:/+@-', a letter or digit first".to_owned()
            }
            Self::Store(StoreError::File { .. } | StoreError::Lock { .. }) => {
                "see whether its directory is as it should be: nagaya setup".to_owned()
            }
            Self::Store(StoreError::TemplateInUse { .. }) => "delete those containers first".to_owned(),
            Self::Store(StoreError::TemplateNameTaken { name }) => {
                format!("choose another name, or delete it: nagaya template delete {name}")
            }
            Self::Store(StoreError::Full { .. }) => "make room on that file system: df -h".to_owned(),
            Self::Store(StoreError::ReadOnly { .. }) => {
                "see how its file system is mounted: findmnt -T /var/lib".to_owned()
            }
            Self::Store(StoreError::Corrupt { .. } | StoreError::Foreign { .. }) => {
                "rebuild it from the containers' manifests: nagaya repair".to_owned()
            }
            Self::Store(StoreError::Newer { .. }) => "install that newer nagaya again".to_owned(),
            _ if self.kind() == Kind::Host => "see what the host has left: nagaya doctor".to_owned(),
            _ => return None,
        })
    }
}

/// Why a key of LXD's is not needed here.
fn foreign_key(key: &str) -> Option<&'static str> {
    Some(match key {
        "security.privileged" => "every container is unprivileged, and none can be made otherwise",
        "security.nesting" => {
            "there is nothing to switch: what a guest may do is the same for all containers"
        }
        "security.idmap.isolated" | "security.idmap.size" | "security.idmap.base" => {
            "every container has 65,536 ids of its own anyway"
        }
        "boot.autorestart" => "a service does that: systemctl enable --now nagaya@NAME",
        "limits.network.priority" => {
            "rates are limited by interface: nagaya device set NAME eth0 limits.egress=10Mbit"
        }
        _ if key.starts_with("cloud-init.") => "set it up once it runs: nagaya exec NAME -- COMMAND",
        _ => return None,
    })
}
