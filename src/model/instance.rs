//! One owner's set of containers on a host, and what its things are called. A host normally has the
//! service user's, `nagaya`, and one for each ordinary user; further ones live beside them without
//! touching them.

use std::path::PathBuf;

use super::name::{ContainerId, Name};
use super::network::is_network_name;
use super::nic::MOST_NICS;

/// Where an instance keeps things and what its objects on the host are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    name: String,
    holder: Holder,
}

/// Whose instance it is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Holder {
    /// The service user of the instance's name.
    Service,
    /// An ordinary user, through the host's broker.
    User { uid: u32, user: String },
    /// An ordinary user in daemonless mode, in namespaces of the user's own.
    Daemonless { user: String, state_dir: PathBuf, run_dir: PathBuf },
}

/// A name that cannot be an instance's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' cannot be an instance: 1 to 12 of a-z, 0-9, '-', beginning with a letter")]
pub struct InstanceError(pub String);

impl Default for Instance {
    fn default() -> Self {
        Self { name: "nagaya".to_owned(), holder: Holder::Service }
    }
}

/// Longest name of a network interface, in bytes (IFNAMSIZ less the closing NUL).
const LINK_NAME: usize = 15;

/// How the alias of every bridge of ours begins.
pub const ALIAS: &str = "nagaya: ";

impl Instance {
    /// The service user's. At most 12 characters: the bridge's name adds one and may have 15.
    pub fn new(name: &str) -> Result<Self, InstanceError> {
        let good = (1..=12).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if good {
            Ok(Self { name: name.to_owned(), holder: Holder::Service })
        } else {
            Err(InstanceError(name.to_owned()))
        }
    }

    /// An ordinary user's on the same host, by the host's broker.
    pub fn of_user(&self, uid: u32, user: &str) -> Self {
        Self { name: self.name.clone(), holder: Holder::User { uid, user: user.to_owned() } }
    }

    /// An ordinary user's in daemonless mode, in namespaces and directories of the user's own.
    pub fn daemonless(&self, user: &str, state_dir: PathBuf, run_dir: PathBuf) -> Self {
        Self {
            name: self.name.clone(),
            holder: Holder::Daemonless { user: user.to_owned(), state_dir, run_dir },
        }
    }

    /// What is common to all owners' instances of one kind: the service user's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The uid of the ordinary user to whom it belongs, if that user uses the host's broker.
    pub fn uid_of_user(&self) -> Option<u32> {
        match self.holder {
            Holder::User { uid, .. } => Some(uid),
            _ => None,
        }
    }

    /// Whether it is an ordinary user's in daemonless mode.
    pub fn is_daemonless(&self) -> bool {
        matches!(self.holder, Holder::Daemonless { .. })
    }

    /// The owner: the service user, who has a group of the same name, or the ordinary user.
    pub fn user(&self) -> &str {
        match &self.holder {
            Holder::Service => &self.name,
            Holder::User { user, .. } | Holder::Daemonless { user, .. } => user,
        }
    }

    /// The bridge's name, `nagaya0` or `nagaya-1000`. A uid of more than 8 digits, or a long instance
    /// name, is written shorter: in base 36 with a `z` behind it, which no decimal number has.
    pub fn bridge(&self) -> String {
        let Holder::User { uid, .. } = self.holder else { return format!("{}0", self.name) };
        let plain = format!("{}-{uid}", self.name);
        if plain.len() <= LINK_NAME {
            return plain;
        }
        let tail = format!("-{}z", base36(uid));
        let room = LINK_NAME - tail.len();
        format!("{}{tail}", &self.name[..self.name.len().min(room)])
    }

    /// What the bridge of a further network called `network` may be, the first that is free: the
    /// network's name, or for an ordinary user the uid and a number in base 36, `nagaya-rs.1`.
    pub fn bridges(&self, network: &str) -> Box<dyn Iterator<Item = String> + '_> {
        match self.holder {
            Holder::User { uid, .. } => Box::new((1..36).map(move |n| self.users_bridge(uid, n))),
            _ => Box::new(std::iter::once(network.to_owned())),
        }
    }

    fn users_bridge(&self, uid: u32, number: u32) -> String {
        let tail = format!("-{}.{}", base36(uid), base36(number));
        let room = LINK_NAME - tail.len();
        format!("{}{tail}", &self.name[..self.name.len().min(room)])
    }

    /// Whether a bridge of that name may be this owner's.
    pub fn may_be_bridge(&self, bridge: &str) -> bool {
        if bridge == self.bridge() {
            return true;
        }
        match self.holder {
            Holder::User { uid, .. } => (1..36).any(|n| bridge == self.users_bridge(uid, n)),
            Holder::Daemonless { .. } => is_network_name(bridge),
            Holder::Service => {
                let of_user = bridge.starts_with(&format!("{}-", self.name));
                is_network_name(bridge) && !is_host_link(bridge) && !is_shaper_link(bridge) && !of_user
            }
        }
    }

    /// What an interface of this owner's says of itself on the host (its alias).
    pub fn bridge_alias(&self, network: &str) -> String {
        let way = if self.is_daemonless() { "private " } else { "" };
        format!("{ALIAS}network {network} of {way}{}", self.nft_table())
    }

    /// The name of its tables in nftables, which others append to: `nagaya` or `nagaya-1000`.
    pub fn nft_table(&self) -> String {
        match self.holder {
            Holder::User { uid, .. } => format!("{}-{uid}", self.name),
            _ => self.name.clone(),
        }
    }

    /// Name of its pool in a directory that others may have one in, too.
    pub fn pool_dir(&self) -> String {
        self.nft_table()
    }

    /// Directory of its containers' cgroups below the cgroup v2 mount, where no systemd rules there.
    pub fn cgroup(&self) -> String {
        match self.holder {
            Holder::User { uid, .. } => format!("{}/u{uid}", self.name),
            _ => self.name.clone(),
        }
    }

    /// The systemd slice of its containers. systemd reads the dashes of a slice's name as a path.
    pub fn slice_unit(&self) -> String {
        format!("{}.slice", self.unit_prefix())
    }

    /// The systemd scope of one container.
    pub fn scope_unit(&self, id: &ContainerId) -> String {
        format!("{}-{id}.scope", self.unit_prefix())
    }

    fn unit_prefix(&self) -> String {
        match self.holder {
            Holder::User { uid, .. } => format!("{}-u{uid}", self.name),
            _ => self.name.clone(),
        }
    }

    /// A container's name among all the host's machines. A container's own name has no dot.
    pub fn machine_name(&self, container: &Name) -> String {
        match self.holder {
            Holder::User { uid, .. } => format!("{container}.u{uid}"),
            _ => container.to_string(),
        }
    }

    /// The host's end of a container's link number `slot`, of which there are `MOST_NICS`. An ordinary
    /// user chooses ids freely, so the name says whose it is: a letter for the slot, uid and id in base
    /// 36, the id always of 7 digits.
    pub fn host_link(&self, id: &ContainerId, slot: u8) -> String {
        self.link_name(id, slot, "n", b'u')
    }

    /// The device that the traffic from a guest waits in where its rate is limited, beside
    /// [`Instance::host_link`].
    pub fn shaper_link(&self, id: &ContainerId, slot: u8) -> String {
        self.link_name(id, slot, "i", b'a')
    }

    fn link_name(&self, id: &ContainerId, slot: u8, of_service: &str, of_users: u8) -> String {
        let letter = |first: u8| char::from(first + slot.min(MOST_NICS - 1));
        match self.holder {
            Holder::User { uid, .. } => {
                format!("{}{}{:0>7}", letter(of_users), base36(uid), base36(id.number()))
            }
            _ => format!("{of_service}{}{id}", letter(b'g')),
        }
    }

    /// Where its database, manifests and pool are; the owner's.
    pub fn state_dir(&self) -> PathBuf {
        match &self.holder {
            Holder::Service => PathBuf::from("/var/lib").join(&self.name),
            Holder::User { uid, .. } => self.users_state_dir().join(uid.to_string()),
            Holder::Daemonless { state_dir, .. } => state_dir.clone(),
        }
    }

    /// Where its sockets and locks are, until the next boot of the host; the owner's.
    pub fn run_dir(&self) -> PathBuf {
        match &self.holder {
            Holder::Service => PathBuf::from("/run").join(&self.name),
            Holder::User { uid, .. } => self.users_run_dir().join(uid.to_string()),
            Holder::Daemonless { run_dir, .. } => run_dir.clone(),
        }
    }

    /// Where ordinary users' state directories are; root's.
    pub fn users_state_dir(&self) -> PathBuf {
        PathBuf::from(format!("/var/lib/{}-users", self.name))
    }

    /// Where ordinary users' run directories are; root's.
    pub fn users_run_dir(&self) -> PathBuf {
        PathBuf::from(format!("/run/{}-users", self.name))
    }

    /// Where the administrator's grants are; root's.
    pub fn grants_dir(&self) -> PathBuf {
        PathBuf::from(format!("/etc/{}/grants.d", self.name))
    }

    /// Directory of the broker's socket and, below /var/lib, of its records; root's.
    pub fn hostd_run_dir(&self) -> PathBuf {
        PathBuf::from(format!("/run/{}-hostd", self.name))
    }

    /// Directory of the broker's records that outlive a boot; root's.
    pub fn hostd_state_dir(&self) -> PathBuf {
        PathBuf::from(format!("/var/lib/{}-hostd", self.name))
    }
}

/// Whether `name` is what [`Instance::host_link`] makes of some container: only such links are made
/// and deleted.
pub fn is_host_link(name: &str) -> bool {
    is_link_name(name, b'n', b'u')
}

/// Whether `name` is what [`Instance::shaper_link`] makes of some container.
pub fn is_shaper_link(name: &str) -> bool {
    is_link_name(name, b'i', b'a')
}

fn is_link_name(name: &str, of_service: u8, of_users: u8) -> bool {
    let slots = |first: u8, letter: u8| (first..first + MOST_NICS).contains(&letter);
    match name.as_bytes() {
        [first, second, ..] if *first == of_service && slots(b'g', *second) => {
            name.get(2..).is_some_and(|id| ContainerId::new(id).is_ok())
        }
        [first, ..] if slots(of_users, *first) => name.get(1..).is_some_and(is_uid_and_id),
        _ => false,
    }
}

/// A number of 32 bits in base 36 as [`base36`] writes it, and one of exactly 7 digits behind it.
fn is_uid_and_id(text: &str) -> bool {
    let number = |text: &str| {
        let digits = text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
        u32::from_str_radix(text, 36).ok().filter(|_| digits)
    };
    let (uid, id) = match text.len().checked_sub(7).and_then(|at| text.split_at_checked(at)) {
        Some(parts) => parts,
        None => return false,
    };
    number(uid).is_some_and(|n| base36(n) == uid) && number(id).is_some()
}

fn base36(mut number: u32) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit(number % 36, 36).unwrap_or('0'));
        number /= 36;
        if number == 0 {
            return digits.iter().rev().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_user_has_names_of_its_own_that_fit() {
        let id = ContainerId::from_random(u32::MAX);
        for name in ["nagaya", "n", "twelve-long0"] {
            let service = Instance::new(name).unwrap();
            let mut seen = HashSet::from([service.bridge(), service.host_link(&id, 0)]);
            for uid in [1, 1000, 46_656, 99_999_999, 100_000_000, 1_000_000_000, u32::MAX - 1] {
                let own = service.of_user(uid, "ann");
                assert!(is_host_link(&own.host_link(&id, 0)) && !is_host_link(&own.bridge()));
                for link in [own.bridge(), own.host_link(&id, 0)] {
                    assert!(link.len() <= LINK_NAME, "{link}");
                    assert!(seen.insert(link.clone()), "{link}");
                }
            }
        }
    }

    #[test]
    fn bridges_say_whose_they_are() {
        let service = Instance::default();
        let (ann, bob) = (service.of_user(1000, "ann"), service.of_user(1001, "bob"));
        assert_eq!(service.bridges("dmz").collect::<Vec<_>>(), ["dmz"]);
        assert_eq!(ann.bridges("dmz").next().unwrap(), "nagaya-rs.1");
        for bridge in ann.bridges("dmz").chain([ann.bridge()]) {
            assert!(bridge.len() <= LINK_NAME && ann.may_be_bridge(&bridge), "{bridge}");
            assert!(!bob.may_be_bridge(&bridge) && !service.may_be_bridge(&bridge), "{bridge}");
        }
        assert!(service.may_be_bridge("dmz") && !ann.may_be_bridge("dmz"));
        let id = ContainerId::from_random(7);
        assert!(!service.may_be_bridge(&service.host_link(&id, 0)) && !service.may_be_bridge("a/b"));
    }

    #[test]
    fn the_usual_names_are_readable() {
        let id = ContainerId::from_random(0xab);
        let service = Instance::default();
        let own = service.of_user(1000, "ann");
        assert_eq!((service.bridge(), own.bridge()), ("nagaya0".into(), "nagaya-1000".into()));
        assert_eq!(service.host_link(&id, 0), "ng000000ab");
        assert_eq!(own.host_link(&id, 0), "urs000004r");
        assert_eq!(own.scope_unit(&id), "nagaya-u1000-000000ab.scope");
        assert_eq!(own.slice_unit(), "nagaya-u1000.slice");
        assert_eq!(own.state_dir(), PathBuf::from("/var/lib/nagaya-users/1000"));
        assert_eq!(own.machine_name(&Name::new("web01").unwrap()), "web01.u1000");
    }

    #[test]
    fn links_and_shapers_of_all_slots_differ_and_are_known_again() {
        let service = Instance::default();
        let mut seen = HashSet::new();
        for id in [0, 1, 0x0123_abcd, u32::MAX].map(ContainerId::from_random) {
            for own in [0, 1000, 65_534, u32::MAX].map(|uid| service.of_user(uid, "ann")) {
                for slot in 0..MOST_NICS {
                    for owner in [&service, &own] {
                        let (link, shaper) = (owner.host_link(&id, slot), owner.shaper_link(&id, slot));
                        assert!(link.len() <= LINK_NAME && shaper.len() <= LINK_NAME, "{link} {shaper}");
                        assert!(is_host_link(&link) && !is_shaper_link(&link), "{link}");
                        assert!(is_shaper_link(&shaper) && !is_host_link(&shaper), "{shaper}");
                        seen.extend([link, shaper]);
                    }
                }
            }
        }
        // Four ids, the service and four users, six slots, two names each.
        assert_eq!(seen.len(), 4 * 5 * 6 * 2);
        let id = ContainerId::from_random(0xab);
        assert_eq!(
            (service.host_link(&id, 1), service.shaper_link(&id, 5)),
            ("nh000000ab".into(), "il000000ab".into())
        );
        let own = service.of_user(1000, "ann");
        assert_eq!(
            (own.host_link(&id, 5), own.shaper_link(&id, 0)),
            ("zrs000004r".into(), "ars000004r".into())
        );
    }

    #[test]
    fn other_links_are_nobodys() {
        for name in [
            "",
            "n",
            "ng",
            "nm000000ab",
            "ng000000AB",
            "ng000000abc",
            "ng0123abc",
            "eth0",
            "lo",
            "nagaya0",
            "enp0s31f6",
            "enx001122334455",
            "wlp0s20f3",
            "virbr0",
            "docker0",
            "br-0123456789ab",
            "tun0",
            // An id of more than 32 bits, none, a uid with a zero in front, of more than 32 bits.
            "u11z141z4",
            "u1z141z3",
            "u0rs000004r",
            "u1z141z40000001",
            "urs+00004r",
            "urs00000é",
        ] {
            assert!(!is_host_link(name) && !is_shaper_link(name), "{name}");
        }
    }
}
