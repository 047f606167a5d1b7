//! Ordinary users without nagaya-hostd: the firewall is in the user's own network namespace.

use std::time::Duration;

use serde_json::Value;

use crate::errors::REFUSED;
use crate::host::{lives, run_tool, until};
use crate::lab;
use crate::person::{Otherwise, Person};

fn ok(person: &Person, words: &str) -> String {
    person.ok(&words.split(' ').collect::<Vec<_>>())
}

#[test]
fn a_private_users_rules_and_blocks_hold_in_its_own_network() {
    let person = Person::with_template();
    ok(&person, "launch tiny a");
    ok(&person, "launch tiny b");
    let server = lab::serve(person.init("a"), &[22, 80]);
    let (a, b) = (person.address("a"), person.address("b"));
    let reaches = |port: u16| lab::asks_from(person.init("b"), &a, port).is_some();
    assert!(reaches(22) && reaches(80));
    ok(&person, "firewall default a in=deny");
    ok(&person, "firewall allow a tcp 80");
    assert!(reaches(80) && !reaches(22));
    let keeper = person.keeper().expect("a keeper");
    assert!(lab::asks_from(keeper, &a, 22).is_some(), "from where the bridge is");
    let rules: Value = serde_json::from_str(&ok(&person, "firewall rules a --format json")).expect("JSON");
    assert!(rules[0]["packets"].as_u64() > Some(0), "{rules}");

    ok(&person, &format!("firewall block {b} --from a --reason scans"));
    assert!(!reaches(80));
    let blocks: Value = serde_json::from_str(&ok(&person, "firewall blocks --format json")).expect("JSON");
    assert_eq!(blocks[0]["reason"], "scans");
    assert!(blocks[0]["hits"]["packets"].as_u64() > Some(0), "{blocks}");
    ok(&person, &format!("firewall unblock {b} --from a"));
    assert!(reaches(80));
    ok(&person, &format!("firewall block {b}"));
    assert!(!reaches(80));
    ok(&person, &format!("firewall unblock {b}"));

    // All of it is in that network and nothing in the machine's.
    let id = person.info("a")["id"].as_str().expect("an id").to_owned();
    assert!(person.in_network(&["nft", "-j", "list", "ruleset"]).contains(&id));
    assert!(!run_tool("nft", &["-j", "list", "ruleset"]).contains(&person.name));
    // Emptied from within, it is put back by the next start.
    person.in_network(&["nft", "flush", "ruleset"]);
    assert!(reaches(22));
    ok(&person, "restart --force b");
    assert!(reaches(80) && !reaches(22));

    // The namespaces are lost, when nothing runs, and others are made: with the same rules.
    ok(&person, &format!("firewall block {b} --from a"));
    drop(server);
    ok(&person, "stop --force a");
    ok(&person, "stop --force b");
    let pid = rustix::process::Pid::from_raw(keeper).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill the keeper");
    until(5, "the keeper is gone", || !lives(keeper));
    ok(&person, "start a");
    ok(&person, "start b");
    let _server = lab::serve(person.init("a"), &[22, 80]);
    assert!(!reaches(80));
    ok(&person, &format!("firewall unblock {b} --from a"));
    assert!(reaches(80) && !reaches(22));
}

#[test]
fn a_private_policy_that_nobody_confirms_is_taken_back() {
    let person = Person::with_template();
    ok(&person, "launch tiny a");
    ok(&person, "launch tiny b");
    let _server = lab::serve(person.init("a"), &[80]);
    let reaches = || lab::asks_from(person.init("b"), &person.address("a"), 80).is_some();
    let policy = b"[containers.a]\ndefault-in = \"deny\"\n";
    let output = person.spawn(&["firewall", "apply", "-", "--confirm", "4"], policy).wait();
    assert!(output.status.success(), "{}", crate::host::told(&output));
    assert!(!reaches());
    until(15, "the policy is taken back", reaches);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(ok(&person, "firewall export"), "");
}

#[test]
fn a_private_user_has_no_port_of_the_host_to_forward() {
    let person = Person::with_template();
    ok(&person, "launch tiny a");
    let args = ["forward", "add", "a", "tcp", "8080:80"];
    let said = person.fails(REFUSED, &args, &Otherwise::default());
    assert!(said.contains("nagaya-hostd"), "{said}");
    assert_eq!(ok(&person, "forward list --format json").trim(), "[]");
}
