//! What is wrong with a policy or a rule is named, and nothing of it is applied.

use super::{CLOSED, Site, file};

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
        ("firewall allow web tcp 80 --from set:none", "no set 'none'"),
    ] {
        let said = site.fails(slip);
        assert!(said.contains(reason), "{slip}: {said}");
    }
    assert_eq!(ruleset(), before);
    assert_eq!(site.ok("firewall export").trim(), CLOSED.trim());
}
