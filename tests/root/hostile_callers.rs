//! Every method of the broker's interface, called straight over D-Bus by an ordinary user whose
//! arguments are not what a command of ours would send.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use nagaya::broker::Mac;
use nagaya::broker::Network;
use nagaya::broker::{Carries, Descriptors, Line, Packet, Verb};
use nagaya::broker::{IoMax, Limits, Rlimit};
use nagaya::broker::{Nic, NicKind, NicOrder, NicSettings};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde_json::{Value, json};

use super::host::{random_hex, run_tool};
use super::hostd_users::{HostdUser, HostdUsers};

/// What a caller holds that is in order.
pub(super) struct Kit {
    _dir: tempfile::TempDir,
    tree: OwnedFd,
    config: OwnedFd,
    control: OwnedFd,
    file: OwnedFd,
}

impl Kit {
    /// To be made by the ordinary user; `tree` is a directory of the ordinary user's storage ids.
    pub(super) fn new(user: &HostdUser<'_>) -> Self {
        let dir = tempfile::Builder::new().prefix("kit").tempdir_in("/tmp").expect("make a directory");
        let pool = fs::File::open(user.state_dir().join("pool")).or_else(|_| {
            use std::os::unix::fs::OpenOptionsExt;
            let mut options = fs::OpenOptions::new();
            options.read(true).custom_flags(rustix::fs::OFlags::PATH.bits() as i32);
            options.open(user.state_dir().join("pool"))
        });
        let config = sealed(b"{}");
        let control = socket(SocketType::SEQPACKET, &dir.path().join("control"));
        let path = dir.path().join("state");
        let mut options = fs::OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(false).open(path).expect("make a file");
        Self { _dir: dir, tree: pool.expect("open the pool").into(), config, control, file: file.into() }
    }

    /// The descriptors of a spawn, by name.
    pub(super) fn fds(&self) -> Vec<(&'static str, OwnedFd)> {
        let (tree, file) = (&self.tree, &self.file);
        let all = [("template", tree), ("data", tree), ("config", &self.config), ("control", &self.control)];
        let all = all.into_iter().chain([("state", file), ("log", file), ("other-log", file)]);
        all.map(|(name, fd)| (name, fd.try_clone().expect("duplicate a descriptor"))).collect()
    }
}

pub(super) fn sealed(bytes: &[u8]) -> OwnedFd {
    let fd = rustix::fs::memfd_create("config", MemfdFlags::ALLOW_SEALING).expect("make a memory file");
    // Its reader begins where the giver's position is.
    let written = rustix::io::pwrite(&fd, bytes, 0).expect("write");
    assert_eq!(written, bytes.len());
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW;
    rustix::fs::fcntl_add_seals(&fd, seals).expect("seal");
    fd
}

fn socket(kind: SocketType, path: &Path) -> OwnedFd {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::empty(), None).expect("socket");
    rustix::net::bind(&socket, &SocketAddrUnix::new(path).expect("an address")).expect("bind");
    rustix::net::listen(&socket, 1).expect("listen");
    socket
}

/// Any answer.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Answer {
    #[serde(flatten)]
    pub(super) fields: serde_json::Map<String, Value>,
    #[serde(skip)]
    descriptors: Descriptors,
}

impl Carries for Answer {
    fn descriptors(&mut self) -> Option<&mut Descriptors> {
        Some(&mut self.descriptors)
    }
}

pub(super) fn packet(text: &str, fds: Vec<(&str, OwnedFd)>) -> Packet {
    let mut descriptors = Descriptors::default();
    fds.into_iter().for_each(|(name, fd)| descriptors.add(name, fd));
    Packet::of(text.to_owned(), descriptors).expect("a packet")
}

/// One caller's connection to the bus.
pub(super) struct Caller {
    runtime: tokio::runtime::Runtime,
    line: Line,
    /// How often each verb was refused.
    refusals: RefCell<BTreeMap<&'static str, usize>>,
}

impl Caller {
    pub(super) fn new(address: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let bus = zbus::connection::Builder::address(address).build();
        let line = Line::to_hostd(runtime.block_on(bus).expect("reach the bus"));
        Self { runtime, line, refusals: RefCell::default() }
    }

    pub(super) fn line(&self) -> &Line {
        &self.line
    }

    pub(super) fn runtime(&self) -> &tokio::runtime::Runtime {
        &self.runtime
    }

    /// How often this verb was refused.
    pub(super) fn refusals(&self, verb: Verb) -> usize {
        self.refusals.borrow().get(verb.name()).copied().unwrap_or_default()
    }

    /// Calls a verb with any text.
    pub(super) fn call(&self, verb: Verb, text: &str, fds: Vec<(&str, OwnedFd)>) -> Result<Answer, String> {
        let answer = self.runtime.block_on(self.line.pass(verb, &packet(text, fds)));
        let answer = answer.and_then(|answer| answer.open(usize::MAX)).map_err(|e| format!("{e:?}"));
        if answer.as_ref().is_err_and(|why| why.starts_with("Refused(")) {
            *self.refusals.borrow_mut().entry(verb.name()).or_default() += 1;
        }
        answer
    }

    pub(super) fn ask(&self, verb: Verb, request: &Value) -> Result<Answer, String> {
        self.call(verb, &request.to_string(), Vec::new())
    }

    pub(super) fn spawn(&self, order: &Value, fds: Vec<(&str, OwnedFd)>) -> Result<(), String> {
        self.call(Verb::Spawn, &order.to_string(), fds).map(drop)
    }

    /// The process number of the init that has been started.
    pub(super) fn started(&self, order: &Value, fds: Vec<(&str, OwnedFd)>) -> Result<i32, String> {
        let answer = self.call(Verb::Spawn, &order.to_string(), fds)?;
        Ok(answer.fields["init"].as_i64().expect("a process number") as i32)
    }

    pub(super) fn ensure_network(&self, network: &str) -> Result<(), String> {
        self.call(Verb::EnsureNetwork, &format!("{{\"network\": {network}}}"), Vec::new()).map(drop)
    }

    pub(super) fn remove_network(&self, network: &str) -> Result<(), String> {
        self.call(Verb::RemoveNetwork, &format!("{{\"network\": {network}}}"), Vec::new()).map(drop)
    }

    fn link(&self, verb: Verb, container: &str, nic: &str) -> Result<(), String> {
        self.call(verb, &format!("{{\"container\": {}, \"nic\": {nic}}}", json!(container)), Vec::new())
            .map(drop)
    }

    pub(super) fn adjust_link(&self, container: &str, nic: &str) -> Result<(), String> {
        self.link(Verb::AdjustLink, container, nic)
    }

    pub(super) fn mend_link(&self, container: &str, nic: &str) -> Result<(), String> {
        self.link(Verb::MendLink, container, nic)
    }

    pub(super) fn apply_firewall(&self, plan: &str) -> Result<(), String> {
        self.call(Verb::ApplyFirewall, &format!("{{\"plan\": {plan}}}"), Vec::new()).map(drop)
    }

    pub(super) fn change_firewall(&self, change: &str) -> Result<(), String> {
        self.call(Verb::ChangeFirewall, &format!("{{\"change\": {change}}}"), Vec::new()).map(drop)
    }

    pub(super) fn forget_container(&self, container: &str, addresses: &[&str]) -> Result<(), String> {
        self.ask(Verb::ForgetContainer, &json!({"container": container, "addresses": addresses})).map(drop)
    }

    pub(super) fn block(&self, add: &[u8], members: &str) -> Result<(), String> {
        let fds = vec![("add", sealed(add)), ("remove", sealed(&[]))];
        self.call(Verb::Block, &format!("{{\"members\": {members}}}"), fds).map(drop)
    }

    pub(super) fn ensure_names(&self, network: &str, leases: &str) -> Result<(), String> {
        let text = format!("{{\"network\": {network}, \"leases\": {leases}}}");
        self.call(Verb::EnsureNames, &text, Vec::new()).map(drop)
    }

    pub(super) fn clear(&self, container: &str) -> Result<Vec<String>, String> {
        let answer = self.ask(Verb::Clear, &json!({"container": container}))?;
        Ok(serde_json::from_value(answer.fields["left"].clone()).expect("what is left"))
    }

    pub(super) fn set_limits(&self, container: &str, limits: Limits) -> Result<(), String> {
        self.ask(Verb::SetLimits, &json!({"container": container, "limits": limits})).map(drop)
    }

    pub(super) fn attach_lxcfs(&self, container: &str) -> Result<(), String> {
        self.ask(Verb::AttachLxcfs, &json!({"container": container})).map(drop)
    }

    pub(super) fn register_machine(&self, container: &str, name: &str, uuid: &str) -> Result<(), String> {
        self.ask(Verb::RegisterMachine, &json!({"container": container, "name": name, "uuid": uuid}))
            .map(drop)
    }

    pub(super) fn storage_namespace(&self) -> Result<OwnedFd, String> {
        let mut answer = self.ask(Verb::StorageNamespace, &json!({}))?;
        answer.descriptors.take("namespace").map_err(|e| format!("{e:?}"))
    }
}

pub(super) fn refused<T: std::fmt::Debug>(what: &str, answer: Result<T, String>) {
    match answer {
        Err(why) if why.starts_with("Refused(") => {}
        // Longer than any message to hostd: its arguments were left out.
        Err(why) if what.len() > 60_000 && why.contains("InvalidArgs") => {}
        other => panic!("{what:.100}: {other:?}"),
    }
}

/// A container to start, with its descriptors as [`Kit::fds`] names them.
pub(super) fn order(user: &HostdUser<'_>) -> Value {
    json!({
        "container": random_hex(4), "name": "web01", "first_id": user.range().0 + 65_536,
        "layers": [{"descriptor": "template"}], "mounts": [{"name": "data"}],
    })
}

/// The same with another `key`.
pub(super) fn with(order: &Value, key: &str, value: impl Into<Value>) -> Value {
    let mut order = order.clone();
    order[key] = value.into();
    order
}

fn base36(mut number: u32) -> String {
    let mut digits = String::new();
    while number > 0 {
        digits.insert(0, char::from_digit(number % 36, 36).expect("a digit"));
        number /= 36;
    }
    digits
}

/// A network as a command describes it, with `ipv4` as it is.
pub(super) fn network(bridge: &str, ipv4: &str) -> String {
    let mut network = json!(Network::new("net", "net", None, None));
    (network["bridge"], network["ipv4"]) = (json!(bridge), json!(ipv4));
    network.to_string()
}

/// The same with `changes` to its fields.
pub(super) fn changed(text: &str, changes: &Value) -> String {
    let mut value: Value = serde_json::from_str(text).expect("JSON");
    for (key, new) in changes.as_object().expect("an object") {
        value[key] = new.clone();
    }
    value.to_string()
}

/// An interface as a command describes it.
pub(super) fn interface(bridge: &str) -> Value {
    let nic = Nic {
        device: "eth0".to_owned(),
        name: "eth0".to_owned(),
        slot: 0,
        kind: NicKind::Bridged { network: "net".to_owned() },
        mac: Mac([2, 0, 0, 0, 0, 1]),
        ipv4: None,
        gateway4: None,
        ipv6: None,
        gateway6: None,
        settings: NicSettings::default(),
    };
    json!(NicOrder { nic, bridge: bridge.to_owned(), isolated: false, mtu: None })
}

/// What the host shows of links, tables and mounts, without what other tests' instances have.
pub(super) fn view(users: &HostdUsers) -> Vec<String> {
    let own = users.host.name();
    let links = run_tool("ip", &["-o", "link"]);
    // Number, name and master say whose a link is; its state may change by itself.
    let links =
        links.lines().map(|line| line.split(" state ").next().unwrap_or(line).replace("NO-CARRIER,", ""));
    let links = links.map(|line| line.replace(",LOWER_UP", ""));
    let others = [run_tool("nft", &["list", "tables"]), run_tool("findmnt", &["-rn", "-o", "TARGET"])];
    let others: Vec<String> = others.iter().flat_map(|text| text.lines()).map(str::to_owned).collect();
    links.chain(others).filter(|line| line.contains(own) || !line.contains("ngt")).collect()
}

#[test]
fn nothing_is_to_be_had_before_setup() {
    let users = HostdUsers::new(1);
    let ann = users.user(0);
    users.host.ok(&["grant", &ann.name, "allow=true"]);
    let address = users.address();
    ann.does(|| {
        let caller = Caller::new(&address);
        refused("a namespace", caller.storage_namespace());
        refused("a clearance", caller.clear("00000000"));
        let order =
            json!({"container": "00000000", "name": "x", "first_id": 65_536, "layers": [], "mounts": []});
        refused("a container", caller.spawn(&order, Vec::new()));
    });
}

#[test]
fn networks_of_others_and_of_the_host_are_refused() {
    let users = HostdUsers::new(2);
    let (ann, bob) = (users.granted(0), users.granted(1));
    ann.ok(&["launch", "tiny", "one"]);
    let taken = ann.info("one")["gateway"].as_str().expect("a gateway").to_owned();
    let own = format!("{}-{}", users.host.name(), bob.uid);
    let others = format!("{}-{}", users.host.name(), ann.uid);
    let address = users.address();
    let before = view(&users);
    bob.does(|| {
        let caller = Caller::new(&address);
        let long = "x".repeat(70_000);
        for bridge in ["eth0", "lo", "", "..", "../nagaya0", "a b", &others, &long, "x\n", "%d"] {
            refused(bridge, caller.ensure_network(&network(bridge, "10.99.0.1/24")));
            refused(bridge, caller.remove_network(&network(bridge, "10.99.0.1/24")));
            let foreign = json!({"foreign": true, "nat4": "off"});
            refused(bridge, caller.ensure_network(&changed(&network(bridge, "10.99.0.1/24"), &foreign)));
        }
        let widest = format!("{taken}/20");
        for ipv4 in [
            "",
            "x",
            "10.99.0.1",
            "8.8.8.8/24",
            "127.0.0.1/24",
            "224.0.0.1/24",
            "0.0.0.0/0",
            "10.99.0.0/24",
            "10.99.0.255/24",
            "10.99.0.1/31",
            "10.99.0.1/8",
            "10.99.0.1/19",
            "10.99.0.1/33",
            "fd00::1/64",
            &widest,
            &long,
        ] {
            refused(ipv4, caller.ensure_network(&network(&own, ipv4)));
        }
        let good = network(&own, "10.99.0.1/24");
        for changes in [
            json!({"name": "a b"}),
            json!({"name": "../x"}),
            json!({"ipv6": "2001:db8::1/64"}),
            json!({"ipv6": "fd00::1/48"}),
            json!({"ipv6": "fe80::1/64"}),
            json!({"nat4": {"to": "198.51.100.1"}}),
            json!({"nat4": {"to": "fd00::1"}}),
            json!({"mtu": -1}),
            json!({"domain": "x\ny"}),
            json!({"notes": []}),
        ] {
            refused(&changes.to_string(), caller.ensure_network(&changed(&good, &changes)));
        }
        for text in ["", "{}", "[]", "null", "x", &long, "{\"name\":"] {
            refused(text, caller.ensure_network(text));
            refused(text, caller.remove_network(text));
            refused(text, caller.adjust_link("00000000", text));
            refused(text, caller.mend_link("00000000", text));
        }
        // Beyond what one may have without a grant for more: a second one.
        caller.ensure_network(&good).expect("one network of one's own");
        let second = changed(
            &network(&format!("{}-{}.1", users.host.name(), base36(bob.uid)), "10.98.0.1/24"),
            &json!({"name": "two"}),
        );
        refused("a second network", caller.ensure_network(&second));
        caller.remove_network(&good).expect("remove it");
    });
    assert_eq!(view(&users), before);
}

#[test]
fn firewalls_speak_of_what_is_the_callers() {
    let users = HostdUsers::new(2);
    let (ann, bob) = (users.granted(0), users.granted(1));
    for user in [&ann, &bob] {
        user.ok(&["launch", "tiny", "one"]);
    }
    let bridge_of = |user: &HostdUser<'_>| format!("{}-{}", users.host.name(), user.uid);
    let (of_ann, of_bob) = (ann.info("one"), bob.info("one"));
    let id = of_bob["id"].as_str().expect("an id").to_owned();
    let address = |info: &Value| {
        let text = info["addresses"][0].as_str().expect("an address");
        text.split('/').next().unwrap_or_default().to_owned()
    };
    let (foreign, own) = (address(&of_ann), address(&of_bob));
    let bus = users.address();
    let of_ann_table = format!("{}-{}", users.host.name(), ann.uid);
    let before = run_tool("nft", &["-s", "list", "table", "inet", &of_ann_table]);
    bob.does(|| {
        let caller = Caller::new(&bus);
        let empty = json!({"networks": [], "sets": {}, "groups": [], "containers": [], "forwards": []});
        let with = |key: &str, value: Value| {
            let mut plan = empty.clone();
            plan[key] = json!([value]);
            plan.to_string()
        };
        let container = |link: &str, bridge: &str, address: &str| {
            json!({"id": id, "name": "one", "links": [{"link": link, "bridge": bridge}], "addresses": [address],
                   "groups": [], "rules": {"inward": [], "outward": []}, "default_in": "deny", "default_out": null})
        };
        let link = of_bob["host_link"].as_str().expect("a link");
        let (mine, others) = (bridge_of(&bob), bridge_of(&ann));
        let strange = of_ann["host_link"].as_str().expect("a link");
        for (link, bridge, address) in [
            (strange, mine.as_str(), own.as_str()),
            ("eth0", &mine, &own),
            ("a\"b", &mine, &own),
            (link, &others, &own),
            (link, "eth0", &own),
            (link, &mine, &foreign),
            (link, &mine, "8.8.8.8"),
            (link, &mine, "127.0.0.1"),
        ] {
            let plan = with("containers", container(link, bridge, address));
            refused(&plan, caller.apply_firewall(&plan));
        }
        for (listen, port, to) in [(None, 80, own.as_str()), (None, 22, &foreign), (Some("192.0.2.1"), 8080, &own)] {
            let plan = with("forwards", json!({"proto": "tcp", "listen": listen, "port": port, "to": to, "to_port": 80}));
            refused(&plan, caller.apply_firewall(&plan));
        }
        for name in [others.as_str(), "eth0", "lo", "a b", ""] {
            let network = json!({"name": "net", "bridge": name, "ipv4": "10.99.0.1/24", "ipv6": null, "nat4": "masquerade",
                "nat6": "off", "routed": true, "rules": {"inward": [], "outward": []}, "default_in": "deny", "default_out": "deny"});
            let plan = with("networks", network);
            refused(&plan, caller.apply_firewall(&plan));
        }
        for text in ["", "x", "[]", "null", "{\"networks\": 7}", &"9".repeat(70_000)] {
            refused(text, caller.apply_firewall(text));
            refused(text, caller.change_firewall(text));
            refused(text, caller.ensure_names(text, "[]"));
            if text != "[]" {
                refused(text, caller.ensure_names(&network(&mine, "10.99.0.1/24"), text));
            }
        }
        for bytes in [&b"x"[..], &[0, 33, 0, 1, 2, 3, 4], &[0, 24, 0, 10, 0, 0, 1], &[0, 0, 0, 0, 0, 0, 0], &[255; 64]] {
            refused("a list of blocks", caller.block(bytes, "[]"));
        }
        refused("members", caller.block(&[], "x"));
        for container in ["", "..", "0000000G"] {
            refused(container, caller.forget_container(container, &[]));
        }
        refused("an address", caller.forget_container(&id, &["x"]));
    });
    assert_eq!(run_tool("nft", &["-s", "list", "table", "inet", &of_ann_table]), before);
    ann.ok(&["exec", "one", "--", "true"]);
}

#[test]
fn spawn_takes_nothing_that_is_not_the_callers() {
    let users = HostdUsers::new(2);
    let (ann, bob) = (users.granted(0), users.granted(1));
    ann.ok(&["launch", "tiny", "one"]);
    let of_ann = ann.info("one");
    let (init, id) = (ann.init("one"), of_ann["id"].as_str().expect("an id").to_owned());
    let foreign = ann.range().0 + 65_536;
    let address = users.address();
    let before = view(&users);
    let bridge = format!("{}-{}", users.host.name(), ann.uid);
    bob.does(|| {
        let caller = Caller::new(&address);
        let kit = Kit::new(&bob);
        let good = order(&bob);
        let storage = bob.range().0;
        let long = "x".repeat(4096);
        for container in
            ["", "..", "../../etc", "0000000", "000000000", "0000000G", "ABCDEF00", "a\0b", &long]
        {
            let container = container.replace('\0', "\u{1}");
            refused(&container, caller.spawn(&with(&good, "container", container.as_str()), kit.fds()));
            refused(&container, caller.clear(&container));
        }
        for name in ["", "-x", "../x", "a/b", "A", "a b", "a\n", &long] {
            refused(name, caller.spawn(&with(&good, "name", name), kit.fds()));
        }
        for id_range in [0, 1, 1000, 65_536, storage, storage + 65_537, foreign, u32::MAX, u32::MAX - 65_535]
        {
            refused(&id_range.to_string(), caller.spawn(&with(&good, "first_id", id_range), kit.fds()));
        }
        let nics = |nics: Value| with(&good, "nics", nics);
        let own = format!("{}-{}", users.host.name(), bob.uid);
        // The last is in order, but nothing has made sure of the bridge.
        for bridge in ["eth0", "lo", "..", &bridge, &long, &own] {
            refused(bridge, caller.spawn(&nics(json!([interface(bridge)])), kit.fds()));
        }
        let nic = |changes: Value| {
            let mut order = interface(&own);
            order["nic"] = serde_json::from_str(&changed(&order["nic"].to_string(), &changes)).expect("JSON");
            order
        };
        for changes in [
            json!({"mac": "03:00:00:00:00:01"}),
            json!({"mac": "00:00:00:00:00:00"}),
            json!({"mac": "x"}),
            json!({"name": "a/b"}),
            json!({"name": "sixteen-letters0"}),
            json!({"slot": 6}),
            json!({"slot": -1}),
            json!({"ipv4": "127.0.0.1/8"}),
            json!({"ipv6": "ff02::1/64"}),
            json!({"kind": {"type": "macvlan", "parent": "eth0"}}),
            json!({"kind": {"type": "routed"}, "ipv4": "198.51.100.7/32"}),
            json!({"kind": {"type": "physical", "parent": "eth0"}}),
        ] {
            refused(&changes.to_string(), caller.spawn(&nics(json!([nic(changes.clone())])), kit.fds()));
            refused(&changes.to_string(), caller.adjust_link("00000000", &nic(changes.clone()).to_string()));
            refused(&changes.to_string(), caller.mend_link("00000000", &nic(changes).to_string()));
        }
        let mut many = Vec::new();
        for slot in 0..7 {
            many.push(nic(json!({"slot": slot % 6, "name": format!("eth{slot}")})));
        }
        refused("seven interfaces", caller.spawn(&nics(json!(many)), kit.fds()));
        refused("two of one slot", caller.spawn(&nics(json!([interface(&own), interface(&own)])), kit.fds()));
        for text in ["\"\"", "{}", "7", "[[]]", "[null]", "null"] {
            let value: Value = serde_json::from_str(text).expect("JSON");
            refused(text, caller.spawn(&nics(value), kit.fds()));
        }
        for place in 0..7 {
            let mut fds = kit.fds();
            let (name, fd) = fds.remove(place);
            refused(name, caller.spawn(&good, fds));
            let mut fds = kit.fds();
            fds.push(("another", fd));
            refused("one too many", caller.spawn(&good, fds));
        }
        lists(&caller, &kit, &good);
        let root = fs::File::open("/").expect("open /").into();
        let pipe = std::io::pipe().expect("a pipe").0.into();
        let null: OwnedFd = fs::File::open("/dev/null").expect("open /dev/null").into();
        let unsealed = rustix::fs::memfd_create("x", MemfdFlags::ALLOW_SEALING).expect("a memory file");
        let big = sealed(&vec![b' '; (4 << 20) + 1]);
        let dir = tempfile::tempdir_in("/tmp").expect("a directory");
        let stream: OwnedFd = UnixListener::bind(dir.path().join("s")).expect("listen").into();
        let deaf =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::empty(), None);
        let deaf = deaf.expect("a socket");
        let passwd: OwnedFd = fs::File::open("/etc/passwd").expect("open /etc/passwd").into();
        for bad in
            [&root, &pipe, &null, &unsealed, &big, &stream, &deaf, &passwd, &kit.file, &kit.config, &kit.tree]
        {
            for place in 0..7 {
                let mut fds = kit.fds();
                let same = |fd: &OwnedFd| {
                    let (a, b) =
                        (rustix::fs::fstat(fd).expect("stat"), rustix::fs::fstat(bad).expect("stat"));
                    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
                };
                // A memory file is a file that can be read and written, which a log may be.
                let memory = rustix::fs::fcntl_get_seals(bad).is_ok() && place > 3;
                if memory || same(&fds[place].1) {
                    continue;
                }
                fds[place].1 = bad.as_fd().try_clone_to_owned().expect("duplicate");
                refused(&format!("descriptor {place}: {bad:?}"), caller.spawn(&good, fds));
            }
        }
        // A guest of another's, and the host's own processes, are not to be taken over.
        for adopt in [1, init, std::process::id() as i32, i32::MAX] {
            let order = with(&with(&good, "adopt", adopt), "container", id.as_str());
            let answer = caller.spawn(&order, kit.fds());
            assert!(answer.is_err(), "process {adopt}: {answer:?}");
        }
        // Another's container by its id: what is cleared is the caller's own of that id, which is none.
        assert_eq!(caller.clear(&id), Ok(vec![]));
        // All in order but for an empty configuration: the guest fails, and nothing is left.
        let answer = caller.spawn(&good, kit.fds());
        assert!(answer.as_ref().is_err_and(|why| why.starts_with("Failed(")), "{answer:?}");
        assert_eq!(caller.clear(good["container"].as_str().expect("an id")), Ok(vec![]));
        caller.storage_namespace().expect("a namespace of one's own");
    });
    assert_eq!(view(&users), before);
    assert_eq!(ann.init("one"), init);
    assert_eq!(ann.ok(&["exec", "one", "--", "echo", "here"]).trim(), "here");
}

/// Orders whose lists of trees and devices are not in order.
fn lists(caller: &Caller, kit: &Kit, good: &Value) {
    let layers = |count: usize| json!(vec![json!({"descriptor": "template"}); count]);
    for (key, list) in [
        ("layers", layers(0)),
        ("layers", layers(2)),
        ("layers", layers(65)),
        ("layers", json!([{"descriptor": "config"}])),
        ("layers", json!([{"descriptor": "../template"}])),
        ("layers", json!([{}])),
        ("layers", json!([{"descriptor": "template", "name": "../template"}])),
        ("layers", json!([{"descriptor": "template", "name": "0000000000000000"}])),
        ("mounts", json!([])),
        ("mounts", json!([{"name": "data", "is_read_only": true}])),
        ("mounts", json!([{"name": "data"}, {"name": "data"}])),
        ("mounts", json!([{"name": "data"}, {"name": "../etc"}])),
        ("mounts", json!([{"name": "data"}, {"name": ""}])),
        ("mounts", json!([{"name": "data"}, {"name": "control"}])),
        ("devices", json!([])),
        ("devices", json!([{"name": "zero"}])),
        ("devices", json!([{"name": "null"}, {"name": "null"}])),
        ("devices", json!([{"name": "null"}, {"name": "mem"}])),
        ("devices", json!([{"name": "null"}, {"name": "../sda"}])),
    ] {
        refused(&format!("{key} {list}"), caller.spawn(&with(good, key, list), kit.fds()));
    }
    // Layers in a directory in which there are links out of it, and what is no tree.
    let dir = tempfile::tempdir().expect("make a directory");
    let at = |name: &str| dir.path().join(name);
    std::os::unix::fs::symlink("/etc", at("00000000000000aa")).expect("make a link");
    std::os::unix::fs::symlink("..", at("00000000000000ab")).expect("make a link");
    fs::write(at("00000000000000ac"), "").expect("write a file");
    fs::create_dir(at("00000000000000ad")).expect("make a directory of root's");
    for name in ["00000000000000aa", "00000000000000ab", "00000000000000ac", "00000000000000ad"] {
        let mut fds = kit.fds();
        let open = fs::File::open(dir.path()).expect("open a directory");
        let place = fds.iter_mut().find(|(of, _)| *of == "template").expect("a template");
        place.1 = open.into();
        let list = json!([{"descriptor": "template", "name": name}]);
        refused(&format!("layer {name}"), caller.spawn(&with(good, "layers", list), fds));
    }
}

/// Limits that make no sense, each in one way.
pub(super) fn nonsense() -> Vec<Limits> {
    let with = |change: &dyn Fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        limits
    };
    let disk = |major, minor| IoMax { major, minor, rbps: 1, wbps: 1, riops: 1, wiops: 1 };
    let rlimit = |resource: &str, soft, hard| Rlimit { resource: resource.to_owned(), soft, hard };
    vec![
        with(&|l| l.numbers.set("memory.max", 0)),
        with(&|l| l.numbers.set("../pids.max", 5)),
        with(&|l| l.numbers.set("memory.high", 1)),
        with(&|l| l.numbers.set("pids.max", 0)),
        with(&|l| l.cpu_period = 0),
        with(&|l| l.cpu_period = u64::MAX),
        with(&|l| l.cpu_quota = 1),
        with(&|l| l.cpu_weight = 0),
        with(&|l| l.io_weight = 10_001),
        with(&|l| l.cpus = "0-".to_owned()),
        with(&|l| l.cpus = "0\n1".to_owned()),
        with(&|l| l.cpus = "../../cpuset".to_owned()),
        with(&|l| l.cpus = "0,".repeat(10_000)),
        with(&|l| l.io_max = vec![disk(4095, 1)]),
        with(&|l| l.io_max = vec![disk(0, 0); 100]),
        with(&|l| l.rlimits = vec![rlimit("nosuch", 1, 1)]),
        with(&|l| l.rlimits = vec![rlimit("nofile", 2, 1)]),
        with(&|l| l.rlimits = vec![rlimit("nofile", 1, 1); 2]),
    ]
}

#[test]
fn limits_and_machines_are_the_callers_own() {
    let users = HostdUsers::new(2);
    let (ann, bob) = (users.granted(0), users.granted(1));
    ann.ok(&["launch", "tiny", "one"]);
    bob.ok(&["launch", "tiny", "own"]);
    let id = |user: &HostdUser<'_>, name: &str| user.info(name)["id"].as_str().expect("an id").to_owned();
    let (foreign, own) = (id(&ann, "one"), id(&bob, "own"));
    let address = users.address();
    let before = view(&users);
    let init = ann.init("one");
    let mounts = || fs::read_to_string(format!("/proc/{init}/mountinfo")).expect("read the guest's mounts");
    let mounts_before = mounts();
    bob.does(|| {
        let caller = Caller::new(&address);
        let uuid = "0".repeat(32);
        for container in ["", "..", "../../etc", "0000000G", &"0".repeat(4096)] {
            refused(container, caller.set_limits(container, Limits::default()));
            refused(container, caller.attach_lxcfs(container));
            refused(container, caller.register_machine(container, "own", &uuid));
        }
        for limits in nonsense() {
            refused(&format!("{limits:?}"), caller.set_limits(&own, limits.clone()));
            let order = with(&order(&bob), "limits", json!(limits));
            refused(&format!("{limits:?}"), caller.spawn(&order, Kit::new(&bob).fds()));
        }
        // Another's container is none of the caller's, running or not.
        refused("another's", caller.set_limits(&foreign, Limits::default()));
        refused("nobody's", caller.set_limits("00000000", Limits::default()));
        for container in [foreign.as_str(), "00000000"] {
            // On a host without lxcfs and systemd-machined there is nothing to do, for anybody.
            let _ = caller.attach_lxcfs(container);
            let _ = caller.register_machine(container, "own", &uuid);
        }
        for name in ["", "..", "a.b", "a/b", "-x", "a\nb", &"x".repeat(200)] {
            refused(name, caller.register_machine(&own, name, &uuid));
        }
        for uuid in ["", "0", &"g".repeat(32), &"0".repeat(33)] {
            refused(uuid, caller.register_machine(&own, "own", uuid));
        }
    });
    assert_eq!(view(&users), before);
    assert_eq!(mounts(), mounts_before);
    ann.ok(&["exec", "one", "--", "true"]);
}

#[test]
fn a_thousand_random_calls_change_nothing() {
    let users = HostdUsers::new(2);
    let (ann, bob) = (users.granted(0), users.granted(1));
    ann.ok(&["launch", "tiny", "one"]);
    let init = ann.init("one");
    let address = users.address();
    let before = view(&users);
    let words: Vec<String> = vec![
        String::new(),
        "eth0".into(),
        format!("{}-{}", users.host.name(), ann.uid),
        ann.info("one")["id"].as_str().expect("an id").into(),
        "../../..".into(),
        "10.0.0.1/24".into(),
        "\u{202e}\u{0007}".into(),
        "9".repeat(300),
    ];
    bob.does(|| {
        let caller = Caller::new(&address);
        let kit = Kit::new(&bob);
        let mut seed: u64 = u64::from_str_radix(&random_hex(8), 16).expect("hexadecimal");
        println!("seed {seed}");
        let mut random = move |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % below
        };
        for number in 0..1000 {
            let word = words[random(words.len())].clone();
            let other = words[random(words.len())].clone();
            let answer = match random(8) {
                6 => {
                    let limits = nonsense()[random(17)].clone();
                    caller.set_limits(&word, limits).map(|()| "done")
                }
                7 => caller.register_machine(&word, &other, &word).map(|()| "done"),
                0 => caller.ensure_network(&network(&word, &other)).map(|()| "done"),
                1 => caller.remove_network(&network(&word, &other)).map(|()| "done"),
                5 => caller.adjust_link(&word, &interface(&other).to_string()).map(|()| "done"),
                2 => caller.clear(&word).map(|left| if left.is_empty() { "" } else { "done" }),
                3 => caller.runtime.block_on(any_call(&caller.line, &word, random(4))).map(|()| "done"),
                _ => {
                    let id_range = [0, ann.range().0, bob.range().0, random(1 << 31) as u32][random(4)];
                    let adopt = [0, 1, init, -5][random(4)];
                    let order = json!({
                        "container": word, "name": other, "first_id": id_range,
                        "nics": [interface(&words[random(words.len())])],
                        "layers": [{"descriptor": "template"}], "mounts": [{"name": "data"}],
                        "adopt": adopt,
                        "limits": Limits { numbers: [("pids.max", random(3) as u64)].into(), ..Limits::default() },
                    });
                    let mut fds = kit.fds();
                    fds.truncate(random(8));
                    caller.spawn(&order, fds).map(|()| "done")
                }
            };
            assert!(!matches!(answer, Ok("done")), "call {number}: {answer:?}");
        }
    });
    assert_eq!(view(&users), before);
    assert_eq!(ann.init("one"), init);
    ann.ok(&["exec", "one", "--", "true"]);
    bob.ok(&["launch", "tiny", "two"]);
}

/// A call whose member or arguments the interface does not have.
async fn any_call(line: &Line, word: &str, kind: usize) -> Result<(), String> {
    let bus = line.connection();
    let (name, path, interface) = ("org.nagaya.Host1", "/org/nagaya/Host1", "org.nagaya.Host1");
    let call = |member: &'static str| {
        let word = word.to_owned();
        async move {
            let answer = bus.call_method(Some(name), path, Some(interface), member, &(word, 7u32)).await;
            answer.map(drop).map_err(|e| e.to_string())
        }
    };
    match kind {
        0 => call("NoSuchVerb").await,
        1 => call("Spawn").await,
        2 => call("Clear").await,
        _ => call("StorageNamespace").await,
    }
}
