//! Limits held against what the administrator grants.

use super::config::value::{NO_LIMIT, size_text};
use super::grant::Grant;
use super::limits::{Limits, MEMORY_HIGH, MEMORY_MAX, PIDS_MAX};
use super::rlimits;

/// A limit above the grant, as users are told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excess {
    /// The configuration's key.
    pub key: String,
    asked: String,
    granted: String,
    /// What would grant it, as `nagaya grant` reads it.
    setting: String,
}

impl Excess {
    /// With what to type next; `user` is whose grant it is.
    pub fn told(&self, user: &str) -> String {
        let Self { key, asked, granted, setting } = self;
        format!(
            "{key}: {asked} is above your grant of {granted}; an administrator can allow more: \
             nagaya grant {user} {setting}"
        )
    }
}

/// Takes `limits` down to the grant. Returns what was above it.
///
/// No limit on memory, processes or CPU time is none: the bounds of all the owner's containers
/// together hold anyway. Every field is named here, so that a new one is not forgotten.
pub fn clamp(limits: &mut Limits, grant: &Grant) -> Vec<Excess> {
    let Limits {
        // Those that a grant bounds follow; the bound of all containers together holds for swap as well,
        // and the others only take away.
        numbers,
        cpu_quota,
        cpu_period,
        // Shares among the owner's own containers, whose parent has one share like everybody's.
        cpu_weight: _,
        io_weight: _,
        // These only take away.
        cpus: _,
        io_max: _,
        rlimits,
    } = limits;
    let mut excess = Vec::new();
    let mut number =
        |value: &mut u64, most: Option<u64>, key: &str, setting: &str, text: fn(u64) -> String| {
            if let Some(most) = most.filter(|most| *value != NO_LIMIT && *value > *most) {
                let (asked, granted) = (text(*value), text(most));
                let setting = format!("{setting}={}", asked.replace(' ', ""));
                excess.push(Excess { key: key.to_owned(), asked, granted, setting });
                *value = most;
            }
        };
    for (file, most, key, setting, text) in [
        (MEMORY_MAX, grant.memory, "limits.memory", "memory", size_text as fn(u64) -> String),
        (MEMORY_HIGH, grant.memory, "limits.memory", "memory", size_text),
        (PIDS_MAX, grant.processes, "limits.processes", "processes", |n| n.to_string()),
    ] {
        let mut asked = numbers.get(file);
        number(&mut asked, most, key, setting, text);
        numbers.set(file, asked);
    }
    if let Some(percent) = grant.cpu.map(u64::from).filter(|_| *cpu_quota != NO_LIMIT) {
        let mut asked = cpu_quota.saturating_mul(100).div_ceil((*cpu_period).max(1));
        number(&mut asked, Some(percent), "limits.cpu.allowance", "cpu", |n| format!("{n}%"));
        *cpu_quota = (*cpu_quota).min(cpu_period.saturating_mul(percent) / 100);
    }
    for limit in rlimits {
        let most = grant.resource(&limit.resource).max(rlimits::most_of_users(&limit.resource));
        let asked = limit.soft.max(limit.hard);
        if asked > most {
            let text = |n| resource_text(&limit.resource, n);
            excess.push(Excess {
                key: format!("limits.kernel.{}", limit.resource),
                asked: text(asked),
                granted: text(most),
                setting: format!("kernel.{}={}", limit.resource, text(asked).replace(' ', "")),
            });
            (limit.soft, limit.hard) = (limit.soft.min(most), limit.hard.min(most));
        }
    }
    excess
}

/// A resource limit with the unit that it has.
pub fn resource_text(resource: &str, n: u64) -> String {
    match resource {
        _ if n == NO_LIMIT => "unlimited".to_owned(),
        "as" | "core" | "data" | "fsize" | "memlock" | "msgqueue" | "stack" => size_text(n),
        _ => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::limits::{RLIMITS, Rlimit};

    fn grant(settings: &[&str]) -> Grant {
        let mut grant = Grant::default();
        for (key, value) in settings.iter().map(|setting| Grant::key_and_value(setting).unwrap()) {
            grant.set(key, value).unwrap();
        }
        grant
    }

    fn with(resource: &str, soft: u64, hard: u64) -> Limits {
        Limits { rlimits: vec![Rlimit { resource: resource.into(), soft, hard }], ..Limits::default() }
    }

    fn told(limits: &Limits, grant: &Grant) -> Vec<String> {
        clamp(&mut limits.clone(), grant).iter().map(|excess| excess.told("ann")).collect()
    }

    #[test]
    fn what_is_above_the_grant_is_named_with_units() {
        let small = grant(&["memory=512MiB", "cpu=50", "processes=100"]);
        let usual = Limits::default;
        assert_eq!(told(&usual(), &small), [""; 0]);
        for (limits, text) in [
            (
                Limits { numbers: [(MEMORY_MAX, 1 << 30)].into(), ..usual() },
                "limits.memory: 1 GiB is above your grant of 512 MiB; an administrator can allow more: \
                 nagaya grant ann memory=1GiB",
            ),
            (
                Limits { numbers: [(MEMORY_HIGH, 3 << 29)].into(), ..usual() },
                "limits.memory: 1536 MiB is above your grant of 512 MiB; an administrator can allow more: \
                 nagaya grant ann memory=1536MiB",
            ),
            (
                Limits { numbers: [(PIDS_MAX, 101)].into(), ..usual() },
                "limits.processes: 101 is above your grant of 100; an administrator can allow more: \
                 nagaya grant ann processes=101",
            ),
            (
                Limits { cpu_quota: 60_000, ..usual() },
                "limits.cpu.allowance: 60% is above your grant of 50%; an administrator can allow more: \
                 nagaya grant ann cpu=60%",
            ),
            (
                with("memlock", 0, NO_LIMIT),
                "limits.kernel.memlock: unlimited is above your grant of 64 MiB; an administrator can allow \
                 more: nagaya grant ann kernel.memlock=unlimited",
            ),
        ] {
            assert_eq!(told(&limits, &small), [text]);
        }
    }

    #[test]
    fn resources_are_bounded_also_where_nothing_is_granted() {
        let none = Grant::default();
        for (resource, most) in [
            ("rtprio", 0),
            ("nice", 0),
            ("memlock", 64 << 20),
            ("msgqueue", 819_200),
            ("nofile", 1 << 20),
            ("core", 1),
        ] {
            assert!(told(&with(resource, most, most), &none).is_empty(), "{resource}");
            assert_eq!(told(&with(resource, 0, most + 1), &none).len(), 1, "{resource}");
            let more = grant(&[&format!("kernel.{resource}={}", most + 1)]);
            assert!(told(&with(resource, 0, most + 1), &more).is_empty(), "{resource}");
        }
        for resource in RLIMITS {
            let all = grant(&[&format!("kernel.{resource}=unlimited")]);
            assert!(told(&with(resource, 0, NO_LIMIT), &all).is_empty(), "{resource}");
        }
    }

    #[test]
    fn what_is_clamped_is_within_the_grant() {
        let small = grant(&["memory=512MiB", "cpu=50", "processes=100", "kernel.rtprio=5"]);
        let mut limits = with("rtprio", 3, 99);
        limits.numbers = [(MEMORY_MAX, 64 << 30), (MEMORY_HIGH, 64 << 30), (PIDS_MAX, 5000)].into();
        (limits.cpu_quota, limits.cpu_period) = (333_333, 99_999);
        assert_eq!(clamp(&mut limits, &small).len(), 5);
        assert_eq!(clamp(&mut limits, &small), []);
        let wanted = [(MEMORY_MAX, 512 << 20), (MEMORY_HIGH, 512 << 20), (PIDS_MAX, 100)];
        assert_eq!((limits.numbers, limits.rlimits[0].hard), (wanted.into(), 5));
        assert_eq!((limits.rlimits[0].soft, limits.cpu_quota), (3, 49_999));
    }
}
