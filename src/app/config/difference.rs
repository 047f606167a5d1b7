//! `config diff`: what is wanted of a running container, and what it has.

use crate::app::config::limits;
use crate::app::containers::attached::Attached;
use crate::app::containers::state;
use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::model::config::{CONFIG_KEYS, Config};
use crate::model::container::{Container, State};
use crate::model::keys::Live;
use crate::model::name::Name;
use crate::sys::cgroup;

/// A key that does not hold as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub key: String,
    /// None: nothing is wanted.
    pub wanted: Option<String>,
    /// What the container has; as a file of its cgroup has it, where there is one.
    pub live: Option<String>,
    /// That file.
    pub file: Option<&'static str>,
    /// What makes it hold.
    pub live_when: Live,
}

/// What differs, sorted by key.
///
/// # Errors
/// The container does not run.
pub fn diff(app: &App, name: &Name) -> AppResult<Vec<Difference>> {
    let container = app.find(name)?;
    if state::of(app, &container) == State::Stopped {
        return Err(AppError::NotRunning(name.clone()));
    }
    let wanted = container.config.expanded();
    let started = Attached::read(&app.instance, &container.id).and_then(|started| started.config);
    let mut all = of_guest(wanted, started.as_ref());
    all.extend(of_cgroup(app, &container)?);
    all.sort_by(|a, b| (&a.key, a.file).cmp(&(&b.key, b.file)));
    Ok(all)
}

/// Keys that wait for the next start; none where an earlier version has started the container, which kept no record.
pub fn waiting(app: &App, container: &Container) -> Vec<String> {
    let started = Attached::read(&app.instance, &container.id).and_then(|started| started.config);
    of_guest(container.config.expanded(), started.as_ref()).into_iter().map(|found| found.key).collect()
}

/// What the guest was given when it was started.
fn of_guest(wanted: &Config, started: Option<&Config>) -> Vec<Difference> {
    let Some(started) = started else { return Vec::new() };
    let difference = |key: &str| {
        let live_when = CONFIG_KEYS.find(key)?.live;
        let waits = matches!(live_when, Live::NextStart | Live::NewPrograms);
        let holds = |config: &Config| config.effective(key).ok().filter(|v| !v.is_empty()).map(str::to_owned);
        waits.then(|| Difference {
            key: key.to_owned(),
            wanted: holds(wanted),
            live: holds(started),
            file: None,
            live_when,
        })
    };
    let all = wanted.changed(started).into_iter().filter_map(difference);
    all.filter(|found| found.wanted != found.live).collect()
}

/// What the kernel holds it to.
fn of_cgroup(app: &App, container: &Container) -> AppResult<Vec<Difference>> {
    let config = container.config.expanded();
    let limits = limits::within_grant(app, config, &container.id)?;
    let Some(dir) = state::cgroup_dir(app, &container.id) else { return Ok(Vec::new()) };
    let found = cgroup::limits::differing(&dir.join("payload"), &limits)?;
    let difference = |found: cgroup::limits::Differing| Difference {
        wanted: config.get(found.key).map(str::to_owned),
        key: found.key.to_owned(),
        live: Some(found.live),
        file: Some(found.file),
        live_when: Live::NextStart,
    };
    Ok(found.into_iter().map(difference).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_was_started_with_is_compared_with_what_is_wanted() {
        let config = |pairs: &[(&str, &str)]| Config::of(pairs.iter().copied()).unwrap();
        let started = config(&[("environment.A", "1"), ("limits.kernel.nofile", "300"), ("user.x", "1")]);
        let wanted = config(&[
            ("environment.A", "2"),
            ("limits.memory", "1GiB"),
            ("security.syscalls.deny_default", "true"),
        ]);
        let found = of_guest(&wanted, Some(&started));
        let rows: Vec<_> =
            found.iter().map(|d| (d.key.as_str(), d.wanted.as_deref(), d.live.as_deref())).collect();
        assert_eq!(
            rows,
            [("environment.A", Some("2"), Some("1")), ("limits.kernel.nofile", None, Some("300"))],
            "limits are the kernel's to tell, and a default is no change"
        );
        assert_eq!(of_guest(&wanted, None), []);
    }
}
