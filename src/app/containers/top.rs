//! `top`: what every running container uses, measured from the host.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::state;
use crate::api::containers::Load;
use crate::app::error::AppResult;
use crate::app::instance::App;
use crate::model::container::State;
use crate::model::name::ContainerId;
use crate::sys::cgroup::usage;
use crate::sys::cgroup::usage::Usage;

/// All running containers at one moment.
pub struct Sample {
    at: Instant,
    containers: Vec<(ContainerId, String, State, Usage)>,
}

/// A dozen short files of each container that runs.
pub fn sample(app: &App) -> AppResult<Sample> {
    let mut containers = Vec::new();
    for container in app.store.containers()? {
        let state = state::of(app, &container);
        let Some(dir) = state::cgroup_dir(app, &container.id) else { continue };
        if matches!(state, State::Running | State::Frozen) {
            let usage = usage::read(&dir.join("payload"), &state::host_links(app, &container));
            containers.push((container.id, container.name.to_string(), state, usage));
        }
    }
    Ok(Sample { at: Instant::now(), containers })
}

impl Sample {
    /// What has happened since `before`. A container that was not there then has no rates.
    pub fn since(&self, before: &Sample) -> Vec<Load> {
        let passed = self.at.saturating_duration_since(before.at);
        let earlier: BTreeMap<_, _> = before.containers.iter().map(|(id, _, _, usage)| (id, usage)).collect();
        self.containers
            .iter()
            .map(|(id, name, state, now)| {
                let then = earlier.get(id);
                let rate = |counter: fn(&Usage) -> Option<u64>| {
                    per_second(then.and_then(|usage| counter(usage))?, counter(now)?, passed)
                };
                Load {
                    name: name.clone(),
                    state: *state,
                    // Microseconds in a second, of which a million are all of one CPU.
                    cpu_percent: rate(|usage| usage.cpu).map(|micros| micros / 10_000.0),
                    io_read_rate: rate(|usage| usage.io_read),
                    io_written_rate: rate(|usage| usage.io_written),
                    net_received_rate: rate(|usage| usage.net_received),
                    net_sent_rate: rate(|usage| usage.net_sent),
                    usage: now.clone(),
                }
            })
            .collect()
    }
}

/// None for a counter that has begun anew: the container was started again meanwhile.
fn per_second(before: u64, now: u64, passed: Duration) -> Option<f64> {
    let seconds = passed.as_secs_f64();
    (seconds > 0.0).then(|| now.checked_sub(before)).flatten().map(|n| n as f64 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: Instant, containers: &[(u32, u64)]) -> Sample {
        let one = |(id, cpu): &(u32, u64)| {
            let usage = Usage { cpu: Some(*cpu), ..Usage::default() };
            (ContainerId::from_random(*id), format!("c{id}"), State::Running, usage)
        };
        Sample { at, containers: containers.iter().map(one).collect() }
    }

    #[test]
    fn rates_are_differences_over_time() {
        let start = Instant::now();
        let before = sample(start, &[(1, 1_000_000), (2, 5_000_000)]);
        let after = sample(start + Duration::from_secs(2), &[(1, 2_000_000), (2, 1), (3, 9)]);
        let cpus: Vec<_> = after.since(&before).into_iter().map(|load| load.cpu_percent).collect();
        assert_eq!(cpus, [Some(50.0), None, None]);
        assert_eq!(after.since(&after)[0].cpu_percent, None);
    }
}
