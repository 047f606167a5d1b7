//! Each of the broker's verbs, from the table that declares them, called by a user who means harm. A verb without
//! a case here does not compile.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;

use nagaya::broker::{Limits, Verb};
use serde_json::{Value, json};
use zbus::Fd;

use super::hostd_users::{HostdUser, HostdUsers};
use super::hostile_callers::{Caller, Kit, interface, network, nonsense, order, refused, sealed, view, with};

/// Bob, who calls, and what is Ann's.
struct Scene<'a> {
    caller: Caller,
    bob: &'a HostdUser<'a>,
    kit: Kit,
    own_bridge: String,
    bridge: &'a str,
    container: &'a str,
    link: &'a str,
    address: &'a str,
}

type Case = fn(&Scene<'_>, Verb);

fn case(verb: Verb) -> Case {
    match verb {
        Verb::Setup | Verb::StorageNamespace => takes_nothing,
        Verb::BlockHits | Verb::RuleCounts | Verb::FirewallInPlace => takes_nothing,
        Verb::Traffic => traffic,
        Verb::SetDiskQuota => set_disk_quota,
        Verb::MakePool | Verb::RemovePool => pools,
        Verb::EnsureNetwork => ensure_network,
        Verb::RemoveNetwork => remove_network,
        Verb::EnsureNames => ensure_names,
        Verb::ApplyFirewall => apply_firewall,
        Verb::ChangeFirewall => change_firewall,
        Verb::RemoveFirewall => remove_firewall,
        Verb::ForgetContainer => forget_container,
        Verb::Block => block,
        Verb::AdjustLink => adjust_link,
        Verb::MendLink => mend_link,
        Verb::Spawn => spawn,
        Verb::LendDevice => lend_device,
        Verb::AttachLink => attach_link,
        Verb::DetachLink => detach_link,
        Verb::KeepSources => keep_sources,
        Verb::SetLimits => set_limits,
        Verb::Clear => clear,
        Verb::AttachLxcfs => attach_lxcfs,
        Verb::RegisterMachine => register_machine,
    }
}

#[test]
fn every_verb_refuses_a_hostile_caller() {
    let users = HostdUsers::new(2);
    let (ann, bob) = (users.granted(0), users.granted(1));
    ann.ok(&["launch", "tiny", "one"]);
    bob.ok(&["list"]);
    let info = ann.info("one");
    let text = |key: &str| info[key].as_str().expect("a text").to_owned();
    let (container, link, address, init) =
        (text("id"), text("host_link"), ann.address("one"), ann.init("one"));
    let bridge = format!("{}-{}", users.host.name(), ann.uid);
    let bus = users.address();
    let before = view(&users);
    bob.does(|| {
        for &verb in Verb::ALL {
            let scene = Scene {
                caller: Caller::new(&bus),
                bob: &bob,
                kit: Kit::new(&bob),
                own_bridge: format!("{}-{}", users.host.name(), bob.uid),
                bridge: &bridge,
                container: &container,
                link: &link,
                address: &address,
            };
            of_no_shape(&scene.caller, verb);
            let refusals = scene.caller.refusals(verb);
            case(verb)(&scene, verb);
            assert!(scene.caller.refusals(verb) > refusals, "the case of {verb:?} refuses nothing");
        }
    });
    assert_eq!(view(&users), before);
    assert_eq!(ann.init("one"), init);
    assert_eq!(ann.ok(&["exec", "one", "--", "echo", "here"]).trim(), "here");
}

/// What is no request of any verb's.
fn of_no_shape(caller: &Caller, verb: Verb) {
    let long = "9".repeat(70_000);
    for text in ["", "x", "null", "7", "\"\"", "{", "{\"\": }", "{} {}", &long, &"[".repeat(5000)] {
        refused(&format!("{verb:?}: {text}"), caller.call(verb, text, Vec::new()));
    }
    let pipe = || OwnedFd::from(std::io::pipe().expect("a pipe").0);
    refused("a body that is no sealed file", caller.call(verb, "", vec![("body", pipe())]));
    refused("a body of no text", caller.call(verb, "", vec![("body", sealed(&[0xff, 0, 1]))]));
    // What commands of other versions send is told from what is refused.
    let bus = caller.line().connection().clone();
    let name = "org.nagaya.Host1";
    for version in [0, 2, u32::MAX] {
        let body = (version, "{}", HashMap::<&str, Fd<'_>>::new());
        let call = bus.call_method(Some(name), "/org/nagaya/Host1", Some(name), verb.name(), &body);
        let why = caller.runtime().block_on(call).expect_err("another version").to_string();
        assert!(why.contains("version"), "{verb:?} {version}: {why}");
    }
    let call = bus.call_method(Some(name), "/org/nagaya/Host1", Some(name), verb.name(), &("x", 7u32));
    let why = caller.runtime().block_on(call).expect_err("version 0.1.0's arguments").to_string();
    assert!(why.contains("another version"), "{verb:?}: {why}");
}

fn takes_nothing(scene: &Scene<'_>, verb: Verb) {
    let pipe = std::io::pipe().expect("a pipe").0;
    refused("a descriptor of no use", scene.caller.call(verb, "{}", vec![("x", pipe.into())]));
}

fn traffic(scene: &Scene<'_>, verb: Verb) {
    takes_nothing(scene, verb);
    let answer = scene.caller.ask(verb, &json!({})).expect("one's own traffic");
    assert!(answer.fields["links"].get(scene.link).is_none(), "{answer:?}");
}

/// Networks that are not Bob's.
fn of_others(scene: &Scene<'_>) -> Vec<String> {
    [scene.bridge, "eth0", "lo", "..", ""].map(|bridge| network(bridge, "10.99.0.1/24")).into()
}

fn ensure_network(scene: &Scene<'_>, _: Verb) {
    for network in of_others(scene) {
        refused(&network, scene.caller.ensure_network(&network));
    }
}

fn remove_network(scene: &Scene<'_>, _: Verb) {
    for network in of_others(scene) {
        refused(&network, scene.caller.remove_network(&network));
    }
}

fn ensure_names(scene: &Scene<'_>, _: Verb) {
    for network in of_others(scene).into_iter().chain([network(&scene.own_bridge, "10.99.0.1/24")]) {
        refused(&network, scene.caller.ensure_names(&network, "[]"));
    }
}

/// What a firewall may say of a container of Bob's: none of this.
fn containers_of_others(scene: &Scene<'_>) -> Vec<Value> {
    let container = |link: &str, bridge: &str, address: &str| {
        json!({"id": scene.container, "name": "one", "links": [{"link": link, "bridge": bridge}],
               "addresses": [address], "groups": [], "rules": {"inward": [], "outward": []},
               "default_in": "deny", "default_out": null})
    };
    vec![
        container(scene.link, scene.bridge, scene.address),
        container("eth0", &scene.own_bridge, scene.address),
        container(scene.link, &scene.own_bridge, "127.0.0.1"),
    ]
}

fn apply_firewall(scene: &Scene<'_>, _: Verb) {
    for container in containers_of_others(scene) {
        let plan =
            json!({"networks": [], "sets": {}, "groups": [], "containers": [container], "forwards": []});
        refused(&plan.to_string(), scene.caller.apply_firewall(&plan.to_string()));
    }
}

fn change_firewall(scene: &Scene<'_>, _: Verb) {
    for container in containers_of_others(scene) {
        let change = json!({"sets": {}, "gone_sets": [], "groups": [], "gone_groups": [], "networks": [],
            "containers": [container], "gone_containers": [], "former": [], "forwards": null});
        refused(&change.to_string(), scene.caller.change_firewall(&change.to_string()));
    }
}

fn remove_firewall(scene: &Scene<'_>, verb: Verb) {
    refused("no list", scene.caller.ask(verb, &json!({"bridges": scene.bridge})));
    // Another's bridge is passed over: what is taken away is one's own.
    scene.caller.ask(verb, &json!({"bridges": [scene.bridge, "eth0"]})).expect("one's own firewall");
}

fn forget_container(scene: &Scene<'_>, _: Verb) {
    for container in ["", "..", "0000000G"] {
        refused(container, scene.caller.forget_container(container, &[]));
    }
    refused("an address", scene.caller.forget_container(scene.container, &["x"]));
}

fn block(scene: &Scene<'_>, verb: Verb) {
    refused("no lists", scene.caller.call(verb, "{}", Vec::new()));
    let lists = || vec![("add", sealed(&[])), ("remove", sealed(&[]))];
    let more = lists().into_iter().chain([("another", sealed(&[]))]).collect();
    refused("one list too many", scene.caller.call(verb, "{}", more));
    refused("members", scene.caller.call(verb, &json!({"members": [["..", []]]}).to_string(), lists()));
    refused("a list", scene.caller.block(&[255; 64], "[]"));
}

fn adjust_link(scene: &Scene<'_>, _: Verb) {
    let own = interface(&scene.own_bridge).to_string();
    for container in ["", "..", "0000000G"] {
        refused(container, scene.caller.adjust_link(container, &own));
    }
    refused("a shared interface", scene.caller.adjust_link("00000000", &macvlan(scene).to_string()));
}

fn mend_link(scene: &Scene<'_>, _: Verb) {
    for bridge in [scene.bridge, &scene.own_bridge, "eth0"] {
        refused(bridge, scene.caller.mend_link(scene.container, &interface(bridge).to_string()));
    }
    refused("a shared interface", scene.caller.mend_link("00000000", &macvlan(scene).to_string()));
}

/// An interface on one of the host's, which nobody has granted.
fn macvlan(scene: &Scene<'_>) -> Value {
    let mut order = interface(&scene.own_bridge);
    order["nic"]["kind"] = json!({"type": "macvlan", "parent": "eth0"});
    order
}

fn spawn(scene: &Scene<'_>, _: Verb) {
    let good = order(scene.bob);
    let foreign = scene.bob.range().0;
    for bad in [
        with(&good, "container", ".."),
        with(&good, "name", "../x"),
        with(&good, "first_id", foreign),
        with(&good, "first_id", 0),
        with(&good, "adopt", -1),
        with(&good, "nics", json!([interface(scene.bridge)])),
        with(&good, "nics", json!([macvlan(scene)])),
        with(&good, "disks", json!([{"name": "disk-0", "source": "/root", "shift": true}])),
        with(&good, "disks", json!([{"name": "..", "source": "/root"}])),
        with(&good, "disks", json!([{"name": "data", "shift": true}])),
        with(&good, "nodes", json!([node("/dev/kvm")])),
        with(&good, "nodes", json!([node("/dev/mem")])),
    ] {
        refused(&bad.to_string(), scene.caller.spawn(&bad, scene.kit.fds()));
    }
    refused("no descriptors", scene.caller.spawn(&good, Vec::new()));
    // What is passed must be opened for reading by who passes it, and a directory.
    let disk = with(&good, "disks", json!([{"name": "disk-0", "shift": true}]));
    let open = |path: &str, flags: i32| {
        let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path);
        OwnedFd::from(file.expect("open a file"))
    };
    let (null, locked) = (open("/dev/null", 0), open("/root", libc::O_PATH));
    for passed in [null, locked] {
        let fds = scene.kit.fds().into_iter().chain([("disk-0", passed)]).collect();
        refused("no directory that can be read", scene.caller.spawn(&disk, fds));
    }
    let nodes = with(&good, "nodes", json!([node("/dev/kvm")]));
    for passed in [open("/dev/null", 0), open("/dev", libc::O_PATH)] {
        let fds = scene.kit.fds().into_iter().chain([("node-0", passed)]).collect();
        refused("another node", scene.caller.spawn(&nodes, fds));
    }
}

fn node(path: &str) -> Value {
    json!({"name": "node-0", "node": path, "mode": 0o666, "uid": 0, "gid": 0})
}

fn lend_device(scene: &Scene<'_>, verb: Verb) {
    let (own, foreign) = (order(scene.bob)["first_id"].clone(), scene.bob.range().0);
    let disk = json!({"name": "disk-0", "shift": true});
    let dir = || OwnedFd::from(std::fs::File::open("/usr/share").expect("open a directory"));
    let lend = |request: Value, fds: Vec<(&str, OwnedFd)>| {
        refused(&request.to_string(), scene.caller.call(verb, &request.to_string(), fds));
    };
    let of =
        |container: &str, first: &Value| json!({"container": container, "first_id": first, "disk": disk});
    for container in ["..", "0000000G", "00000000", scene.container] {
        lend(of(container, &own), vec![("disk-0", dir())]);
    }
    lend(of(scene.container, &json!(foreign)), vec![("disk-0", dir())]);
    lend(of(scene.container, &json!(0)), vec![("disk-0", dir())]);
    lend(of("00000000", &own), Vec::new());
    lend(of("00000000", &own), vec![("disk-0", dir()), ("more", dir())]);
    lend(json!({"container": "00000000", "first_id": own}), Vec::new());
    let named = json!({"name": "disk-0", "source": "/root", "shift": true});
    lend(json!({"container": "00000000", "first_id": own, "disk": named}), Vec::new());
    lend(
        json!({"container": "00000000", "first_id": own, "node": node("/dev/kvm")}),
        vec![("node-0", dir())],
    );
}

fn attach_link(scene: &Scene<'_>, verb: Verb) {
    for (container, nic) in [
        ("..", interface(&scene.own_bridge)),
        (scene.container, interface(scene.bridge)),
        (scene.container, interface(&scene.own_bridge)),
        ("00000000", interface("eth0")),
        ("00000000", macvlan(scene)),
    ] {
        let request = json!({"container": container, "nic": nic});
        refused(&request.to_string(), scene.caller.ask(verb, &request));
    }
}

fn detach_link(scene: &Scene<'_>, verb: Verb) {
    for (container, slot) in [("..", 0), ("0000000G", 0), ("00000000", 6), ("00000000", 255)] {
        refused(container, scene.caller.ask(verb, &json!({"container": container, "slot": slot})));
    }
    // By its id another's container is one's own of that id, which has no link.
    scene.caller.ask(verb, &json!({"container": scene.container, "slot": 0})).expect("nothing is taken");
}

/// What root has allowed is for root's containers.
fn keep_sources(scene: &Scene<'_>, verb: Verb) {
    for directories in [json!([]), json!(["/"])] {
        refused("root's directories", scene.caller.ask(verb, &json!({"directories": directories})));
    }
}

fn set_disk_quota(scene: &Scene<'_>, verb: Verb) {
    let (own, foreign) = (order(scene.bob)["first_id"].clone(), scene.bob.range().0);
    let open = |path: &str| OwnedFd::from(std::fs::File::open(path).expect("open a directory"));
    let set = |container: &str, first: &Value, fds: Vec<(&str, OwnedFd)>| {
        let request =
            json!({"container": container, "first_id": first, "setting": "begins", "bytes": 1, "files": 0});
        refused(&request.to_string(), scene.caller.call(verb, &request.to_string(), fds));
    };
    for container in ["..", "0000000G"] {
        set(container, &own, vec![("data", open("/usr/share"))]);
    }
    // What is not Bob's: the ids, and the directory.
    set("00000000", &json!(foreign), vec![("data", open("/usr/share"))]);
    set("00000000", &json!(0), vec![("data", open("/usr/share"))]);
    set("00000000", &own, vec![("data", open("/usr/share"))]);
    set("00000000", &own, vec![("data", open("/etc/passwd"))]);
    set("00000000", &own, Vec::new());
    // As a volume.
    set("", &json!(0), vec![("data", open("/usr/share"))]);
    set("", &json!(0), Vec::new());
    set("00000000", &own, vec![("data", open("/usr/share")), ("more", open("/usr/share"))]);
}

fn pools(scene: &Scene<'_>, verb: Verb) {
    // None of them is granted, and in none was one made.
    for directory in ["", "/", "relative", "/etc", "/srv", "/tmp/..", "/proc/self/cwd", "/var/lib"] {
        let request = json!({ "directory": directory });
        refused(directory, scene.caller.call(verb, &request.to_string(), Vec::new()));
    }
}

fn set_limits(scene: &Scene<'_>, _: Verb) {
    for limits in nonsense() {
        refused(&format!("{limits:?}"), scene.caller.set_limits("00000000", limits));
    }
    refused("another's", scene.caller.set_limits(scene.container, Limits::default()));
}

fn clear(scene: &Scene<'_>, _: Verb) {
    for container in ["", "..", "../../etc", "0000000G"] {
        refused(container, scene.caller.clear(container));
    }
    // By its id another's container is one's own of that id, which is none.
    assert_eq!(scene.caller.clear(scene.container), Ok(vec![]));
}

fn attach_lxcfs(scene: &Scene<'_>, _: Verb) {
    for container in ["", "..", "0000000G"] {
        refused(container, scene.caller.attach_lxcfs(container));
    }
}

fn register_machine(scene: &Scene<'_>, _: Verb) {
    let uuid = "0".repeat(32);
    for (container, name, uuid) in
        [("..", "own", uuid.as_str()), ("00000000", "a/b", &uuid), ("00000000", "own", "g")]
    {
        refused(name, scene.caller.register_machine(container, name, uuid));
    }
}
