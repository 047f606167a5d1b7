//! What has passed links and rules.

use serde::{Deserialize, Serialize};

/// What has passed one link since it was first counted, as its guest sees it. Packets are the
/// kernel's, which joins those of one stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Traffic {
    /// From the guest.
    pub sent_packets: u64,
    /// From the guest.
    pub sent_bytes: u64,
    /// To the guest.
    pub received_packets: u64,
    /// To the guest.
    pub received_bytes: u64,
}

/// What one rule, or a default, has decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleCount {
    /// `c-000000ab-in`, `g-web-out`, `n-nagaya0-in`; of a network's default `d-nagaya0-in`.
    pub chain: String,
    /// `rule 3` or `default`.
    pub rule: String,
    /// Packets that it decided.
    pub packets: u64,
    /// Bytes of these packets.
    pub bytes: u64,
}

impl Traffic {
    /// What has passed altogether, when `seen` was counted at the last look and `now` is, and `self`
    /// had passed altogether by then. Less than was seen means that counting has begun anew.
    pub fn continued(self, seen: Self, now: Self) -> Self {
        let anew = now.sent_bytes < seen.sent_bytes || now.received_bytes < seen.received_bytes;
        let seen = if anew { Self::default() } else { seen };
        let sum = |total: u64, seen: u64, now: u64| total.saturating_add(now.saturating_sub(seen));
        Self {
            sent_packets: sum(self.sent_packets, seen.sent_packets, now.sent_packets),
            sent_bytes: sum(self.sent_bytes, seen.sent_bytes, now.sent_bytes),
            received_packets: sum(self.received_packets, seen.received_packets, now.received_packets),
            received_bytes: sum(self.received_bytes, seen.received_bytes, now.received_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stored::tests::value_outlives;

    #[test]
    fn counts_outlive_versions() {
        value_outlives(&traffic(1, 2), &[], &[]);
    }

    fn traffic(sent: u64, received: u64) -> Traffic {
        Traffic { sent_packets: sent, sent_bytes: sent, received_packets: received, received_bytes: received }
    }

    #[test]
    fn counts_go_on_where_counting_began_anew() {
        let total = traffic(100, 50);
        assert_eq!(total.continued(traffic(60, 10), traffic(70, 15)), traffic(110, 55));
        assert_eq!(total.continued(traffic(60, 10), traffic(5, 1)), traffic(105, 51));
        assert_eq!(total.continued(traffic(60, 10), traffic(60, 10)), total);
    }
}
