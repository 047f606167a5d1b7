//! Docker, ufw and plain iptables rules: a chain of ours that their FORWARD and INPUT go to first.
//!
//! A place at the top of FORWARD survives what these programs do: Docker puts its own jumps above at each
//! start, and the chains behind those decide about Docker's own networks and hand back all else; ufw
//! empties its own chains only. If somebody empties FORWARD, the watcher notices.

use super::finding::{Finding, Who};
use crate::render::iptables::{self as render, Chains, Family, Link};
use crate::sys::net::iptables::{Iptables, Kind};
use crate::sys::net::nft::BaseChain;
use crate::sys::{SysResult, error_text};

const BUILT_IN: [&str; 2] = ["FORWARD", "INPUT"];
/// How deep jumps are followed in search of a rule that drops all.
const DEPTH: usize = 4;

/// Whether nftables' chain is one of iptables'.
pub fn is_of_iptables(chain: &BaseChain) -> bool {
    ["ip", "ip6"].contains(&chain.family) && chain.table == "filter" && BUILT_IN.contains(&&*chain.name)
}

/// Puts the owner's rules for `links` where something would drop their traffic, and takes them away
/// where nothing does any more.
pub fn ensure(chains: &[BaseChain], own: &Chains, links: &[Link]) -> Vec<Finding> {
    filters(chains).iter().filter_map(|filter| filter.ensure(own, links)).collect()
}

/// What would drop guests' traffic, without changing anything.
pub fn look(chains: &[BaseChain], own: &Chains) -> Vec<Finding> {
    let dropping = filters(chains).into_iter().filter(|filter| filter.drops("FORWARD", DEPTH));
    dropping.map(|filter| filter.finding(filter.jumps("FORWARD", &own.forward) > 0)).collect()
}

/// The owner's rules without those for the links of these names.
pub fn forget(chains: &[BaseChain], own: &Chains, names: &[String]) {
    for filter in filters(chains) {
        let lines = || filter.lines.iter().map(String::as_str);
        let answered = format!("-A {} -i ", own.input);
        let left: Vec<Link> = render::links_of(&own.forward, lines())
            .filter(|name| !names.iter().any(|gone| gone == name))
            .map(|name| Link {
                name: name.to_owned(),
                is_answered: lines().any(|line| {
                    line.strip_prefix(&answered).is_some_and(|rest| rest.split(' ').next() == Some(name))
                }),
            })
            .collect();
        filter.ensure(own, &left);
    }
}

/// The filter table of one family and kind, as it is.
struct Filter {
    program: Iptables,
    family: Family,
    kind: Kind,
    /// What `iptables -S` prints.
    lines: Vec<String>,
}

/// The filter tables that exist. No program is started for those that the kernel does not have.
fn filters(chains: &[BaseChain]) -> Vec<Filter> {
    let mut filters = Vec::new();
    for (family, name) in [(Family::Ip4, "ip"), (Family::Ip6, "ip6")] {
        let has_nft = chains.iter().any(|chain| chain.family == name && is_of_iptables(chain));
        for (kind, is_there) in [(Kind::Nft, has_nft), (Kind::Legacy, Iptables::has_legacy_filter(family))] {
            let Some(program) = is_there.then(|| Iptables::find(family, kind)).flatten() else { continue };
            match program.list() {
                Ok(lines) => filters.push(Filter { program, family, kind, lines }),
                Err(e) => tracing::warn!("{}", error_text(&e)),
            }
        }
    }
    filters
}

impl Filter {
    fn ensure(&self, own: &Chains, links: &[Link]) -> Option<Finding> {
        let forward = render::forward_rules(&own.forward, links);
        let input = render::input_rules(&own.input, self.family, links);
        let mut is_done = !links.is_empty();
        for (built_in, chain, rules) in [("FORWARD", &own.forward, forward), ("INPUT", &own.input, input)] {
            let rules = if self.drops(built_in, DEPTH) { rules } else { Vec::new() };
            if let Err(e) = self.bring(built_in, chain, &rules) {
                tracing::warn!("{}", error_text(&e));
                is_done = false;
            }
        }
        self.drops("FORWARD", DEPTH).then(|| self.finding(is_done))
    }

    /// Makes the owner's chain hold exactly these rules; without any it is not there.
    fn bring(&self, built_in: &str, chain: &str, rules: &[String]) -> SysResult<()> {
        let jumps = self.jumps(built_in, chain);
        let is_there = self.lines.iter().any(|line| line.strip_prefix("-N ") == Some(chain));
        if rules.is_empty() {
            return match is_there {
                true => self.program.restore(&render::take_away(built_in, chain, jumps)),
                false => Ok(()),
            };
        }
        if jumps > 0 && is_there && self.rules(chain).eq(rules.iter().map(String::as_str)) {
            return Ok(());
        }
        self.program.restore(&render::put(built_in, chain, rules, jumps > 0))
    }

    fn rules<'a>(&'a self, chain: &'a str) -> impl Iterator<Item = &'a str> {
        let of_chain = move |line: &&String| {
            line.strip_prefix("-A ")
                .and_then(|rest| rest.strip_prefix(chain))
                .is_some_and(|rest| rest.starts_with(' '))
        };
        self.lines.iter().filter(of_chain).map(String::as_str)
    }

    fn jumps(&self, built_in: &str, chain: &str) -> usize {
        let jump = render::jump(built_in, chain);
        self.rules(built_in).filter(|rule| *rule == jump).count()
    }

    /// Whether what no rule lets pass is dropped or rejected: by the chain's policy, or by a rule that
    /// takes all.
    fn drops(&self, chain: &str, depth: usize) -> bool {
        let policy = format!("-P {chain} ");
        if self.lines.iter().any(|line| line.strip_prefix(&policy).is_some_and(|policy| policy != "ACCEPT")) {
            return true;
        }
        let front = format!("-A {chain} ");
        self.rules(chain).filter_map(|rule| target_of_all(rule.strip_prefix(&front)?)).any(|target| {
            match target {
                "DROP" | "REJECT" => true,
                _ => depth > 0 && self.drops(target, depth - 1),
            }
        })
    }

    fn finding(&self, is_handled: bool) -> Finding {
        let has = |name: &str| self.lines.iter().any(|line| line.strip_prefix("-N ") == Some(name));
        let who = match () {
            () if has("DOCKER") || has("DOCKER-USER") => Who::Docker,
            () if has("ufw-before-forward") || has("ufw6-before-forward") => Who::Ufw,
            () => Who::Iptables,
        };
        let family = match self.family {
            Family::Ip4 => "ip",
            Family::Ip6 => "ip6",
        };
        let kind = match self.kind {
            Kind::Nft => "",
            Kind::Legacy => "legacy ",
        };
        Finding { who, place: format!("{kind}{family} filter FORWARD"), is_handled }
    }
}

/// Where a rule sends every packet; none if it has a condition. A comment is no condition.
fn target_of_all(rule: &str) -> Option<&str> {
    let mut words = rule.split(' ').peekable();
    while let Some(word) = words.next() {
        match word {
            "-m" if words.next_if_eq(&"comment").is_some() => {}
            "--comment" => {
                // The comment's text, up to the next option.
                while words.next_if(|word| !word.starts_with('-')).is_some() {}
            }
            "-j" => return words.next(),
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(lines: &str) -> Option<Filter> {
        let program = Iptables::find(Family::Ip4, Kind::Nft)?;
        let lines = lines.lines().map(str::to_owned).collect();
        Some(Filter { program, family: Family::Ip4, kind: Kind::Nft, lines })
    }

    #[test]
    fn all_ways_to_drop_everything_are_known() {
        for (lines, drops) in [
            ("-P FORWARD ACCEPT", false),
            ("-P FORWARD DROP", true),
            ("-P FORWARD ACCEPT\n-A FORWARD -j REJECT --reject-with icmp-host-prohibited", true),
            ("-P FORWARD ACCEPT\n-A FORWARD -m comment --comment the end -j DROP", true),
            ("-P FORWARD ACCEPT\n-A FORWARD -s 192.0.2.0/24 -j DROP", false),
            (
                "-P FORWARD ACCEPT\n-N x\n-A FORWARD -j x\n-A x -j REJECT --reject-with icmp-port-unreachable",
                true,
            ),
            ("-P FORWARD ACCEPT\n-N x\n-A FORWARD -i eth0 -j x\n-A x -j DROP", false),
            ("-P FORWARD ACCEPT\n-N x\n-A FORWARD -j x\n-A x -j x", false),
        ] {
            assert_eq!(filter(lines).unwrap().drops("FORWARD", DEPTH), drops, "{lines}");
        }
    }

    #[test]
    fn programs_are_known_by_their_chains() {
        for (lines, who) in
            [("-N DOCKER-USER", Who::Docker), ("-N ufw-before-forward", Who::Ufw), ("", Who::Iptables)]
        {
            assert_eq!(filter(lines).unwrap().finding(false).who, who);
        }
    }
}
