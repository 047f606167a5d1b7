//! What `list` chooses and shows, of one owner's containers and of everybody's.

use serde_json::Value;

use super::host::Host;
use super::hostd_users::HostdUsers;

#[test]
fn words_and_columns_choose() {
    let host = Host::new();
    host.launch("n2");
    host.ok(&["create", "tiny", "n10", "-c", "user.customer=ann"]);
    host.ok(&["create", "tiny", "db1", "-c", "boot.autostart.delay=5"]);
    let names = |words: &[&str]| host.ok(&[&["list", "-q"], words].concat()).replace('\n', " ");
    assert_eq!(names(&[]), "db1 n2 n10 ");
    assert_eq!(names(&["n*"]), "n2 n10 ");
    assert_eq!(names(&["state=running"]), "n2 ");
    assert_eq!(names(&["n*", "state=stopped"]), "n10 ");
    assert_eq!(names(&["user.customer=ann"]), "n10 ");
    assert_eq!(names(&["state=paused"]), "");
    let table = host.ok(&["list", "db1", "--columns", "name,boot.autostart.delay,state"]);
    assert_eq!(table, "NAME   BOOT.AUTOSTART.DELAY   STATE\ndb1    5                      stopped\n");
    assert!(host.fails(1, &["list", "n2", "gone"]).contains("there is no container 'gone'"));
    assert!(host.fails(1, &["list", "stat=running"]).contains("did you mean 'state'?"));
}

#[test]
fn several_are_meant_by_a_pattern() {
    let host = Host::new();
    for name in ["web1", "web2", "db1"] {
        host.ok(&["create", "tiny", name]);
    }
    let get = |name: &str| host.ok(&["config", "get", name, "user.plan"]);
    host.ok(&["config", "set", "web*", "db1", "user.plan=s"]);
    assert_eq!(["web1", "web2", "db1"].map(get), ["s\n"; 3]);
    host.ok(&["config", "unset", "web?", "user.plan"]);
    assert_eq!(["web1", "web2", "db1"].map(get), ["\n", "\n", "s\n"]);
    let both: Vec<Value> =
        serde_json::from_str(&host.ok(&["info", "web*", "--format", "json"])).expect("JSON");
    assert_eq!(
        both.iter().map(|info| info["name"].as_str()).collect::<Vec<_>>(),
        [Some("web1"), Some("web2")]
    );
    assert!(host.fails(1, &["delete", "mail*"]).contains("no container's name fits 'mail*'"));
    host.ok(&["delete", "web*"]);
    assert_eq!(host.ok(&["list", "-q"]), "db1\n");
    // What a running container is given waits for nothing, and is not told as if it did.
    host.ok(&["start", "db1"]);
    host.see_links();
    host.ok(&["device", "add", "db1", "eth1", "nic"]);
    assert!(host.sh("db1", "ls /sys/class/net").contains("eth1"));
    let notes = host.info("db1")["notes"].to_string();
    assert!(!notes.contains("at the next start"), "{notes}");
}

#[test]
fn root_sees_everybodys() {
    let users = HostdUsers::new(1);
    let ann = users.granted(0);
    ann.ok(&["create", "tiny", "hers"]);
    let host = &users.host;
    host.ok(&["setup"]);
    host.import("tiny", &super::templates::tiny());
    host.ok(&["create", "tiny", "ours"]);
    let all: Vec<Value> =
        serde_json::from_str(&host.ok(&["list", "--all-owners", "--format", "json"])).expect("JSON");
    let mut found: Vec<_> = all.iter().map(|c| (c["owner"].as_str(), c["name"].as_str())).collect();
    found.sort();
    let mut wanted = [(Some(host.name()), Some("ours")), (Some(ann.name.as_str()), Some("hers"))];
    wanted.sort();
    assert_eq!(found, wanted);
    let owner = format!("owner={}", ann.name);
    assert_eq!(host.ok(&["list", "--all-owners", "-q", &owner]), "hers\n");
    ann.fails(1, &["list", "--all-owners"]);
}
