//! `apply`: a host is made to match a file, once and again.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::daemonless_user::DaemonlessUser;
use super::devices::Dir;
use super::host::{Host, Running, told};
use super::hostd_users::HostdUsers;

const SHOP: &str = r#"
[defaults]
template = "tiny"
profiles = ["default", "gold"]

[profiles.gold]
description = "The large plan"
config = { environment.PLAN = "gold" }

[machines."web[1-2]"]
[machines.db]
profiles = []
state = "stopped"
config = { user.owner = "ann" }
"#;

fn write(dir: &Path, text: &str) -> String {
    let file = dir.join("shop.toml");
    fs::write(&file, text).expect("write the file");
    file.to_str().expect("a path").to_owned()
}

fn states(host: &Host) -> Vec<(String, String)> {
    let text = |row: &Value, key: &str| row[key].as_str().expect("a text").to_owned();
    host.list().iter().map(|row| (text(row, "name"), text(row, "state"))).collect()
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(name, state)| ((*name).to_owned(), (*state).to_owned())).collect()
}

#[test]
fn a_host_matches_a_file_and_what_matches_is_left_alone() {
    let host = Host::new();
    let dir = tempfile::tempdir().expect("make a directory");
    let file = write(dir.path(), SHOP);
    host.ok(&["create", "tiny", "other"]);
    let plan = host.ok(&["apply", &file, "--dry-run"]);
    assert!(
        plan.contains("profile gold: create") && plan.contains("web2: create from tiny, start"),
        "{plan}"
    );
    assert_eq!(states(&host).len(), 1, "nothing is done");
    host.ok(&["apply", &file]);
    let there = [("db", "stopped"), ("other", "stopped"), ("web1", "running"), ("web2", "running")];
    assert_eq!(states(&host), pairs(&there));
    assert_eq!(host.sh("web2", "echo $PLAN"), "gold");
    assert_eq!(host.ok(&["config", "show", "db"]), "user.owner: ann\n");
    let inits = [host.init("web1"), host.init("web2")];
    assert_eq!(host.ok(&["apply", &file]), "Everything is as the file says.\n");
    assert_eq!([host.init("web1"), host.init("web2")], inits);
    // What was changed by hand, and in the file.
    host.ok(&["stop", "--force", "web1"]);
    host.ok(&["config", "set", "web2", "user.x=by-hand"]);
    let file = write(
        dir.path(),
        &SHOP.replace("PLAN = \"gold\"", "PLAN = \"large\"").replace("owner = \"ann\"", "owner = \"bob\""),
    );
    let json: Value =
        serde_json::from_str(&host.ok(&["apply", &file, "--dry-run", "--format", "json"])).expect("JSON");
    let steps: Vec<String> = json
        .as_array()
        .expect("steps")
        .iter()
        .map(|step| {
            format!(
                "{} {}",
                step["name"].as_str().expect("a name"),
                step["action"].as_str().expect("an action")
            )
        })
        .collect();
    assert_eq!(steps, ["gold change", "web1 start", "web2 change", "db change"]);
    host.ok(&["apply", &file]);
    assert_eq!(states(&host), pairs(&there));
    assert_eq!(
        (host.sh("web1", "echo $PLAN"), host.sh("web2", "echo $PLAN")),
        ("large".into(), "large".into())
    );
    assert_eq!(host.init("web2"), inits[1], "it was not restarted");
    assert_eq!(host.ok(&["config", "show", "web2"]), "");
    assert_eq!(host.ok(&["config", "get", "db", "user.owner"]), "bob\n");
    assert_eq!(host.ok(&["apply", &file]), "Everything is as the file says.\n");
}

#[test]
fn only_machines_that_the_file_has_made_are_pruned() {
    let host = Host::new();
    let dir = tempfile::tempdir().expect("make a directory");
    let machines = |names: &str| format!("[defaults]\ntemplate = 'tiny'\n[machines.'web[{names}]']\n");
    let file = write(dir.path(), &machines("1-3"));
    host.ok(&["create", "tiny", "web3"]);
    host.ok(&["create", "tiny", "other"]);
    host.ok(&["apply", &file]);
    write(dir.path(), &machines("1-1"));
    assert_eq!(host.ok(&["apply", &file]), "Everything is as the file says.\n");
    let text = host.fails(1, &["apply", &file, "--prune"]);
    assert!(text.contains("machines would be deleted") && text.contains("--yes"), "{text}");
    assert_eq!(states(&host).len(), 4);
    host.ok(&["apply", &file, "--prune", "--yes"]);
    assert_eq!(states(&host), pairs(&[("other", "stopped"), ("web1", "running"), ("web3", "running")]));
    // Another file has made none of them; one without a place has no machines of its own.
    let empty = dir.path().join("empty.toml");
    fs::write(&empty, "").expect("write the file");
    host.ok(&["apply", empty.to_str().expect("a path"), "--prune", "--yes"]);
    let nameless = host.spawn(&["apply", "-", "--prune", "--yes"], b"").wait();
    assert_eq!(nameless.status.code(), Some(1), "{}", told(&nameless));
    assert_eq!(states(&host).len(), 3);
    let named = host.spawn(&["apply", "-"], b"name = 'x'\n[machines.new]\ntemplate = 'tiny'\n").wait();
    assert!(named.status.success(), "{}", told(&named));
    let gone = host.spawn(&["apply", "-", "--prune", "--yes"], b"name = 'x'\n").wait();
    assert!(gone.status.success(), "{}", told(&gone));
    assert_eq!(states(&host).len(), 3);
}

#[test]
fn mistakes_stop_all_and_failures_only_their_machine() {
    let host = Host::new();
    let dir = tempfile::tempdir().expect("make a directory");
    let file = write(dir.path(), "[machines.a]\ntemplate = 'tiny'\n\n[machines.b]\ntemplat = 'tiny'\n");
    let text = host.fails(1, &["apply", &file]);
    assert!(text.contains("line 5, column 1: there is no 'templat'"), "{text}");
    assert!(text.contains("did you mean 'template'?"), "{text}");
    assert_eq!(states(&host).len(), 0);
    host.ok(&["create", "tiny", "c"]);
    let file = write(
        dir.path(),
        "[machines.a]\ntemplate = 'tiny'\n[machines.b]\ntemplate = 'no-such'\n[machines.c]\ntemplate = 'big'\n\
         [machines.d]\ntemplate = 'tiny'\nprofiles = 'gold'\n[machines.e]\ntemplate = 'tiny'\n",
    );
    let text = host.fails(1, &["apply", &file]);
    for said in ["b: ", "c: it was made from template 'tiny'", "d: there is no profile 'gold'"] {
        assert!(text.contains(said), "{said}: {text}");
    }
    assert_eq!(states(&host), pairs(&[("a", "running"), ("c", "stopped"), ("e", "running")]));
}

#[test]
fn ordinary_users_apply_files_with_and_without_hostd() {
    let text = b"[profiles.gold]\nconfig = { environment.PLAN = 'gold' }\n\
                 [machines.'web[1-2]']\ntemplate = 'tiny'\nprofiles = 'gold'\n";
    let alone = DaemonlessUser::with_template();
    let done = alone.spawn(&["apply", "-", "--yes"], text).wait();
    assert!(done.status.success(), "{}", told(&done));
    assert_eq!(alone.sh("web2", "echo $PLAN"), "gold");
    let again = alone.spawn(&["apply", "-"], text).wait();
    assert_eq!(String::from_utf8_lossy(&again.stdout), "Everything is as the file says.\n");
    let edited = alone.spawn(&["profile", "edit", "gold"], b"[config]\nenvironment.PLAN = 'large'\n").wait();
    assert!(edited.status.success(), "{}", told(&edited));
    assert_eq!(alone.sh("web1", "echo $PLAN"), "large");

    let users = HostdUsers::new(1);
    let ann = users.granted(0);
    let done = Running::start(ann.command(&["apply", "-"]), text).wait();
    assert!(done.status.success(), "{}", told(&done));
    assert_eq!(ann.ok(&["exec", "web1", "--", "sh", "-c", "echo $PLAN"]), "gold\n");
    ann.ok(&["profile", "set", "gold", "environment.PLAN=large"]);
    assert_eq!(ann.ok(&["exec", "web1", "--", "sh", "-c", "echo $PLAN"]), "large\n");
    assert_eq!(ann.ok(&["list", "profile=gold", "--names"]), "web1\nweb2\n");
}

#[test]
fn devices_of_machines_and_profiles_are_as_the_file_says() {
    let host = Host::alone();
    let dir = Dir::closed();
    let data = dir.inner("data", 0);
    fs::write(format!("{data}/of"), "data").expect("write a file");
    let text = |own: &str| {
        format!(
            "[defaults]\ntemplate = 'tiny'\nprofiles = 'gold'\n\
             [profiles.gold.devices.shared]\ntype = 'disk'\nsource = '{data}'\npath = '/shared'\nreadonly = true\n\
             [machines.web]\n[machines.other.devices.shared]\ntype = 'none'\n{own}"
        )
    };
    let own = "[machines.web.devices.cache]\ntype = 'disk'\nsource = 'tmpfs:'\npath = '/cache'\n\
               [machines.web.devices.http]\ntype = 'proxy'\nlisten = 'tcp:0.0.0.0:18090'\nconnect = 'tcp:0.0.0.0:80'\n";
    let file = write(dir.0.as_path(), &text(own));
    let plan = host.ok(&["apply", &file, "--dry-run"]);
    for line in [
        format!("  devices.shared = disk path=/shared readonly=true source={data}"),
        "  devices.cache = disk path=/cache source=tmpfs:".to_owned(),
        "  devices.http = proxy connect=tcp:127.0.0.1:80 listen=tcp:0.0.0.0:18090".to_owned(),
        "  devices.shared = none".to_owned(),
    ] {
        assert!(plan.contains(&line), "{line}: {plan}");
    }
    host.ok(&["apply", &file]);
    let mounts = |name: &str| host.sh(name, "cut -d' ' -f5 /proc/self/mountinfo");
    let has = |name: &str, path: &str| mounts(name).lines().any(|line| line == path);
    assert_eq!(host.sh("web", "cat /shared/of"), "data");
    assert!(has("web", "/cache") && !has("other", "/shared"));
    let leads = |port: &str| {
        host.net().run("nft", &["list", "table", "inet", host.name()]).contains(&format!(" {port} "))
    };
    assert!(leads("18090"));
    assert_eq!(host.ok(&["apply", &file]), "Everything is as the file says.\n");
    // By hand, and in the file.
    host.ok(&["device", "remove", "web", "cache"]);
    host.ok(&["device", "add", "web", "more", "disk", "source=tmpfs:", "path=/more"]);
    let file = write(dir.0.as_path(), &text(&own.replace("18090", "18091")));
    let plan = host.ok(&["apply", &file, "--dry-run"]);
    assert!(plan.contains("  devices.more: disk path=/more source=tmpfs: -> (not set)"), "{plan}");
    assert!(plan.contains("18090 -> proxy connect=tcp:127.0.0.1:80 listen=tcp:0.0.0.0:18091"), "{plan}");
    host.ok(&["apply", &file]);
    assert_eq!((leads("18090"), leads("18091")), (false, true));
    assert!(has("web", "/cache") && !has("web", "/more"));
    let file = write(
        dir.0.as_path(),
        &text("").replace("[profiles.gold.devices.shared]", "[profiles.gold.devices.other]"),
    );
    host.ok(&["apply", &file]);
    assert!(has("web", "/shared") && !has("web", "/cache") && !leads("18091"));
    assert_eq!(host.ok(&["apply", &file]), "Everything is as the file says.\n");
    let file =
        write(dir.0.as_path(), "[machines.a]\ntemplate = 'tiny'\n[machines.a.devices.e]\ntype = 'nic'\n");
    assert!(host.fails(1, &["apply", &file]).contains("'e' cannot be a nic here"));
}
