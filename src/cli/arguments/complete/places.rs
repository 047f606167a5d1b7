//! What each word of the command line may be.

/// What is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A container, whatever it does.
    Container,
    Running,
    /// Running or paused.
    Up,
    Paused,
    Stopped,
    /// Of the container that was named before.
    Device,
    /// Of the container that was named before.
    Snapshot,
    /// A container or, behind a slash, one of its snapshots.
    Source,
    /// A container and, behind a slash, a path in it.
    ContainerPath,
    Template,
    /// A template, or a recipe of one.
    Buildable,
    Recipe,
    Pool,
    /// Of the pool that was named before, or of any.
    Volume,
    Profile,
    /// Profiles with commas.
    Profiles,
    Network,
    /// A network, or none.
    NetworkOrNone,
    Group,
    Set,
    /// A container, network:NAME or group:NAME.
    Target,
    /// A container or network:NAME.
    DefaultTarget,
    /// Words of a rule.
    Rule,
    Proto,
    /// Addresses, which cannot be completed, or set:NAME.
    Peer,
    Direction,
    DefaultPair,
    /// A name, or KEY=VALUE that a list is filtered by.
    ListWord,
    ListColumn,
    ConfigKey,
    /// A key that was set for the container that was named before.
    ConfigKeySet,
    ConfigPair,
    NetworkKey,
    NetworkPair,
    DeviceKey,
    DevicePair,
    GrantPair,
    /// An ordinary user of the host.
    Account,
    /// Free text: nothing is offered.
    Anything,
}

/// What the argument `id` of the verb `path` may be; None if clap knows.
pub fn what(path: &str, id: &str) -> Option<What> {
    use What::*;
    let found = PLACES.iter().find(|(verbs, ids, _)| {
        ids.split(' ').any(|known| known == id)
            && verbs.split(", ").any(|known| known == path || known == "*")
    });
    // An argument "name" of a verb that is not in the table means a container's name.
    found.map(|(_, _, what)| *what).or(match id {
        "container" | "containers" => Some(Container),
        _ => None,
    })
}

use What::*;

/// Verbs, their arguments, and what those are. The first that fits counts.
const PLACES: &[(&str, &str, What)] = &[
    ("*", "owner", Account),
    ("launch, create", "template", Buildable),
    ("launch, create, template import, network create", "name", Anything),
    ("launch, create, copy", "config", ConfigPair),
    ("launch, create, copy", "network", NetworkOrNone),
    ("launch, create", "ip devices", Anything),
    ("launch, create", "profile", Profiles),
    ("profile create", "profile", Anything),
    ("profile create", "config", ConfigPair),
    ("profile set", "pairs", ConfigPair),
    ("profile get, profile unset", "key keys", ConfigKey),
    ("profile create, profile set", "description", Anything),
    ("profile copy, profile rename", "to", Anything),
    ("profile assign, profile add, profile remove", "name", Container),
    (
        "profile device add, profile device get, profile device set, profile device unset, profile device remove, \
         profile device list",
        "profile",
        Profile,
    ),
    (
        "profile device add, profile device get, profile device set, profile device unset, profile device remove",
        "device",
        Anything,
    ),
    ("profile device add, profile device set", "pairs", DevicePair),
    ("profile device get, profile device unset", "key keys", DeviceKey),
    ("profile assign", "profiles", Profiles),
    (
        "profile show, profile edit, profile get, profile set, profile unset, profile copy, profile rename, profile delete, \
         profile add, profile remove",
        "profile",
        Profile,
    ),
    ("start", "names", Stopped),
    ("run, mount", "name", Stopped),
    ("mount", "command", Anything),
    ("stop, restart", "names", Up),
    ("restart", "wait_timeout", Anything),
    ("pause", "names", Running),
    ("resume", "names", Paused),
    ("delete, info, wait", "names name", Container),
    ("list", "names", ListWord),
    ("list", "columns", ListColumn),
    ("exec, shell, console", "name names", Up),
    ("exec, shell", "env cwd user command line", Anything),
    ("shell", "user command", Anything),
    ("logs", "name names", Container),
    ("file pull", "sources", ContainerPath),
    ("file push", "target", ContainerPath),
    ("file list, file edit, file delete", "path paths file", ContainerPath),
    ("file push", "uid gid mode", Anything),
    (
        "snapshot create, snapshot list, snapshot show, snapshot restore, snapshot rename, snapshot expire, snapshot delete",
        "name",
        Container,
    ),
    ("snapshot create", "snapshot comment expires", Anything),
    (
        "snapshot show, snapshot restore, snapshot rename, snapshot expire, snapshot delete",
        "snapshot snapshots",
        Snapshot,
    ),
    ("snapshot rename", "new_name", Anything),
    ("snapshot expire", "after", Anything),
    ("copy, publish, diff", "source", Source),
    ("diff", "from", Snapshot),
    ("copy", "target wait_timeout", Anything),
    ("publish", "template", Anything),
    ("rebuild", "name", Container),
    ("rebuild", "template", Buildable),
    ("storage optimize", "names", Stopped),
    ("storage create", "name description", Anything),
    ("storage volume create", "volume pairs description", Anything),
    ("storage volume rename", "new_name", Anything),
    ("storage volume set, storage volume unset", "pairs keys description", Anything),
    ("storage volume attach", "place", Anything),
    ("storage volume attach, storage volume detach", "name", Container),
    (
        "storage volume create, storage volume list, storage volume show, storage volume set, storage volume unset, \
         storage volume rename, storage volume delete, storage volume attach, storage volume detach",
        "pool",
        Pool,
    ),
    (
        "storage volume show, storage volume set, storage volume unset, storage volume rename, storage volume delete, \
         storage volume attach, storage volume detach",
        "volume",
        Volume,
    ),
    ("storage show, storage set, storage delete", "pool", Pool),
    ("launch, create, copy", "storage", Pool),
    ("storage set", "description", Anything),
    ("rename", "from", Container),
    ("rename", "to", Anything),
    ("config set", "words", ConfigPair),
    ("config set, config get, config unset, config show, config edit, config diff", "name names", Container),
    ("config set", "pairs", ConfigPair),
    ("config get", "key keys", ConfigKey),
    ("config unset", "keys words", ConfigKeySet),
    ("network show, network delete, network set, network unset", "name names", Network),
    ("network create, network set", "pairs", NetworkPair),
    ("network unset", "keys", NetworkKey),
    (
        "device add, device get, device set, device unset, device remove, device list, device show",
        "name",
        Container,
    ),
    ("device add", "device", Anything),
    ("device get, device set, device unset, device remove", "device", Device),
    ("device add, device set", "pairs", DevicePair),
    ("device get, device unset", "key keys", DeviceKey),
    ("firewall allow, firewall deny, firewall reject, firewall remove, firewall rules", "target", Target),
    ("firewall allow, firewall deny, firewall reject", "words", Rule),
    ("firewall allow, firewall deny, firewall reject", "from to", Peer),
    ("firewall default", "target", DefaultTarget),
    ("firewall default", "pairs", DefaultPair),
    ("firewall remove", "direction", Direction),
    ("firewall trace", "proto", Proto),
    ("firewall set add, firewall set remove, firewall set delete", "name", Set),
    ("firewall group join, firewall group leave, firewall group delete", "name", Group),
    ("firewall set create, firewall group create", "name", Anything),
    ("forward add, forward remove", "proto", Proto),
    ("template build", "name", Recipe),
    ("template show, template delete", "name names", Template),
    ("operation show", "operation", Anything),
    ("grant", "user", Account),
    ("grant", "settings", GrantPair),
];
