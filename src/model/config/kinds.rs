//! What values of configuration keys look like.

use super::value::{Allowance, Cpus, Memory, Pair, Rate, Swap, is_hostname};
use crate::model::device::is_clean_path;
use crate::model::keys::{Kind, Words};
use crate::model::schedule::{Expiry, Pattern, Retention, Schedule};

const fn kind(name: &'static str, rule: &'static str, check: fn(&str) -> bool) -> Kind {
    Kind { name, words: Words::NONE, rule, check }
}

pub const MEMORY: Kind = kind(
    "size or percent",
    "a number of bytes with a unit (B, kB, MB, GB, TB; KiB, MiB, GiB, TiB), or percent of the host's memory \
     ('50%')",
    |text| Memory::parse(text).is_some(),
);

pub const ENFORCE: Kind = Kind {
    name: "hard or soft",
    words: Words::These(&["hard", "soft"]),
    rule: "hard or soft",
    check: |text| matches!(text, "hard" | "soft"),
};

pub const SWAP: Kind = Kind {
    name: "bool or size",
    words: Words::These(&["true", "false"]),
    rule: "true, false, or a number of bytes with a unit (B, kB, MB, GB, TB; KiB, MiB, GiB, TiB)",
    check: |text| Swap::parse(text).is_some(),
};

pub const CPUS: Kind = kind("count or set", "a number of CPUs ('2') or a set of them ('0-3,5')", |text| {
    Cpus::parse(text).is_some()
});

pub const ALLOWANCE: Kind = kind(
    "percent or time",
    "1% to 100%, or a time of at least 1ms in a period of 1ms to 1000ms ('25ms/100ms')",
    |text| Allowance::parse(text).is_some(),
);

pub const RATE: Kind = kind(
    "size or iops",
    "a number of bytes with a unit (B, kB, MB, GB, TB; KiB, MiB, GiB, TiB), or of operations ('500iops'), in a \
     second",
    |text| Rate::parse(text).is_some(),
);

pub const RLIMIT: Kind = Kind {
    name: "number or soft:hard",
    words: Words::These(&["unlimited"]),
    rule: "a number, 'unlimited', or two of them as soft:hard, the first not higher",
    check: |text| Pair::parse(text).is_some(),
};

pub const HOSTNAME: Kind = kind(
    "host name",
    "labels of letters, digits and '-', with dots in between, at most 64 characters in all \
     ('mail.example.org')",
    is_hostname,
);

pub const SCHEDULE: Kind = kind(
    "times",
    "minute, hour, day of the month, month and day of the week as in crontab(5) ('0 3 * * *'), or @hourly, @daily, \
     @weekly, @monthly or @yearly; several are set apart by ';'",
    |text| Schedule::parse(text).is_some(),
);

pub const EXPIRY: Kind = kind(
    "span",
    "numbers with a unit: M for minutes, H for hours, d, w, m for months, y ('2w 3d')",
    |text| Expiry::parse(text).is_some(),
);

pub const RETENTION: Kind = kind(
    "counts",
    "numbers from 1 to 1000 of hourly, daily, weekly, monthly, yearly ('24 hourly, 7 daily, 4 weekly')",
    |text| Retention::parse(text).is_some(),
);

pub const GUEST_PROGRAM: Kind = kind(
    "path",
    "the absolute path of a program in the guest, without '.' and '..' ('/usr/local/sbin/snapshot-hook')",
    is_clean_path,
);

pub const PATTERN: Kind =
    kind("name", "a snapshot's name, with '%d' for a number that grows or '{time}' for the time", |text| {
        Pattern::parse(text).is_some()
    });
