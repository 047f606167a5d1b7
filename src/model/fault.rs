//! What an error has besides its text: whose failure it is, a code that programs compare, and what to type
//! next. Each module's errors give these where they are defined.

use serde::{Deserialize, Serialize};

/// Whose failure it is; decides a command's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

impl Kind {
    /// Of the command that has failed so; 70 is EX_SOFTWARE of sysexits.h. 2 is clap's: wrong usage.
    pub const fn exit_code(self) -> i32 {
        match self {
            Self::User => 1,
            Self::Host => 3,
            Self::Bug => 70,
            Self::Interrupted => 130,
        }
    }
}

/// The codes, as docs/errors.md lists them. One that was released keeps its word and its meaning.
macro_rules! codes {
    ($($name:ident $word:literal $meaning:literal)*) => {
        /// Which error it is, for programs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Code {
            $(#[doc = $meaning] #[serde(rename = $word)] $name,)*
        }

        #[cfg(test)]
        const ALL: &[(Code, &str, &str)] = &[$((Code::$name, $word, $meaning),)*];
    };
}

codes! {
    Refused "refused" "It was refused for a reason that only the message tells."
    NotRoot "not_root" "Only root can do that."
    Interrupted "interrupted" "The user has interrupted it."
    Busy "busy" "Another command is at work on the same thing."
    SystemCall "system_call" "A system call has failed; the message tells which and why."
    DiskFull "disk_full" "No space or no disk quota is left."
    ReadOnly "read_only" "The file system is mounted read-only."
    HostLacks "host_lacks" "The host lacks a program, a kernel facility or a free address that this needs."
    HostCheck "host_check" "A file or directory of nagaya's is not as it should be."
    SetupConflict "setup_conflict" "An account, an id range or a directory of the host is in the way of the set-up."
    SetupFailed "setup_failed" "A step of the set-up has failed."
    InstanceInUse "instance_in_use" "Processes or data of the instance are still there."
    DaemonlessUnavailable "daemonless_unavailable" "This user cannot have containers without nagaya-hostd."
    BrokerUnreachable "broker_unreachable" "The broker does not answer."
    BrokerFailed "broker_failed" "What the broker did for this has failed."
    InvalidRequest "invalid_request" "The request cannot be read, or is longer than it may be."
    DescriptorMissing "descriptor_missing" "The request names a descriptor that was not passed on with it."
    InvalidName "invalid_name" "That cannot be a name."
    InvalidAddress "invalid_address" "That is no address or subnet, or none that can be blocked."
    UserNotFound "user_not_found" "There is no such user."
    SystemAccount "system_account" "The user is a system account."
    OwnerNotSetUp "owner_not_set_up" "That user has no containers."
    GrantInvalid "grant_invalid" "That cannot be a setting of a grant."
    GrantUnreadable "grant_unreadable" "The file of a grant cannot be read."
    UnknownKey "unknown_key" "There is no such key."
    InvalidValue "invalid_value" "The key cannot have that value."
    KeyNotSet "key_not_set" "The key was not set."
    Outdated "outdated" "It was changed while the text was edited that is to replace it."
    LimitRefused "limit_refused" "The limit makes no sense on this host."
    ContainerNotFound "container_not_found" "There is no such container."
    ContainerExists "container_exists" "There is a container of that name."
    ContainerRunning "container_running" "The container runs."
    ContainerNotRunning "container_not_running" "The container does not run."
    ContainerPaused "container_paused" "The container is paused."
    ContainerNotPaused "container_not_paused" "The container is not paused."
    ContainerStateUnknown "container_state_unknown" "The kernel does not tell whether the container runs."
    ContainerStartFailed "container_start_failed" "The container did not start."
    ContainerEnded "container_ended" "The container has ended while it was waited for."
    ContainerRemains "container_remains" "Something of the container could not be removed."
    ContainerCutOff "container_cut_off" "The container has lost its links to the host; a restart makes new ones."
    ShutdownTimeout "shutdown_timeout" "The guest has not shut down in time; it goes on running."
    WaitTimeout "wait_timeout" "The guest has not come up in time; it goes on running."
    MonitorFailed "monitor_failed" "The container's monitor did not do what it was asked."
    NoIdsLeft "no_ids_left" "The range of subordinate ids has no room for another container."
    SnapshotNotFound "snapshot_not_found" "The container has no such snapshot."
    SnapshotExists "snapshot_exists" "The container has a snapshot of that name."
    TooManyLayers "too_many_layers" "The container stands on as many layers as it can."
    Unfinished "unfinished" "An earlier operation on the same thing could not be undone or finished yet."
    TemplateNotFound "template_not_found" "There is no such template."
    TemplateExists "template_exists" "There is a template of that name."
    TemplateInUse "template_in_use" "Containers stand on the template."
    TemplateFailed "template_failed" "The template could not be built or unpacked."
    ProfileNotFound "profile_not_found" "There is no such profile."
    ProfileExists "profile_exists" "There is a profile of that name."
    ProfileInUse "profile_in_use" "Containers use the profile."
    PoolNotFound "pool_not_found" "There is no such storage pool."
    PoolExists "pool_exists" "There is a storage pool of that name, or in that directory."
    PoolInUse "pool_in_use" "Containers are in the storage pool."
    VolumeNotFound "volume_not_found" "The storage pool has no such volume."
    VolumeExists "volume_exists" "The storage pool has a volume of that name."
    VolumeInUse "volume_in_use" "Containers or profiles have the volume as a disk."
    PoolUnavailable "pool_unavailable" "The directory of a storage pool cannot be used: its disk may not be mounted."
    NetworkNotFound "network_not_found" "There is no such network."
    NetworkExists "network_exists" "There is a network of that name."
    NetworkInUse "network_in_use" "Containers are on the network."
    NetworkConflict "network_conflict" "The network or address clashes with another network, or with what the host uses."
    NetworkNotRepaired "network_not_repaired" "Not all of the networks could be repaired."
    AddressTaken "address_taken" "Another interface has the address."
    AddressOutside "address_outside" "The address is none that guests may have on the network."
    NoAddressLeft "no_address_left" "The network has no address left, or the host no subnet."
    DeviceNotFound "device_not_found" "The container has no such device."
    DeviceExists "device_exists" "The container has a device or interface of that name."
    TooManyDevices "too_many_devices" "The container has as many interfaces as it can."
    OperationNotFound "operation_not_found" "There is no such operation, or none any more."
    OperationAmbiguous "operation_ambiguous" "The ids of several operations begin so."
    PolicyInvalid "policy_invalid" "The firewall's policy is invalid."
    PolicyUnconfirmed "policy_unconfirmed" "A policy of the firewall waits to be confirmed."
    ShutOut "shut_out" "The change would cut the operator's own ssh connection."
    DatabaseMissing "database_missing" "Nothing is set up: there is no database."
    DatabaseNewer "database_newer" "A newer nagaya has written the database."
    FileNewer "file_newer" "A newer nagaya has written a file that the command would lose or misunderstand."
    DatabaseDamaged "database_damaged" "The database is damaged, or another program's."
    DatabaseFailed "database_failed" "The database did not do what it was asked."
}

/// What an error has besides its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub kind: Kind,
    pub code: Code,
    /// What to type next, where that is known.
    pub hint: Option<String>,
    /// The name that was probably meant.
    pub nearest: Option<String>,
}

impl Facts {
    /// The user's mistake, or a refusal.
    pub fn user(code: Code) -> Self {
        Self { kind: Kind::User, code, hint: None, nearest: None }
    }

    /// The host lacks something.
    pub fn host(code: Code) -> Self {
        let hint = match code {
            Code::HostLacks => "see what is missing: nagaya doctor",
            _ => "see what the host has left: nagaya doctor",
        };
        Self { kind: Kind::Host, code, hint: Some(hint.to_owned()), nearest: None }
    }

    /// Something that a later nagaya has written; it is not changed.
    pub fn newer() -> Self {
        Self::user(Code::FileNewer).hint("install that newer nagaya again")
    }

    pub fn interrupted() -> Self {
        Self { kind: Kind::Interrupted, code: Code::Interrupted, hint: None, nearest: None }
    }

    pub fn bug(code: Code) -> Self {
        Self { kind: Kind::Bug, code, hint: None, nearest: None }
    }

    /// With what to type next.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same, where that is known.
    pub fn maybe(self, hint: Option<String>) -> Self {
        Self { hint: hint.or(self.hint), ..self }
    }

    /// With the name that was probably meant; without one, `otherwise`.
    pub fn meant(self, nearest: Option<&str>, otherwise: &str) -> Self {
        let hint = nearest.map_or_else(|| otherwise.to_owned(), |name| format!("did you mean '{name}'?"));
        Self { nearest: nearest.map(str::to_owned), ..self.hint(hint) }
    }
}

/// An error that has more than its text.
pub trait Fault: std::error::Error {
    fn facts(&self) -> Facts;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_the_documentation() {
        let (_, table) = include_str!("../../docs/errors.md").split_once("| code |").unwrap();
        let documented: Vec<&str> = table.lines().filter(|line| line.starts_with("| `")).collect();
        let rows: Vec<String> =
            ALL.iter().map(|(_, word, meaning)| format!("| `{word}` | {meaning} |")).collect();
        assert_eq!(documented, rows);
    }

    #[test]
    fn codes_are_plain_words() {
        for (code, word, _) in ALL {
            assert!(word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{word}");
            assert_eq!(serde_json::to_value(code).unwrap(), *word);
        }
    }
}
