//! Rules that accept guests' traffic in chains of others that would drop it: text for `iptables-restore
//! --noflush`, in the form that `iptables -S` prints.

/// One interface of the host's that guests are behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub name: String,
    /// The host answers DNS and DHCP there.
    pub is_answered: bool,
}

/// Protocol family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Ip4,
    Ip6,
}

/// Interfaces of other programs' container networks. These programs filter traffic to them; an exception of
/// ours would bypass their filters.
const STRANGERS: [&str; 10] =
    ["docker+", "br-+", "podman+", "cni+", "cali+", "flannel+", "virbr+", "lxcbr+", "lxdbr+", "incusbr+"];

/// The chains of one owner, each of which a built-in one jumps to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chains {
    pub forward: String,
    pub input: String,
}

impl Chains {
    /// `owner` has at most 23 characters; the kernel allows 28 for a chain.
    pub fn of(owner: &str) -> Self {
        Self { forward: format!("{owner}-fwd"), input: format!("{owner}-in") }
    }

    /// Whose chain it is, if it is one of these.
    pub fn owner(chain: &str) -> Option<&str> {
        chain.strip_suffix("-fwd").or_else(|| chain.strip_suffix("-in"))
    }
}

/// An owner's chain for forwarded traffic. It accepts everything to a guest, because the owner's own tables
/// decide about that; and everything from a guest but to other programs' networks.
pub fn forward_rules(chain: &str, links: &[Link]) -> Vec<String> {
    if links.is_empty() {
        return Vec::new();
    }
    let to = links.iter().map(|link| format!("-A {chain} -o {} -j ACCEPT", link.name));
    let strangers = STRANGERS.iter().map(|name| format!("-A {chain} -o {name} -j RETURN"));
    let from = links.iter().map(|link| format!("-A {chain} -i {} -j ACCEPT", link.name));
    to.chain(strangers).chain(from).collect()
}

/// An owner's chain for traffic to the host itself.
pub fn input_rules(chain: &str, family: Family, links: &[Link]) -> Vec<String> {
    let dhcp = match family {
        Family::Ip4 => 67,
        Family::Ip6 => 547,
    };
    let of_link = |link: &Link| {
        let from = format!("-A {chain} -i {}", link.name);
        [
            format!("{from} -p udp -m multiport --dports 53,{dhcp} -j ACCEPT"),
            format!("{from} -p tcp -m tcp --dport 53 -j ACCEPT"),
        ]
    };
    links.iter().filter(|link| link.is_answered).flat_map(of_link).collect()
}

/// The rule by which `built_in` jumps to an owner's chain.
pub fn jump(built_in: &str, chain: &str) -> String {
    format!("-A {built_in} -m comment --comment nagaya -j {chain}")
}

/// The links that an owner's rules for forwarded traffic name.
pub fn links_of<'a>(
    chain: &'a str,
    rules: impl IntoIterator<Item = &'a str> + 'a,
) -> impl Iterator<Item = &'a str> {
    rules.into_iter().filter_map(move |rule| {
        let words: Vec<&str> = rule.split(' ').collect();
        match words[..] {
            ["-A", of, "-o", name, "-j", "ACCEPT"] if of == chain => Some(name),
            _ => None,
        }
    })
}

/// A change: replaces the rules of the owner's chain that `built_in` jumps to by `rules`.
pub fn put(built_in: &str, chain: &str, rules: &[String], has_jump: bool) -> String {
    let mut text = format!("*filter\n:{chain} - [0:0]\n");
    rules.iter().for_each(|rule| text.push_str(&format!("{rule}\n")));
    if !has_jump {
        let first = jump(built_in, chain).replacen(&format!("-A {built_in}"), &format!("-I {built_in} 1"), 1);
        text.push_str(&format!("{first}\n"));
    }
    text + "COMMIT\n"
}

/// Removes an owner's chain with all `jumps` to it.
pub fn take_away(built_in: &str, chain: &str, jumps: usize) -> String {
    let delete = jump(built_in, chain).replacen("-A ", "-D ", 1);
    format!("*filter\n{}-F {chain}\n-X {chain}\nCOMMIT\n", format!("{delete}\n").repeat(jumps))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_the_golden_ones() {
        let link = |name: &str, is_answered| Link { name: name.into(), is_answered };
        let links = [link("nagaya0", true), link("dmz", false)];
        let chains = Chains::of("nagaya");
        let forward = forward_rules(&chains.forward, &links);
        let text = [
            put("FORWARD", &chains.forward, &forward, false),
            put("INPUT", &chains.input, &input_rules(&chains.input, Family::Ip4, &links), true),
            put("INPUT", &chains.input, &input_rules(&chains.input, Family::Ip6, &links), true),
            take_away("FORWARD", &chains.forward, 1),
        ];
        snapbox::assert_data_eq!(text.join("\n"), snapbox::file!["../../tests/golden/iptables.txt"].raw());
        let named: Vec<_> = links_of(&chains.forward, forward.iter().map(String::as_str)).collect();
        assert_eq!(named, ["nagaya0", "dmz"]);
    }
}
