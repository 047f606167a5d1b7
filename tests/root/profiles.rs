//! Profiles: what containers get of them, at once and at their next start, and what is refused.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt, chown};

use serde_json::Value;

use super::crash::group_has_ended;
use super::host::{Host, told};

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
