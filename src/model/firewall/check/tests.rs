use super::*;
use crate::model::firewall::fixture::{facts, plan, policy};

/// All that is wrong with a policy.
fn problems(text: &str) -> Vec<String> {
    match Plan::of(&policy(text), &facts()) {
        Ok(plan) => panic!("{plan:?}"),
        Err(problems) => problems.0.iter().map(Problem::to_string).collect(),
    }
}

fn rules(container: &str, rules: &str) -> Vec<String> {
    problems(&format!("[containers.{container}]\n{rules}"))
}

#[test]
fn ports_are_lists_of_ports_and_ranges() {
    assert_eq!(ports("80,443, 8000-8100").unwrap(), [(80, 80), (443, 443), (8000, 8100)]);
    assert_eq!(ports("").unwrap(), []);
    for bad in ["0", "65536", "70000", "http", "80-", "-80", "90-80", "80,", ",", "8 0", "+80", "80-90-100"] {
        assert!(ports(bad).is_err(), "{bad}");
    }
}

#[test]
fn slips_are_named_by_their_fields() {
    let of = |text| rules("web01", text);
    assert_eq!(
        of("in = [{ action = \"allow\" }, { action = \"deny\", proto = \"tcp\", ports = \"70000\" }]"),
        ["containers.web01.in[2].ports: '70000' is not a port: it must be 1 to 65535"]
    );
    for (text, begins) in [
        ("in = [{ action = \"allow\", ports = \"80\" }]", "containers.web01.in[1].ports: any has no ports"),
        (
            "in = [{ action = \"allow\", proto = \"icmp\", ports = \"8\" }]",
            "containers.web01.in[1].ports: icmp",
        ),
        ("in = [{ action = \"allow\", to = [\"1.2.3.4\"] }]", "containers.web01.in[1].to: "),
        ("out = [{ action = \"allow\", from = [\"1.2.3.4\"] }]", "containers.web01.out[1].from: "),
        (
            "in = [{ action = \"allow\", from = [\"1.2.3.4\", \"1.2.3.4/24\"] }]",
            "containers.web01.in[1].from[2]: ",
        ),
        (
            "in = [{ action = \"allow\", from = [\"set:x\"] }]",
            "containers.web01.in[1].from: there is no set 'x'",
        ),
        ("groups = [\"g\"]", "containers.web01.groups[1]: there is no group 'g'"),
        ("in = [{ action = \"allow\", note = \"a\\nb\" }]", "containers.web01.in[1].note: "),
    ] {
        let found = of(text);
        assert!(found.len() == 1 && found[0].starts_with(begins), "{found:?}");
    }
}

#[test]
fn what_a_policy_speaks_of_has_to_be_there() {
    assert_eq!(
        problems("[containers.web02]\ndefault-in = \"deny\"\n[networks.la]\ndefault-in = \"deny\""),
        [
            "networks.la: there is no network 'la'; did you mean 'lan'?",
            "containers.web02: there is no container 'web02'; did you mean 'web01'?",
        ]
    );
    assert!(problems("[networks.site]\ndefault-in = \"deny\"")[0].contains("the host's own"));
    for unfiltered in ["out01", "site01"] {
        assert!(rules(unfiltered, "default-in = \"deny\"")[0].contains("passes through the host"));
    }
    assert!(problems("[sets]\nOffice = []")[0].starts_with("sets.Office: "));
    assert!(problems("[groups.sixteen-letters0]")[0].contains("is no name"));
    assert!(problems("[groups.a]\n[containers.web01]\ngroups = [\"a\", \"a\"]")[0].contains("twice"));
    assert!(problems("[sets]\na = [\"10.0.0.1\", \"x\"]")[0].starts_with("sets.a[2]: "));
}

#[test]
fn families_that_never_meet_are_pointed_out() {
    let text = "in = [{ action = \"allow\", from = [\"fd00::/8\"] }]";
    assert_eq!(
        rules("old01", text),
        ["containers.old01.in[1].from: IPv6 addresses never meet what has IPv4 only"]
    );
    plan(&format!("[containers.web01]\n{text}"));
    plan("[containers.old01]\nin = [{ action = \"allow\", from = [\"fd00::/8\", \"10.0.0.0/8\"] }]");
    assert!(problems(&format!("[networks.old]\n{text}"))[0].contains("never meet"));
}

#[test]
fn contradictions_name_both_rules() {
    let text = "in = [{ action = \"deny\", proto = \"tcp\" }, { action = \"allow\" },
                      { action = \"allow\", proto = \"tcp\", ports = \"80\" }]";
    assert_eq!(
        rules("web01", text),
        [
            "containers.web01.in[3]: 'allow tcp 80' is never reached: rule 1, 'deny tcp', decides all that it is about"
        ]
    );
}

fn forward(lines: &str) -> String {
    let start = "[[forwards]]\ncontainer = \"web01\"\nproto = \"tcp\"\n";
    format!("{start}{lines}\n")
}

#[test]
fn forwards_lead_to_addresses_of_both_families() {
    let made = plan(&forward("listen = \"8080-8081\"\nto = \"80-81\"")).forwards;
    let text: Vec<_> = made.iter().map(|f| format!("{} {} {}", f.port, f.to, f.to_port)).collect();
    assert_eq!(text, ["8080 10.7.0.2 80", "8081 10.7.0.2 81", "8080 fd07::2 80", "8081 fd07::2 81"]);
    let one = plan(&forward("listen = \"53\"\naddress = \"203.0.113.1\"")).forwards;
    assert_eq!((one.len(), one[0].to_port), (1, 53));
}

#[test]
fn forwards_that_cannot_be_are_refused() {
    for (lines, begins) in [
        ("listen = \"80-90\"\nto = \"80-91\"", "forwards[1].to: "),
        ("listen = \"1-2000\"", "forwards[1].listen: "),
        ("listen = \"x\"", "forwards[1].listen: "),
        ("listen = \"80\"\naddress = \"0.0.0.0\"", "forwards[1].address: "),
        ("listen = \"80\"\naddress = \"127.0.0.1\"", "forwards[1].address: "),
        ("listen = \"80\"\naddress = \"host\"", "forwards[1].address: "),
    ] {
        let found = problems(&forward(lines));
        assert!(found[0].starts_with(begins), "{found:?}");
    }
    let only4 = forward("listen = \"80\"\naddress = \"2001:db8::1\"").replace("web01", "old01");
    assert!(problems(&only4)[0].contains("has no IPv6 address"));
    assert!(
        problems(&forward("listen = \"80\"").replace("tcp", "icmp"))[0].starts_with("forwards[1].proto: ")
    );
    assert!(problems(&forward("listen = \"80\"").replace("web01", "out01"))[0].contains("routes to"));
}

#[test]
fn a_port_leads_to_one_place() {
    let both = |a: &str, b: &str| forward(a) + &forward(b).replace("web01", "db01");
    for (a, b) in [
        ("listen = \"80\"", "listen = \"80\"\nto = \"81\""),
        ("listen = \"80\"", "listen = \"80\"\naddress = \"203.0.113.1\""),
        ("listen = \"70-90\"", "listen = \"80\""),
    ] {
        let found = problems(&both(a, b));
        assert!(found[0].starts_with("forwards[2].listen: tcp port 80 is forwarded"), "{found:?}");
    }
    let a = "listen = \"80\"\naddress = \"203.0.113.1\"";
    plan(&both(a, "listen = \"80\"\naddress = \"203.0.113.2\""));
    plan(&both(a, "listen = \"81\""));
}

#[test]
fn networks_are_routed_where_something_is_said_of_them() {
    let routed = |text: &str| -> Vec<bool> { plan(text).networks.iter().map(|n| n.routed).collect() };
    assert_eq!(routed(""), [false, false]);
    assert_eq!(routed("[networks.old]\ndefault-in = \"deny\""), [false, true]);
    assert_eq!(routed("[networks.old]\ndefault-in = \"allow\""), [false, false]);
    assert_eq!(routed("[containers.db01]\ndefault-out = \"allow\""), [true, false]);
    let mut plan = plan("");
    plan.route_for_blocks([("10.8.0.0/16".parse().unwrap(), None)]);
    assert!(plan.networks[1].routed && !plan.networks[0].routed);
    plan.route_for_blocks([("192.0.2.1/32".parse().unwrap(), Some("web01"))]);
    assert!(plan.networks[0].routed);
}

#[test]
fn a_plan_knows_links_and_addresses() {
    let plan = plan("");
    let of = |name: &str| plan.container(name).unwrap();
    assert_eq!(of("web01").links, [LinkPlan { link: "ng00000001".into(), bridge: Some("lan0".into()) }]);
    assert_eq!(of("far01").links[0].bridge, None);
    assert_eq!((of("out01").links.len(), of("out01").addresses.len()), (0, 0));
    assert_eq!((of("site01").links.len(), of("site01").addresses.len()), (1, 0));
    assert_eq!(plan.networks.len(), 2);
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
}
