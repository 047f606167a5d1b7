//! What an ordinary user makes root keep, and takes of the host, has an end.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nagaya::broker::{Limits, Rlimit};
use serde_json::{Value, json};

use super::host::{Running, told};
use super::hostd_users::HostdUsers;
use super::hostile_callers::{Caller, Kit, changed, network, order, refused, with};

/// Does it at the end, also of a test that fails.
fn at_end(end: impl Fn()) -> impl Drop {
    struct AtEnd<F: Fn()>(F);
    impl<F: Fn()> Drop for AtEnd<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    AtEnd(end)
}

fn lease(n: u32, last: u32) -> Value {
    let [_, a, b, c] = n.to_be_bytes();
    json!({"name": format!("g{n}"), "mac": format!("02:00:00:{a:02x}:{b:02x}:{c:02x}"),
           "ipv4": format!("10.97.{}.{}", last / 256, last % 256), "ipv6": null})
}

#[test]
fn names_of_guests_are_bounded() {
    let users = HostdUsers::new(1);
    let ann = users.granted(0);
    let own = format!("{}-{}", users.host.name(), ann.uid);
    let dir = PathBuf::from(format!("/run/{}-hostd/dns/{own}", users.host.name()));
    let files = |name: &str| fs::read_dir(dir.join(name)).map_or(0, |entries| entries.count());
    let address = users.address();
    // A command first, by which the user is set up.
    ann.ok(&["list"]);
    let all = (ann.range().1 / 65_536 - 1) * 6;
    let net = changed(&network(&own, "10.97.0.1/20"), &json!({"domain": "lan.example"}));
    let leases =
        |range: std::ops::Range<u32>| json!(range.map(|n| lease(n, n)).collect::<Vec<_>>()).to_string();
    let _network = at_end(|| drop(ann.does(|| Caller::new(&address).remove_network(&net))));
    ann.does(|| {
        let caller = Caller::new(&address);
        refused("before EnsureNetwork", caller.ensure_names(&net, &leases(2..3)));
        caller.ensure_network(&net).expect("a network of one's own");
        refused("one too many", caller.ensure_names(&net, &leases(2..3 + all)));
        refused("very many", caller.ensure_names(&net, &leases(2..100_000)));
        let without = changed(&lease(2, 2).to_string(), &json!({"ipv4": null}));
        refused("no address", caller.ensure_names(&net, &format!("[{without}]")));
        refused(
            "one address twice",
            caller.ensure_names(&net, &json!([lease(2, 2), lease(3, 2)]).to_string()),
        );
        refused(
            "one interface twice",
            caller.ensure_names(&net, &json!([lease(2, 2), lease(2, 3)]).to_string()),
        );
        for subnet in ["192.168.0.1/16", "10.97.0.1/16", "10.97.0.1/21", "10.96.0.1/20"] {
            refused(subnet, caller.ensure_names(&changed(&net, &json!({"ipv4": subnet})), "[]"));
        }
    });
    assert_eq!((files("hosts"), files("dhcp")), (0, 0));
    ann.does(|| {
        Caller::new(&address).ensure_names(&net, &leases(2..2 + all)).expect("as many as there can be")
    });
    assert_eq!((files("hosts"), files("dhcp")), (all as usize, all as usize));
    ann.does(|| Caller::new(&address).ensure_names(&net, &leases(2..3)).expect("fewer"));
    assert_eq!((files("hosts"), files("dhcp")), (1, 1));
}

#[test]
fn limits_above_the_grant_are_refused_and_one_that_has_shrunk_holds() {
    let users = HostdUsers::new(1);
    let ann = users.granted(0);
    ann.ok(&["launch", "tiny", "c"]);
    let id = ann.info("c")["id"].as_str().expect("an id").to_owned();
    let address = users.address();
    let own =
        [("rtprio", 1), ("nice", 1), ("memlock", u64::MAX), ("msgqueue", u64::MAX), ("sigpending", u64::MAX)];
    let own = own.into_iter().chain([("nofile", (1 << 20) + 1), ("core", u64::MAX)]);
    ann.does(|| {
        let caller = Caller::new(&address);
        let kit = Kit::new(&ann);
        for (resource, hard) in own {
            let rlimits = vec![Rlimit { resource: resource.to_owned(), soft: 0, hard }];
            let limits = Limits { rlimits, ..Limits::default() };
            refused(resource, caller.set_limits(&id, limits.clone()));
            refused(resource, caller.spawn(&with(&order(&ann), "limits", json!(limits)), kit.fds()));
        }
    });
    // What no key says is bounded too, and by the kernel.
    let text = ann.ok(&["exec", "c", "--", "cat", "/proc/self/limits"]);
    let hard = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a limit").to_owned();
        line.split_whitespace().nth(1).expect("a hard limit").to_owned()
    };
    assert_eq!(hard(&text, "Max core file size"), "1");
    // Less where the root that runs the test may not raise it.
    let locked: u64 = hard(&text, "Max locked memory").parse().expect("a number");
    assert!(locked <= 64 << 20, "{locked}");
    let refusal = ann.fails(1, &["config", "set", "c", "limits.kernel.core=1000000"]);
    let hint = format!("nagaya grant {} kernel.core=1000000B", ann.name);
    assert!(
        refusal.contains("limits.kernel.core: 1000000 B is above your grant of 1 B")
            && refusal.contains(&hint),
        "{refusal}"
    );
    users.host.ok(&["grant", &ann.name, "kernel.core=1000000"]);
    ann.ok(&["config", "set", "c", "limits.kernel.core=1000000"]);
    // Less is granted than the container asks for: it starts with that, and says so.
    users.host.ok(&["grant", &ann.name, "kernel.core=5000"]);
    let output = ann.nagaya(&["restart", "c"]);
    assert!(output.status.success(), "{}", told(&output));
    let said = told(&output);
    assert!(
        said.contains("'c' has less than it asks for") && said.contains("above your grant of 5000 B"),
        "{said}"
    );
    assert_eq!(hard(&ann.ok(&["exec", "c", "--", "cat", "/proc/self/limits"]), "Max core file size"), "5000");
    assert_eq!(ann.ok(&["config", "get", "c", "limits.kernel.core"]).trim(), "1000000");
}

#[test]
fn no_more_containers_start_at_once_than_are_granted() {
    let users = HostdUsers::new(1);
    let ann = users.granted(0);
    let names: Vec<String> = (0..5).map(|n| format!("c{n}")).collect();
    for name in &names {
        ann.ok(&["create", "tiny", name]);
    }
    users.host.ok(&["grant", &ann.name, "containers=1"]);
    for _ in 0..2 {
        let start = |name: &String| Running::start(ann.command(&["start", name]), b"");
        let all: Vec<Running> = names.iter().map(start).collect();
        let started = all.into_iter().map(Running::wait).filter(|output| output.status.success()).count();
        assert_eq!(started, 1);
        for name in &names {
            let _ = ann.nagaya(&["stop", "--force", name]);
        }
    }
}

/// As many processes at once as there may be, up to so many, for a moment.
const FORKS: &str = "import os,signal,sys
n=0
try:
    while n < int(sys.argv[1]):
        if os.fork() == 0:
            signal.pause()
        n += 1
except OSError:
    pass
print(n, flush=True)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.killpg(0, signal.SIGTERM)
";

#[test]
fn a_namespace_for_files_does_not_lift_the_callers_limits() {
    use std::os::unix::process::CommandExt;
    let users = HostdUsers::new(1);
    let ann = users.granted(0);
    let address = users.address();
    let namespace: OwnedFd = ann.does(|| Caller::new(&address).storage_namespace().expect("a namespace"));
    let (uid, gid) = (ann.uid.to_string(), ann.gid.to_string());
    let become_ann = ["--reuid", &uid, "--regid", &gid, "--clear-groups", "--inh-caps=-all", "--"];
    let enter = ["nsenter", "--user=/proc/self/fd/0", "-S", "0", "-G", "0", "--"];
    let mut command = users.host.program("setpriv", &become_ann);
    command.args(enter).args(["python3", "-c", FORKS, "500"]).stdin(namespace).process_group(0);
    let output = command.output().expect("run python3");
    let text = String::from_utf8_lossy(&output.stdout);
    let forked: u32 = text.trim().parse().unwrap_or_else(|_| panic!("{}", told(&output)));
    assert!((8..=64).contains(&forked), "{forked} processes");
}
