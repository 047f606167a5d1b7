//! Rules that can never decide anything, because an earlier one has decided all their packets.

use super::address::holds;
use super::plan::RulePlan;
use super::policy::{Action, Proto};

/// The first pair, as positions from 0, of a rule and an earlier one of opposite effect that leaves
/// it nothing. What a set holds may change, so a set covers only itself.
pub(super) fn contradiction(rules: &[RulePlan]) -> Option<(usize, usize)> {
    (0..rules.len()).find_map(|later| {
        let earlier = rules[..later].iter().position(|rule| {
            let opposite = (rule.action == Action::Allow) != (rules[later].action == Action::Allow);
            opposite && covers(rule, &rules[later])
        });
        earlier.map(|earlier| (earlier, later))
    })
}

fn covers(wide: &RulePlan, narrow: &RulePlan) -> bool {
    let proto = wide.proto == Proto::Any || wide.proto == narrow.proto;
    proto && covers_ports(wide, narrow) && covers_peers(wide, narrow)
}

fn covers_ports(wide: &RulePlan, narrow: &RulePlan) -> bool {
    let inside = |(first, last): &(u16, u16)| wide.ports.iter().any(|(a, b)| a <= first && last <= b);
    wide.ports.is_empty() || (!narrow.ports.is_empty() && narrow.ports.iter().all(inside))
}

fn covers_peers(wide: &RulePlan, narrow: &RulePlan) -> bool {
    let everybody = |rule: &RulePlan| rule.nets.is_empty() && rule.sets.is_empty();
    if everybody(wide) {
        return true;
    }
    let nets = narrow.nets.iter().all(|net| wide.nets.iter().any(|outer| holds(*outer, *net)));
    !everybody(narrow) && nets && narrow.sets.iter().all(|set| wide.sets.contains(set))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(action: Action, proto: Proto, ports: &[(u16, u16)], nets: &[&str], sets: &[&str]) -> RulePlan {
        RulePlan {
            action,
            proto,
            ports: ports.to_vec(),
            nets: nets.iter().map(|net| net.parse().unwrap()).collect(),
            sets: sets.iter().map(|set| (*set).to_owned()).collect(),
            log: false,
        }
    }

    #[test]
    fn what_is_decided_already_is_found() {
        use Action::{Allow, Deny, Reject};
        use Proto::{Any, Tcp, Udp};
        let all = rule(Deny, Any, &[], &[], &[]);
        let web = rule(Allow, Tcp, &[(80, 80), (443, 443)], &[], &[]);
        let low = rule(Reject, Tcp, &[(1, 1023)], &[], &[]);
        let office = rule(Allow, Tcp, &[(22, 22)], &["192.0.2.0/24"], &["office"]);
        let desk = rule(Deny, Tcp, &[(22, 22)], &["192.0.2.7/32"], &[]);
        let names = rule(Deny, Udp, &[(53, 53)], &[], &[]);
        for (earlier, later, found) in [
            (&all, &web, true),
            (&all, &names, false),
            (&web, &all, false),
            (&low, &web, true),
            (&web, &low, false),
            (&office, &desk, true),
            (&desk, &office, false),
            (&names, &web, false),
            (&all, &office, true),
        ] {
            let rules = [earlier.clone(), later.clone()];
            assert_eq!(contradiction(&rules), found.then_some((0, 1)), "{earlier:?} {later:?}");
        }
        let set = rule(Deny, Any, &[], &[], &["office"]);
        assert_eq!(contradiction(&[office.clone(), set.clone()]), None);
        assert_eq!(contradiction(&[set.clone(), rule(Allow, Tcp, &[], &[], &["office"])]), Some((0, 1)));
        assert_eq!(contradiction(&[set, web, all, low]), None);
    }
}
