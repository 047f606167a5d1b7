//! What is wrong with a policy or a rule is named, and nothing of it is applied.

use super::{CLOSED, Site, file};

#[test]
fn all_rules_that_hold_for_a_container_are_listed_in_their_order() {
    let site = Site::new();
    for command in [
        "firewall group create www",
        "firewall allow group:www tcp http,https",
        "firewall group join www web",
        "firewall deny network:dmz udp",
        "firewall default network:dmz in=reject out=allow",
        "firewall allow web tcp ssh",
        "firewall default web out=deny",
    ] {
        site.ok(command);
    }
    let listed = site.json("firewall rules web");
    let text = |row: &serde_json::Value| {
        let word = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        format!(
            "{} {} {} {} {}",
            word("direction"),
            word("target"),
            row["number"],
            word("action"),
            word("ports")
        )
    };
    let listed: Vec<String> = listed.as_array().expect("rows").iter().map(text).collect();
    assert_eq!(
        listed,
        [
            "in web 1 allow 22",
            "in group:www 1 allow 80,443",
            "in network:dmz 1 deny ",
            "in network:dmz null reject ",
            "out web null deny ",
        ]
    );
}

#[test]
fn a_forward_of_a_port_that_the_host_uses_says_so() {
    let site = Site::new();
    let _server = super::lab::serve(site.host.net().pid(), &[18081]);
    let said = |words: &str| {
        let output = site.host.nagaya(&words.split(' ').collect::<Vec<_>>());
        assert!(output.status.success(), "{words}: {}", super::super::host::told(&output));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(said("forward add web tcp 18081:80").contains("listens on tcp 18081"));
    assert_eq!(said("forward add web tcp 18082:80"), "");
}

#[test]
fn slips_in_a_policy_are_named_and_nothing_is_applied() {
    let site = Site::new();
    let (_closed, closed) = file(CLOSED);
    site.ok(&format!("firewall apply {closed}"));
    // Counts and handles are not compared.
    let ruleset = || site.ruleset().replace(char::is_numeric, "");
    let before = ruleset();
    for (text, reasons) in [
        ("[containers.wbe]\ndefault-in = \"deny\"", &["did you mean 'web'?"] as &[&str]),
        (
            "[containers.web]\nin = [{ action = \"allow\", proto = \"tcp\", ports = \"70000\" }]\n\
             [containers.nobody]\ndefault-in = \"deny\"",
            &["containers.web.in[1].ports", "70000", "containers.nobody"],
        ),
        (
            "[containers.web]\nin = [{ action = \"deny\" }, { action = \"allow\", proto = \"icmp\" }]",
            &["never reached"],
        ),
        ("[containers.web]\nin = [{ action = \"drop\" }]", &["is not a policy"]),
        ("[containers.web]\ndefaults = 1", &["is not a policy"]),
    ] {
        let (_file, path) = file(text);
        let said = site.fails(&format!("firewall apply {path}"));
        assert!(
            reasons.iter().all(|reason| said.matches(reason).count() == 1),
            "each is said, and once: {said}"
        );
    }
    for (slip, reason) in [
        ("firewall apply /nonexistent", "cannot read '/nonexistent'"),
        ("firewall allow web http 80", "is no protocol"),
        ("firewall allow group:none tcp 80", "no group 'none'"),
        ("firewall remove web in 1", "no rule 1"),
        ("firewall allow wbe tcp 80", "there is no container 'wbe'"),
        ("firewall default network:dzm in=deny", "there is no network 'dzm'"),
        ("firewall rules wbe", "did you mean 'web'?"),
        ("firewall rules group:none", "there is no group 'none'"),
        ("firewall allow web 80", "nagaya firewall allow web tcp 80"),
        ("firewall allow web tcp no-such-service", "neither a port nor a service"),
        ("firewall allow web in tcp 80 --to 192.0.2.1", "--from"),
        ("forward remove web tcp 9999", "nagaya forward list"),
        ("firewall allow web tcp 80 --from set:none", "no set 'none'"),
    ] {
        let said = site.fails(slip);
        assert!(said.contains(reason), "{slip}: {said}");
    }
    assert_eq!(ruleset(), before);
    assert_eq!(site.ok("firewall export").trim(), CLOSED.trim());
}
