//! Forwards, and with which addresses guests go out.

use super::*;
use crate::model::network::Nat;

#[test]
fn forwards_lead_to_guests_from_wherever_one_asks() {
    let text = |extra: &str| {
        format!(
            r#"
[containers.web01]
default-in = "deny"
{extra}
[[forwards]]
container = "web01"
proto = "tcp"
listen = "8080-8081"
to = "80-81"
[[forwards]]
container = "old01"
proto = "tcp"
listen = "9090"
address = "203.0.113.9"
to = "80"
"#
        )
    };
    in_new_netns(|| {
        let lab = Lab::new();
        lab.serve(&[80, 81]);
        let before = apply(&text(""));
        assert_eq!(
            heard_as(&lab.beyond, "203.0.113.1:8080").unwrap(),
            "203.0.113.2",
            "with the asker's address"
        );
        assert_eq!(heard_as(&lab.beyond, "[2001:db8::1]:8081").unwrap(), "2001:db8::2");
        assert!(!reaches(&lab.beyond, "10.7.0.2:80"), "its own address is closed");
        assert!(reaches(&lab.beyond, "203.0.113.9:9090") && !reaches(&lab.beyond, "203.0.113.1:9090"));
        assert!(connect("203.0.113.1:8080").is_ok() && connect("[2001:db8::1]:8080").is_ok(), "the host");
        assert!(connect("127.0.0.1:8080").is_err(), "not by the loopback");
        for host in ["203.0.113.1:8080", "10.7.0.1:8080"] {
            assert_eq!(heard_as(&lab.db, host).as_deref(), Ok("10.7.0.1"), "a neighbour at {host}");
            assert_eq!(heard_as(&lab.web, host).as_deref(), Ok("10.7.0.1"), "itself at {host}");
        }
        assert_eq!(heard_as(&lab.old, "203.0.113.1:8080").unwrap(), "10.8.0.2", "another network");
        let closed = change(&before, &text("in = [{ action = \"deny\", proto = \"tcp\", ports = \"80\" }]"));
        assert!(!reaches(&lab.beyond, "203.0.113.1:8080"), "an explicit rule wins");
        assert!(reaches(&lab.beyond, "203.0.113.1:8081"));
        change(&closed, "[containers.web01]\ndefault-in = \"deny\"");
        assert!(!reaches(&lab.beyond, "203.0.113.1:8081") && !reaches(&lab.beyond, "203.0.113.9:9090"));
    });
}

#[test]
fn the_bridges_own_names_service_is_not_forwarded_away() {
    in_new_netns(|| {
        let lab = Lab::new();
        lab.serve(&[53]);
        serve_here(&[53]);
        apply("[[forwards]]\ncontainer = \"old01\"\nproto = \"tcp\"\nlisten = \"53\"");
        assert_eq!(heard_as(&lab.beyond, "203.0.113.1:53").unwrap(), "203.0.113.2");
        let by_host = heard_as(&lab.old, "10.8.0.1:53").unwrap();
        assert_eq!(by_host, "10.8.0.2", "the host heard it, not the guest by the host");
        run("nft", "delete table inet test");
        assert_eq!(heard_as(&lab.old, "10.8.0.1:53").unwrap(), by_host);
    });
}

#[test]
fn guests_go_out_with_the_address_that_was_chosen_or_their_own() {
    in_new_netns(|| {
        let lab = Lab::new();
        lab.serve(&[80]);
        let mut plan = plan("");
        plan.networks[0].nat4 = Nat::To("203.0.113.9".parse().unwrap());
        plan.networks[1].nat4 = Nat::Off;
        let mut owned = owned();
        assert!(matches!(apply_all(&owned, &plan), Err(FirewallError::Refused(_))));
        owned.nat = None;
        apply_all(&owned, &plan).unwrap();
        assert_eq!(heard_as(&lab.web, "203.0.113.2:80").unwrap(), "203.0.113.9");
        assert_eq!(heard_as(&lab.old, "203.0.113.2:80").unwrap(), "10.8.0.2");
    });
}
