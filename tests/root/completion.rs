//! What the shells offer of what there is: names, by what their containers do. Nothing is made.

use std::process::{Command, Output};

use super::host::Host;
use super::hostd_users::HostdUsers;

fn asked(mut command: Command, words: &[&str]) -> Vec<String> {
    let index = words.len().to_string();
    command.args(["--", "nagaya"]).args(words).envs([("NAGAYA_COMPLETE", "bash"), ("_NAGAYA_INDEX", &index)]);
    let Output { status, stdout, stderr } = command.output().expect("run nagaya");
    assert!(status.success() && stderr.is_empty(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8_lossy(&stdout).lines().map(str::to_owned).collect()
}

#[test]
fn names_are_offered_where_they_fit() {
    let host = Host::new();
    let offered = |words: &[&str]| asked(host.command(&[]), words);
    host.launch("up");
    host.launch("still");
    host.ok(&["pause", "still"]);
    host.ok(&["create", "tiny", "down", "-c", "user.owner=ann"]);
    host.ok(&["network", "create", "lan", "ipv6.address=none"]);
    host.ok(&["firewall", "group", "create", "web"]);
    for (words, wanted) in [
        (&["start", ""][..], &["down"][..]),
        (&["stop", ""], &["still", "up"]),
        (&["pause", ""], &["up"]),
        (&["resume", ""], &["still"]),
        (&["exec", ""], &["still", "up"]),
        (&["delete", "up", ""], &["down", "still"]),
        (&["info", "d"], &["down"]),
        (&["launch", "ti"], &["tiny"]),
        (&["template", "delete", ""], &["tiny"]),
        (&["network", "show", "l"], &["lan"]),
        (&["launch", "tiny", "x", "--network", "l"], &["lan"]),
        (&["device", "set", "up", ""], &["eth0"]),
        (&["config", "unset", "down", ""], &["user.owner"]),
        (&["firewall", "group", "join", ""], &["web"]),
        (&["firewall", "allow", "group:"], &["group:web"]),
        (&["device", "add", "up", "eth1", "nic", "network=l"], &["network=lan"]),
    ] {
        assert_eq!(offered(words), wanted, "{words:?}");
    }
    // Whoever may not have it open is not told either.
    let mut command = host.program("setpriv", &["--reuid", "12345", "--clear-groups", "--regid", "12345"]);
    command.arg(env!("CARGO_BIN_EXE_nagaya")).env("NAGAYA_INSTANCE", host.name());
    let stranger = asked(command, &["info", ""]);
    assert!(!stranger.iter().any(|word| word == "up"), "{stranger:?}");
}

#[test]
fn nothing_is_set_up_for_it() {
    let host = Host::bare();
    let offered = asked(host.command(&[]), &["info", ""]);
    assert!(offered.iter().all(|word| word.starts_with('-')), "{offered:?}");
    assert!(!host.state_dir().exists() && !host.run_dir().exists() && host.uid().is_none());
}

#[test]
fn users_are_offered_their_own() {
    let users = HostdUsers::new(2);
    let (ann, bob) = (users.granted(0), users.user(1));
    ann.ok(&["create", "tiny", "mine"]);
    assert_eq!(asked(ann.command(&[]), &["info", "m"]), ["mine"]);
    assert_eq!(asked(bob.command(&[]), &["info", "m"]), [""; 0]);
    assert!(!bob.state_dir().exists());
    let of_ann = |name: &str| asked(users.host.command(&[]), &["--owner", name, "info", "m"]);
    assert_eq!(of_ann(&ann.name), ["mine"]);
    // Who has nothing gets nothing by that.
    assert_eq!(of_ann(&bob.name), [""; 0]);
    assert!(!bob.state_dir().exists());
}
