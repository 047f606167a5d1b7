//! Many commands at once.

use std::collections::BTreeSet;

use super::host::{Host, run_tool, told, uids};

#[test]
fn twenty_launches_at_once_get_names_addresses_and_ids_of_their_own() {
    let host = Host::new();
    let launches: Vec<_> = (0..20)
        .map(|n| {
            // Half of them leave the name to nagaya.
            let name = format!("web{n}");
            let args: &[&str] = if n % 2 == 0 { &["launch", "tiny", &name] } else { &["launch", "tiny"] };
            host.spawn(args, b"")
        })
        .collect();
    for launch in launches {
        let done = launch.wait();
        assert!(done.status.success(), "{}", told(&done));
    }
    host.see_links();
    let all = host.list();
    assert_eq!(all.len(), 20);
    let (mut names, mut addresses, mut bases, mut macs) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for row in &all {
        assert_eq!(row["state"], "running", "{row}");
        let name = row["name"].as_str().unwrap();
        names.insert(name.to_owned());
        addresses.insert(host.address(name));
        bases.insert(uids(host.init(name))[0]);
        macs.insert(host.info(name)["mac"].as_str().unwrap().to_owned());
        run_tool("ping", &["-c1", "-W5", &host.address(name)]);
    }
    assert_eq!((names.len(), addresses.len(), bases.len(), macs.len()), (20, 20, 20, 20));
}

#[test]
fn the_same_name_at_once_is_given_once() {
    let host = Host::new();
    let launches: Vec<_> = (0..8).map(|_| host.spawn(&["launch", "tiny", "web"], b"")).collect();
    let codes: Vec<_> = launches.into_iter().map(|l| l.wait().status.code()).collect();
    assert_eq!(codes.iter().filter(|code| **code == Some(0)).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == Some(1)).count(), 7, "{codes:?}");
    assert_eq!(host.list().len(), 1);
    assert_eq!(host.exec("web", &["hostname"]), "web");
}

#[test]
fn contradicting_commands_at_once_leave_one_of_their_states() {
    let host = Host::new();
    host.launch("web");
    for _ in 0..5 {
        let words: [&[&str]; 6] = [
            &["stop", "web"],
            &["start", "web"],
            &["restart", "web", "--force"],
            &["stop", "--force", "web"],
            &["start", "web"],
            &["pause", "web"],
        ];
        let all: Vec<_> = words.iter().map(|words| host.spawn(words, b"")).collect();
        for running in all {
            let done = running.wait();
            assert!(matches!(done.status.code(), Some(0 | 1)), "{}", told(&done));
        }
        let state = host.info("web")["state"].as_str().unwrap().to_owned();
        assert!(["running", "stopped", "frozen"].contains(&state.as_str()), "{state}");
        host.nagaya(&["stop", "--force", "web"]);
        host.ok(&["start", "web"]);
        assert_eq!(host.exec("web", &["echo", "fine"]), "fine");
    }
}

#[test]
fn there_are_as_many_containers_as_id_ranges() {
    let host = Host::with_id_ranges(3);
    host.launch("a");
    host.launch("b");
    let said = host.fails(3, &["launch", "tiny", "c"]);
    assert!(said.contains("slice") || said.contains("ids"), "{said}");
    assert_eq!(host.list().len(), 2);
    host.ok(&["delete", "--force", "a"]);
    host.launch("c");
}
