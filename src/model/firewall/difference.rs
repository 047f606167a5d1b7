//! The differences of two policies, as lines for users.

use std::collections::BTreeSet;

use super::policy::{Action, Direction, Policy, Rule, Target};

/// Lines that begin with `-` for what goes and `+` for what comes; none where both are the same.
pub fn difference(old: &Policy, new: &Policy) -> Vec<String> {
    let mut lines = Vec::new();
    sets(&mut lines, old, new);
    let targets: BTreeSet<Target> = old.targets().into_iter().chain(new.targets()).collect();
    for target in &targets {
        presence(&mut lines, old, new, target);
        for direction in Direction::BOTH {
            defaults(&mut lines, old, new, target, direction);
            rules(&mut lines, old, new, target, direction);
        }
    }
    let texts = |policy: &Policy| policy.forwards.iter().map(ToString::to_string).collect::<Vec<_>>();
    changes(&mut lines, "forward", &texts(old), &texts(new));
    lines
}

fn sets(lines: &mut Vec<String>, old: &Policy, new: &Policy) {
    let names: BTreeSet<&String> = old.sets.keys().chain(new.sets.keys()).collect();
    for name in names {
        match (old.sets.get(name), new.sets.get(name)) {
            (Some(_), None) => lines.push(format!("- set {name}")),
            (None, Some(members)) => lines.push(format!("+ set {name}: {}", shown(members))),
            (Some(before), Some(after)) => changes(lines, &format!("set {name}:"), before, after),
            (None, None) => {}
        }
    }
}

fn shown(members: &[String]) -> String {
    const MOST: usize = 8;
    match members.len() {
        0 => "empty".to_owned(),
        n if n > MOST => format!("{} and {} more", members[..MOST].join(", "), n - MOST),
        _ => members.join(", "),
    }
}

/// Groups that come and go, and who joins and leaves them.
fn presence(lines: &mut Vec<String>, old: &Policy, new: &Policy, target: &Target) {
    match target {
        Target::Group(name) => match (old.groups.contains_key(name), new.groups.contains_key(name)) {
            (true, false) => lines.push(format!("- {target}")),
            (false, true) => lines.push(format!("+ {target}")),
            _ => {}
        },
        Target::Container(name) => {
            let of =
                |policy: &Policy| policy.containers.get(name).map(|c| c.groups.clone()).unwrap_or_default();
            changes(lines, &format!("{target} in group"), &of(old), &of(new));
        }
        Target::Network(_) => {}
    }
}

fn defaults(lines: &mut Vec<String>, old: &Policy, new: &Policy, target: &Target, direction: Direction) {
    let (before, after) = (default(old, target, direction), default(new, target, direction));
    if before == after {
        return;
    }
    for (sign, action) in [('-', before), ('+', after)] {
        if let Some(action) = action {
            lines.push(format!("{sign} {target} {}: default {}", direction.as_str(), action.as_str()));
        }
    }
}

fn default(policy: &Policy, target: &Target, direction: Direction) -> Option<Action> {
    let both = match target {
        Target::Container(name) => policy.containers.get(name).map(|c| (c.default_in, c.default_out)),
        Target::Network(name) => policy.networks.get(name).map(|n| (n.default_in, n.default_out)),
        Target::Group(_) => None,
    };
    let (inward, outward) = both?;
    if direction == Direction::In { inward } else { outward }
}

fn rules(lines: &mut Vec<String>, old: &Policy, new: &Policy, target: &Target, direction: Direction) {
    let text = |rule: &Rule| match &rule.note {
        Some(note) => format!("{rule} ({note})"),
        None => rule.to_string(),
    };
    let texts = |policy: &Policy| policy.rules(target, direction).iter().map(text).collect::<Vec<_>>();
    changes(lines, &format!("{target} {}:", direction.as_str()), &texts(old), &texts(new));
}

/// By the longest common subsequence, so that a rule put in between is one line.
fn changes(lines: &mut Vec<String>, label: &str, old: &[String], new: &[String]) {
    let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
    // Where the tables would be large, all of one goes before all of the other comes.
    if old.len().saturating_mul(new.len()) > 1 << 20 {
        lines.extend(old.iter().map(|text| format!("- {label} {text}")));
        lines.extend(new.iter().map(|text| format!("+ {label} {text}")));
        return;
    }
    let common = lengths(old, new);
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            lines.push(format!("- {label} {}", old[i]));
            i += 1;
        } else {
            lines.push(format!("+ {label} {}", new[j]));
            j += 1;
        }
    }
}

/// `[i][j]`: how much `old[i..]` and `new[j..]` have in common.
fn lengths(old: &[String], new: &[String]) -> Vec<Vec<u32>> {
    let mut table = vec![vec![0; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            table[i][j] = match old[i] == new[j] {
                true => table[i + 1][j + 1] + 1,
                false => table[i + 1][j].max(table[i][j + 1]),
            };
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::firewall::fixture::policy;

    #[test]
    fn only_what_changes_is_told() {
        let old = policy(
            r#"
[sets]
office = ["192.0.2.1", "192.0.2.2"]
gone = []
[groups.web]
[networks.lan]
default-in = "deny"
[containers.web01]
groups = ["web"]
in = [{ action = "allow", proto = "tcp", ports = "22" }, { action = "deny" }]
[[forwards]]
container = "web01"
proto = "tcp"
listen = "80"
"#,
        );
        let new = policy(
            r#"
[sets]
office = ["192.0.2.2", "192.0.2.3"]
new = ["10.0.0.1"]
[groups.db]
[containers.web01]
default-out = "reject"
in = [{ action = "allow", proto = "tcp", ports = "22" }, { action = "allow", proto = "icmp", note = "ping" }, { action = "deny" }]
[[forwards]]
container = "web01"
proto = "tcp"
listen = "8080"
to = "80"
"#,
        );
        assert_eq!(
            difference(&old, &new),
            [
                "- set gone",
                "+ set new: 10.0.0.1",
                "- set office: 192.0.2.1",
                "+ set office: 192.0.2.3",
                "- container web01 in group web",
                "+ container web01 in: allow icmp (ping)",
                "+ container web01 out: default reject",
                "- network lan in: default deny",
                "+ group db",
                "- group web",
                "- forward tcp 80:80 to web01",
                "+ forward tcp 8080:80 to web01",
            ]
        );
        assert!(difference(&old, &old).is_empty());
    }
}
