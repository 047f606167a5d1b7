//! What values look like.

use crate::model::config::value::boolean;

/// A whole number between two literals.
macro_rules! number {
    ($from:literal, $to:literal) => {
        $crate::model::keys::Kind {
            name: "integer",
            words: $crate::model::keys::Words::NONE,
            rule: concat!("a number from ", $from, " to ", $to),
            check: |text| {
                $crate::model::config::value::integer(text).is_some_and(|n| ($from..=$to).contains(&n))
            },
        }
    };
}
pub(in crate::model) use number;

/// The type of a key's value.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// As the tables of keys show it.
    pub name: &'static str,
    pub words: Words,
    /// Completes "it must be …".
    pub rule: &'static str,
    pub check: fn(&str) -> bool,
}

/// Values that are offered to who types one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Words {
    These(&'static [&'static str]),
    /// The names of the networks that there are.
    Networks,
    /// The names of the host's interfaces.
    Interfaces,
}

impl Words {
    pub const NONE: Self = Self::These(&[]);
}

pub const BOOL: Kind = Kind {
    name: "bool",
    words: Words::These(&["true", "false"]),
    rule: "true or false",
    check: |text| boolean(text).is_some(),
};

pub const TEXT: Kind = Kind { name: "string", words: Words::NONE, rule: "a text", check: |_| true };

/// Bytes of a packet: at least what IPv6 asks for, at most what a veth takes.
pub const MTU: Kind = number!(1280, 65_535);
