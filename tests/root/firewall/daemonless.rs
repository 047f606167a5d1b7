//! Ordinary users without nagaya-hostd: the firewall is in the user's own network namespace.

use serde_json::Value;

use crate::daemonless_user::{DaemonlessUser, Otherwise};
use crate::errors::REFUSED;
use crate::host::{lives, run_tool, until};
use crate::lab;

fn ok(user: &DaemonlessUser, words: &str) -> String {
    user.ok(&words.split(' ').collect::<Vec<_>>())
}

#[test]
fn a_daemonless_users_rules_and_blocks_hold_in_its_own_network() {
    let user = DaemonlessUser::with_template();
    ok(&user, "launch tiny a");
    ok(&user, "launch tiny b");
    let server = lab::serve(user.init("a"), &[22, 80]);
    let (a, b) = (user.address("a"), user.address("b"));
    let reaches = |port: u16| lab::asks_from(user.init("b"), &a, port).is_some();
    assert!(reaches(22) && reaches(80));
    ok(&user, "firewall default a in=deny");
    ok(&user, "firewall allow a tcp 80");
    assert!(reaches(80) && !reaches(22));
    let holder = user.holder().expect("a namespace holder");
    assert!(lab::asks_from(holder, &a, 22).is_some(), "from where the bridge is");
    let rules: Value = serde_json::from_str(&ok(&user, "firewall rules a --format json")).expect("JSON");
    assert!(rules[0]["packets"].as_u64() > Some(0), "{rules}");

    ok(&user, &format!("firewall block {b} --from a --reason scans"));
    assert!(!reaches(80));
    let blocks: Value = serde_json::from_str(&ok(&user, "firewall blocks --format json")).expect("JSON");
    assert_eq!(blocks[0]["reason"], "scans");
    assert!(blocks[0]["hits"]["packets"].as_u64() > Some(0), "{blocks}");
    ok(&user, &format!("firewall unblock {b} --from a"));
    assert!(reaches(80));
    ok(&user, &format!("firewall block {b}"));
    assert!(!reaches(80));
    ok(&user, &format!("firewall unblock {b}"));

    // All of it is in that network and nothing in the machine's.
    let id = user.info("a")["id"].as_str().expect("an id").to_owned();
    assert!(user.in_network(&["nft", "-j", "list", "ruleset"]).contains(&id));
    assert!(!run_tool("nft", &["-j", "list", "ruleset"]).contains(&user.name));
    // Emptied from within, it is put back by the next start.
    user.in_network(&["nft", "flush", "ruleset"]);
    assert!(reaches(22));
    ok(&user, "restart --force b");
    assert!(reaches(80) && !reaches(22));

    // The namespaces are lost, when nothing runs, and others are made: with the same rules.
    ok(&user, &format!("firewall block {b} --from a"));
    drop(server);
    ok(&user, "stop --force a");
    ok(&user, "stop --force b");
    let pid = rustix::process::Pid::from_raw(holder).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill the namespace holder");
    until(5, "the namespace holder is gone", || !lives(holder));
    ok(&user, "start a");
    ok(&user, "start b");
    let _server = lab::serve(user.init("a"), &[22, 80]);
    assert!(!reaches(80));
    ok(&user, &format!("firewall unblock {b} --from a"));
    assert!(reaches(80) && !reaches(22));
}

#[test]
fn a_daemonless_policy_that_nobody_confirms_is_taken_back() {
    let user = DaemonlessUser::with_template();
    ok(&user, "launch tiny a");
    ok(&user, "launch tiny b");
    let _server = lab::serve(user.init("a"), &[80]);
    let reaches = || lab::asks_from(user.init("b"), &user.address("a"), 80).is_some();
    let policy = b"[containers.a]\ndefault-in = \"deny\"\n";
    let output = user.spawn(&["firewall", "apply", "-", "--confirm", "4"], policy).wait();
    assert!(output.status.success(), "{}", crate::host::told(&output));
    assert!(!reaches());
    until(15, "the policy is taken back", reaches);
    until(5, "nothing of it is left", || ok(&user, "firewall export").is_empty());
}

#[test]
fn a_daemonless_user_has_no_port_of_the_host_to_forward() {
    let user = DaemonlessUser::with_template();
    ok(&user, "launch tiny a");
    let args = ["forward", "add", "a", "tcp", "8080:80"];
    let said = user.fails(REFUSED, &args, &Otherwise::default());
    assert!(said.contains("nagaya-hostd"), "{said}");
    assert_eq!(ok(&user, "forward list --format json").trim(), "[]");
}
