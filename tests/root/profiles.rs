//! Profiles: what containers get of them, at once and at their next start, and what is refused.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};

use serde_json::Value;

use super::crash::group_has_ended;
use super::daemonless_user::{DaemonlessUser, Otherwise};
use super::devices::{Dir, source};
use super::host::{Host, told};
use super::hostd_users::HostdUsers;

/// What the kernel holds a running container to.
fn huge_pages(host: &Host, name: &str) -> Option<u64> {
    let file = host.cgroup_of(name).join("payload/hugetlb.2MB.max");
    // "max" is no number.
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Whether this host's cgroup v2 limits huge pages.
fn has_huge_pages(host: &Host) -> bool {
    let file = host.cgroup().parent().expect("a mount point").join("cgroup.controllers");
    let controllers = fs::read_to_string(file).expect("read cgroup.controllers");
    controllers.split_whitespace().any(|c| c == "hugetlb")
        && fs::exists("/sys/kernel/mm/hugepages/hugepages-2048kB").expect("look for huge pages")
}

fn expanded(host: &Host, name: &str) -> Value {
    serde_json::from_str(&host.ok(&["config", "show", name, "--expanded", "--format", "json"])).expect("JSON")
}

fn note(host: &Host, args: &[&str]) -> String {
    let output = host.nagaya(args);
    assert!(output.status.success(), "{}", told(&output));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_later_profile_counts_and_what_is_set_for_a_container_before_all() {
    let host = Host::new();
    host.ok(&["profile", "create", "gold", "-c", "user.plan=gold", "-c", "environment.PLAN=gold"]);
    host.ok(&["profile", "create", "loud", "-c", "user.plan=loud", "--description", "It's loud"]);
    host.ok(&["profile", "set", "default", "user.all=yes"]);
    host.ok(&["create", "tiny", "plain"]);
    host.ok(&["create", "tiny", "none", "--no-profiles"]);
    host.ok(&["create", "tiny", "both", "-p", "gold,loud", "-c", "user.own=1"]);
    let names = |name: &str| host.info(name)["profiles"].to_string();
    assert_eq!(
        [names("plain"), names("none"), names("both")],
        ["[\"default\"]", "[]", "[\"gold\",\"loud\"]"]
    );
    assert_eq!(host.ok(&["config", "get", "plain", "user.all", "--expanded"]), "yes\n");
    assert_eq!(host.ok(&["config", "get", "none", "user.all", "--expanded"]), "\n");
    let both = expanded(&host, "both");
    assert_eq!(both["user.plan"]["value"], "loud");
    assert_eq!(both["user.plan"]["profile"], "loud");
    assert_eq!(both["environment.PLAN"]["profile"], "gold");
    assert_eq!(both["user.own"]["profile"], Value::Null);
    host.ok(&["profile", "assign", "both", "loud,gold"]);
    assert_eq!(expanded(&host, "both")["user.plan"]["value"], "gold");
    host.ok(&["config", "set", "both", "user.plan=mine"]);
    assert_eq!(host.ok(&["config", "get", "both", "user.plan"]), "mine\n");
    host.ok(&["config", "unset", "both", "user.plan"]);
    assert!(note(&host, &["config", "get", "both", "user.plan"]).contains("profile 'gold' sets it"));
    let table = host.ok(&["config", "show", "both", "--expanded"]);
    assert!(table.contains("own") && table.contains("profile gold"), "{table}");
    assert_eq!(host.ok(&["config", "show", "both"]), "user.own: 1\n");
    host.ok(&["profile", "remove", "both", "gold"]);
    host.ok(&["profile", "add", "none", "loud"]);
    assert_eq!(host.ok(&["list", "profile=loud", "--names"]), "both\nnone\n");
    // A rebuilt database knows all of it, also where the old one is gone.
    let before = (host.ok(&["profile", "show", "loud"]), expanded(&host, "both"), expanded(&host, "plain"));
    fs::remove_file(host.state_dir().join("nagaya.db")).expect("remove the database");
    host.ok(&["repair"]);
    let after = (host.ok(&["profile", "show", "loud"]), expanded(&host, "both"), expanded(&host, "plain"));
    assert_eq!(after, before);
}

#[test]
fn a_change_of_a_profile_reaches_running_containers() {
    let host = Host::new();
    host.ok(&["profile", "create", "gold", "-c", "environment.PLAN=gold"]);
    for name in ["a", "b"] {
        host.ok(&["launch", "tiny", name, "-p", "gold"]);
    }
    host.ok(&["create", "tiny", "off", "-p", "gold"]);
    host.ok(&["config", "set", "b", "environment.PLAN=mine"]);
    assert_eq!((host.sh("a", "echo $PLAN"), host.sh("b", "echo $PLAN")), ("gold".into(), "mine".into()));
    let told = note(
        &host,
        &["profile", "set", "gold", "environment.PLAN=large", "limits.kernel.nofile=300", "user.x=y"],
    );
    assert!(
        told.contains("environment.PLAN takes effect in new programs of: a (nagaya restart a)"),
        "{told}"
    );
    assert!(told.contains("limits.kernel.nofile takes effect at the next start of: a, b ("), "{told}");
    assert_eq!((host.sh("a", "echo $PLAN"), host.sh("b", "echo $PLAN")), ("large".into(), "mine".into()));
    assert_eq!(host.sh("a", "ulimit -n"), "1024");
    host.ok(&["restart", "a"]);
    assert_eq!(host.sh("a", "ulimit -n"), "300");
    if has_huge_pages(&host) {
        host.ok(&["config", "set", "b", "limits.hugepages.2MB=2MiB"]);
        host.ok(&["profile", "set", "gold", "limits.hugepages.2MB=4MiB"]);
        assert_eq!((huge_pages(&host, "a"), huge_pages(&host, "b")), (Some(4 << 20), Some(2 << 20)));
        host.ok(&["config", "unset", "b", "limits.hugepages.2MB"]);
        assert_eq!(huge_pages(&host, "b"), Some(4 << 20));
        host.ok(&["profile", "remove", "b", "gold"]);
        assert_eq!(huge_pages(&host, "b"), None);
        host.ok(&["profile", "unset", "gold", "limits.hugepages.2MB"]);
        assert_eq!(huge_pages(&host, "a"), None);
    }
    host.ok(&["profile", "rename", "gold", "large"]);
    assert_eq!(host.info("a")["profiles"].to_string(), "[\"large\"]");
    assert_eq!(host.sh("a", "echo $PLAN"), "large");
}

#[test]
fn what_a_container_cannot_have_changes_nothing() {
    let host = Host::new();
    host.ok(&["profile", "create", "gold", "-c", "user.a=1"]);
    host.ok(&["create", "tiny", "c", "-p", "gold"]);
    let before = host.ok(&["profile", "show", "gold"]);
    for (args, code, said) in [
        (
            &["profile", "set", "gold", "user.a=2", "limits.memroy=1GiB"][..],
            1,
            "did you mean 'limits.memory'?",
        ),
        (
            &["profile", "set", "gold", "user.a=2", "limits.hugepages.1MB=1MiB"],
            3,
            "container 'c' cannot have",
        ),
        (&["profile", "set", "gold", "profiles=default"], 1, "a profile cannot use other profiles"),
        (&["profile", "delete", "gold"], 1, "profile 'gold' is used by c"),
        (&["profile", "delete", "default"], 1, "cannot be deleted"),
        (&["profile", "rename", "default", "x"], 1, "cannot be renamed"),
        (&["profile", "rename", "gold", "default"], 1, "there is a profile 'default' already"),
        (&["profile", "create", "gold"], 1, "there is a profile 'gold' already"),
        (&["profile", "create", "a b"], 1, "cannot name a profile"),
        (&["profile", "add", "c", "gold"], 1, "uses profile 'gold' already"),
        (&["profile", "remove", "c", "default"], 1, "does not use profile 'default'"),
        (&["profile", "assign", "c", "gold,gold"], 1, "a profile that it uses once"),
        (&["profile", "assign", "c", "gold,golt"], 1, "did you mean 'gold'?"),
        (&["launch", "tiny", "new", "-p", "golt"], 1, "did you mean 'gold'?"),
        (&["launch", "tiny", "new", "-p", "gold", "--no-profiles"], 2, "cannot be used with"),
    ] {
        let text = host.fails(code, args);
        assert!(text.contains(said), "{args:?}: {text}");
    }
    assert_eq!(host.ok(&["profile", "show", "gold"]), before);
    assert_eq!(host.info("c")["profiles"].to_string(), "[\"gold\"]");
    host.ok(&["profile", "assign", "c", ""]);
    host.ok(&["profile", "copy", "gold", "silver"]);
    host.ok(&["profile", "delete", "gold"]);
    assert_eq!(host.ok(&["profile", "get", "silver", "user.a"]), "1\n");
}

/// A command that was killed between the database and the containers.
#[test]
fn a_change_whose_command_was_killed_is_finished_by_the_next() {
    let host = Host::new();
    host.ok(&["profile", "create", "gold"]);
    host.ok(&["launch", "tiny", "c", "-p", "gold"]);
    let id = host.info("c")["id"].as_str().expect("an id").to_owned();
    let path = host.run_dir().join("locks").join(&id);
    let lock =
        fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path).expect("make the lock");
    chown(&path, host.uid(), host.uid()).expect("give the lock to the service user");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("lock the container");
    let change = host.spawn(&["profile", "set", "gold", "environment.PLAN=large"], b"");
    super::host::until(20, "the change is stored", || {
        host.ok(&["profile", "get", "gold", "environment.PLAN"]) == "large\n"
    });
    let manifest = host.state_dir().join("containers").join(&id).join("manifest.toml");
    let brought = || fs::read_to_string(&manifest).expect("read the manifest").contains("large");
    assert!(!brought());
    let group = change.pid();
    change.kill(true);
    drop(change.wait());
    group_has_ended(group);
    drop(lock);
    assert_eq!(host.sh("c", "echo $PLAN"), "large");
    let done = host.ok(&["operation", "list"]);
    assert!(done.contains("profile-change") && !done.contains("running"), "{done}");
    assert!(brought());
}

#[test]
fn what_a_running_container_has_is_compared_with_what_is_wanted() {
    let host = Host::new();
    host.ok(&["profile", "create", "gold", "-c", "environment.A=1"]);
    host.ok(&["launch", "tiny", "c", "-p", "gold"]);
    let diff = || -> Vec<(String, Value, Value)> {
        let json = host.ok(&["config", "diff", "c", "--format", "json"]);
        let rows: Vec<Value> = serde_json::from_str(&json).expect("JSON");
        let text = |row: &Value, key: &str| row[key].clone();
        let name = |row: &Value| row["key"].as_str().expect("a key").to_owned();
        rows.iter().map(|row| (name(row), text(row, "wanted"), text(row, "live"))).collect()
    };
    assert_eq!((diff(), host.ok(&["config", "diff", "c"])), (vec![], String::new()));
    host.ok(&["profile", "set", "gold", "environment.A=2"]);
    host.ok(&["config", "set", "c", "limits.kernel.nofile=300"]);
    let row = |key: &str, wanted: Value, live: Value| (key.to_owned(), wanted, live);
    let waits = vec![
        row("environment.A", "2".into(), "1".into()),
        row("limits.kernel.nofile", "300".into(), Value::Null),
    ];
    assert_eq!(diff(), waits);
    let notes = host.info("c")["notes"].to_string();
    assert!(notes.contains("limits.kernel.nofile changes at the next start: nagaya restart c"), "{notes}");
    host.ok(&["restart", "c"]);
    assert_eq!(diff(), vec![]);
    if has_huge_pages(&host) {
        host.ok(&["config", "set", "c", "limits.hugepages.2MB=4MiB"]);
        assert_eq!(diff(), vec![]);
        let file = host.cgroup_of("c").join("payload/hugetlb.2MB.max");
        fs::write(file, "2097152").expect("change the limit behind nagaya's back");
        assert_eq!(diff(), vec![row("limits.hugepages.2MB", "4MiB".into(), "2097152".into())]);
        assert!(host.ok(&["config", "diff", "c"]).contains("hugetlb.2MB.max 2097152"));
    }
    host.ok(&["stop", "--force", "c"]);
    assert!(host.fails(1, &["config", "diff", "c"]).contains("is not running"));
}

/// The file systems that are mounted at a place in the guest, as its kernel tells them.
fn mounts(host: &Host, name: &str, path: &str) -> usize {
    host.exec(name, &["cat", "/proc/self/mountinfo"]).matches(&format!(" {path} ")).count()
}

#[test]
fn devices_of_profiles_come_to_running_containers_and_go() {
    let host = Host::new();
    let dir = Dir::closed();
    let (data, own) = (dir.inner("data", 0), dir.inner("own", 0));
    fs::write(format!("{data}/of"), "profile").unwrap();
    fs::write(format!("{own}/of"), "own").unwrap();
    host.ok(&["profile", "create", "gold"]);
    host.ok(&["profile", "create", "late"]);
    host.ok(&["launch", "tiny", "a", "-p", "gold,late"]);
    host.ok(&["launch", "tiny", "b", "-p", "gold", "-d", "data,type=none"]);
    host.ok(&["create", "tiny", "off", "-p", "gold"]);
    let of = |name: &str| host.sh(name, "cat /mnt/data/of 2>/dev/null; true");
    let of_data = source(&data);
    let add =
        ["profile", "device", "add", "gold", "data", "disk", &of_data, "path=/mnt/data", "readonly=true"];
    assert_eq!(note(&host, &add), "");
    assert_eq!((of("a"), of("b")), ("profile".into(), String::new()));
    assert!(!host.nagaya(&["exec", "a", "--", "touch", "/mnt/data/x"]).status.success(), "it is read-only");
    host.ok(&["start", "off"]);
    assert_eq!(of("off"), "profile");
    let shown: Value =
        serde_json::from_str(&host.ok(&["profile", "show", "gold", "--format", "json"])).unwrap();
    assert_eq!(shown["devices"]["data"]["type"], "disk");
    assert!(host.ok(&["profile", "show", "gold"]).contains("devices.data"));
    assert!(host.ok(&["profile", "device", "list", "gold"]).contains(&data));
    assert_eq!(expanded(&host, "a")["devices.data"]["profile"], "gold");
    assert_eq!(expanded(&host, "b")["devices.data"]["value"], "none");
    assert!(host.ok(&["device", "list", "a"]).contains("gold"));
    // The profile's device is the profile's to change; an own one of the same name takes its place.
    let said = host.fails(1, &["device", "set", "a", "data", "readonly=false"]);
    assert!(
        said.contains("is of profile 'gold'") && said.contains("nagaya profile device set gold data"),
        "{said}"
    );
    let added = ["device", "add", "off", "data", "disk", &source(&own), "path=/mnt/data"];
    assert!(note(&host, &added).contains("takes effect at the next start"));
    host.ok(&["restart", "off"]);
    assert_eq!(of("off"), "own");
    host.ok(&["device", "remove", "off", "data"]);
    assert_eq!(of("off"), "profile", "what the profile has comes back");
    host.ok(&["device", "remove", "b", "data"]);
    assert_eq!(of("b"), "profile");
    host.ok(&["device", "add", "b", "data", "none"]);
    assert_eq!((of("b"), mounts(&host, "b", "/mnt/data")), (String::new(), 0));
    // A later profile counts before an earlier one; what a guest has stays until its next start.
    let later = ["profile", "device", "add", "late", "data", "disk", "source=tmpfs:", "path=/mnt/data"];
    assert!(
        note(&host, &later).contains("devices.data takes effect at the next start of: a (nagaya restart a)")
    );
    host.ok(&["restart", "a"]);
    assert!(host.exec("a", &["cat", "/proc/self/mountinfo"]).contains("/mnt/data rw,nosuid,nodev"));
    host.ok(&["profile", "remove", "a", "late"]);
    host.ok(&["restart", "a"]);
    assert_eq!(of("a"), "profile");
    // What a program uses waits, and the rest goes.
    host.ok(&["exec", "a", "--detach", "--", "sh", "-c", "cd /mnt/data && exec sleep 1000"]);
    let said = note(&host, &["profile", "device", "remove", "gold", "data"]);
    assert!(
        said.contains("something in 'a' uses /mnt/data") && said.contains("next start of: a ("),
        "{said}"
    );
    assert_eq!((mounts(&host, "a", "/mnt/data"), mounts(&host, "off", "/mnt/data")), (1, 0));
    host.ok(&["restart", "--force", "a"]);
    assert_eq!(mounts(&host, "a", "/mnt/data"), 0);
    // Another profile brings its own.
    host.ok(&["profile", "assign", "a", "late"]);
    assert_eq!(mounts(&host, "a", "/mnt/data"), 1);
    host.ok(&["profile", "assign", "a", ""]);
    assert_eq!(mounts(&host, "a", "/mnt/data"), 0);
}

#[test]
fn what_a_profile_cannot_have_is_refused_and_changes_nothing() {
    let host = Host::new();
    let dir = Dir::closed();
    let data = source(&dir.inner("data", 0));
    host.ok(&["profile", "create", "gold"]);
    host.ok(&["launch", "tiny", "c", "-p", "gold", "-d", "own,type=disk,source=tmpfs:,path=/own"]);
    let before = host.ok(&["profile", "show", "gold"]);
    let missing = source(&dir.0.join("missing").display().to_string());
    let add = |device: &'static str| ["profile", "device", "add", "gold", device];
    for (args, said) in [
        ([&add("eth1")[..], &["nic", "network=lan"]].concat(), "a profile cannot have the interface 'eth1'"),
        ([&add("a")[..], &["disk", &missing, "path=/a"]].concat(), "cannot open"),
        (
            [&add("a")[..], &["disk", &data, "path=/own"]].concat(),
            "container 'c' cannot have profile 'gold' so",
        ),
        ([&add("a")[..], &["disk", &data]].concat(), "a disk needs path"),
        ([&add("a")[..], &["none", "path=/a"]].concat(), "path is only for"),
        (
            [&add("p")[..], &["proxy", "listen=tcp:0.0.0.0:80", "connect=tcp:10.0.0.9:80"]].concat(),
            "127.0.0.1",
        ),
        (vec!["profile", "device", "set", "gold", "a", "path=/b"], "profile 'gold' has no device 'a'"),
        (vec!["profile", "device", "remove", "gold", "a"], "nagaya profile device list gold"),
    ] {
        let text = host.fails(1, &args);
        assert!(text.contains(said), "{args:?}: {text}");
    }
    assert_eq!(host.ok(&["profile", "show", "gold"]), before);
    // What is typed as a text.
    let edit = |text: &str| {
        let done = host.spawn(&["profile", "edit", "gold"], text.as_bytes()).wait();
        (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let (code, said) = edit("[devices.eth1]\ntype = 'nic'\n");
    assert!(code == Some(1) && said.contains("line 1, column 10: 'eth1' cannot be a nic here"), "{said}");
    let disk =
        format!("[devices.a]\ntype = 'disk'\nsource = '{}'\npath = '/a' # here\n", &data["source=".len()..]);
    assert_eq!(edit(&disk), (Some(0), String::new()));
    assert_eq!(mounts(&host, "c", "/a"), 1);
    // A directory that only a profile without containers names stays allowed.
    host.ok(&["profile", "assign", "c", ""]);
    host.ok(&["launch", "tiny", "d", "-p", "gold"]);
    assert_eq!(mounts(&host, "d", "/a"), 1);
    let before = (host.ok(&["profile", "show", "gold"]), expanded(&host, "d"));
    host.ok(&["stop", "--force", "d"]);
    fs::remove_file(host.state_dir().join("nagaya.db")).expect("remove the database");
    host.ok(&["repair"]);
    assert_eq!((host.ok(&["profile", "show", "gold"]), expanded(&host, "d")), before);
}

/// The ports of the host that lead somewhere, as the kernel's own tool tells them.
fn leads(host: &Host, port: &str) -> bool {
    let table: String = host.ok(&["forward", "list", "--format", "json"]);
    let rows: Value = serde_json::from_str(&table).expect("JSON");
    let listed = rows.as_array().expect("rows").iter().any(|row| row["listen"] == port);
    let rules = host.net().run("nft", &["list", "table", "inet", host.name()]);
    assert_eq!(rules.contains(&format!(" {port} ")), listed, "{rules}");
    listed
}

#[test]
fn a_port_of_a_profile_leads_to_the_one_container_that_uses_it() {
    let host = Host::alone();
    host.ok(&["profile", "create", "web"]);
    host.ok(&["launch", "tiny", "a", "-p", "web"]);
    let add = [
        "profile",
        "device",
        "add",
        "web",
        "http",
        "proxy",
        "listen=tcp:0.0.0.0:18080",
        "connect=tcp:127.0.0.1:80",
    ];
    host.ok(&add);
    assert!(leads(&host, "18080"));
    assert_eq!(expanded(&host, "a")["devices.http"]["profile"], "web");
    let said = host.fails(1, &["launch", "tiny", "b", "-p", "web"]);
    assert!(said.contains("18080"), "{said}");
    assert_eq!(host.list().len(), 1, "nothing of it is left");
    host.ok(&["create", "tiny", "b"]);
    let said = host.fails(1, &["profile", "add", "b", "web"]);
    assert!(said.contains("18080"), "{said}");
    assert_eq!(host.info("b")["profiles"].to_string(), "[\"default\"]");
    let said = host.fails(1, &["forward", "remove", "a", "tcp", "18080"]);
    assert!(said.contains("by a profile") && said.contains("nagaya device add a http none"), "{said}");
    // A copy goes without.
    host.ok(&["stop", "--force", "a"]);
    host.ok(&["copy", "a", "twin"]);
    assert!(host.ok(&["device", "list", "twin"]).contains("none"));
    // An own one of the same name comes before it, and it comes back.
    host.ok(&["device", "add", "a", "http", "proxy", "listen=tcp:0.0.0.0:18081", "connect=tcp:127.0.0.1:80"]);
    assert_eq!((leads(&host, "18080"), leads(&host, "18081")), (false, true));
    host.ok(&["device", "remove", "a", "http"]);
    assert_eq!((leads(&host, "18080"), leads(&host, "18081")), (true, false));
    host.ok(&["profile", "device", "set", "web", "http", "listen=tcp:0.0.0.0:18082"]);
    assert_eq!((leads(&host, "18080"), leads(&host, "18082")), (false, true));
    host.ok(&["device", "add", "a", "http", "none"]);
    assert!(!leads(&host, "18082"));
    host.ok(&["device", "remove", "a", "http"]);
    host.ok(&["rename", "a", "c"]);
    assert!(leads(&host, "18082"));
    host.ok(&["profile", "device", "remove", "web", "http"]);
    assert!(!leads(&host, "18082"));
    // It comes with a new container, and goes with it.
    host.ok(&add);
    host.ok(&["delete", "--force", "c"]);
    assert!(!leads(&host, "18080"));
    host.ok(&["launch", "tiny", "z", "-p", "web"]);
    assert!(leads(&host, "18080"));
    // An interface of its name comes before it.
    host.ok(&["device", "add", "z", "http", "nic", &format!("network={}", host.bridge())]);
    assert!(!leads(&host, "18080"));
    host.ok(&["device", "remove", "z", "http"]);
    assert!(leads(&host, "18080"));
    host.ok(&["delete", "--force", "z"]);
    assert!(!leads(&host, "18080"));
}

#[test]
fn ordinary_users_have_devices_in_profiles_with_and_without_hostd() {
    let alone = DaemonlessUser::with_template();
    alone.ok(&["profile", "create", "gold"]);
    alone.ok(&["launch", "tiny", "c", "-p", "gold"]);
    alone.ok(&["profile", "device", "add", "gold", "cache", "disk", "source=tmpfs:", "path=/cache"]);
    assert_eq!(alone.sh("c", "stat -f -c %T /cache"), "tmpfs");
    let said = alone.fails(
        1,
        &["profile", "device", "add", "gold", "data", "disk", "source=/tmp", "path=/data"],
        &Otherwise::default(),
    );
    assert!(said.contains("shift=false"), "{said}");
    let ports = ["listen=tcp:0.0.0.0:18080", "connect=tcp:127.0.0.1:80"];
    let said = alone.fails(
        1,
        &[&["profile", "device", "add", "gold", "http", "proxy"][..], &ports].concat(),
        &Otherwise::default(),
    );
    assert!(said.contains("without nagaya-hostd"), "{said}");
    alone.ok(&["profile", "device", "remove", "gold", "cache"]);
    assert!(!alone.sh("c", "cat /proc/self/mountinfo").contains(" /cache "));

    let users = HostdUsers::new(1);
    let ann = users.granted(0);
    let dir = Dir::open();
    let data = dir.inner("data", ann.uid);
    fs::write(format!("{data}/of"), "ann").unwrap();
    ann.ok(&["profile", "create", "gold"]);
    ann.ok(&["launch", "tiny", "c", "-p", "gold"]);
    ann.ok(&["profile", "device", "add", "gold", "data", "disk", &source(&data), "path=/data"]);
    assert_eq!(ann.ok(&["exec", "c", "--", "cat", "/data/of"]), "ann");
    ann.ok(&["restart", "c"]);
    assert_eq!(ann.ok(&["exec", "c", "--", "cat", "/data/of"]), "ann");
    // What the user may not read, the user's guests do not get.
    let secret = dir.inner("secret", 0);
    fs::set_permissions(&secret, PermissionsExt::from_mode(0o700)).unwrap();
    let told =
        ann.nagaya(&["profile", "device", "add", "gold", "secret", "disk", &source(&secret), "path=/secret"]);
    assert!(String::from_utf8_lossy(&told.stderr).contains("ermission denied"), "{told:?}");
    assert!(!ann.ok(&["exec", "c", "--", "cat", "/proc/self/mountinfo"]).contains(" /secret "));
}
