//! A firewall of others that stands in the way of guests.

/// Whose firewall it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Docker,
    Ufw,
    Firewalld,
    /// Rules that somebody has made with iptables.
    Iptables,
    /// A table of nftables that belongs to no program that we know.
    Unknown,
}

/// A firewall that drops forwarded traffic of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub who: Who,
    /// Where it drops it: `ip filter FORWARD`, `zone nagaya`.
    pub place: String,
    /// nagaya has added an exception for guests' traffic there.
    pub is_handled: bool,
}
