//! A container gets another configuration: its own keys have changed, or its profiles.

use super::pending::Pending;
use super::{limits, proxies, shared};
use crate::app::containers::{create, given, running, state};
use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::app::storage::{quota, volumes};
use crate::model::config::{CONFIG_KEYS, Config};
use crate::model::container::{Container, State};
use crate::model::keys::Live;
use crate::model::profile::Layered;
use crate::store::StoreError;

/// Stores a configuration, or that part of it which is changed.
pub type Store<'a> = &'a dyn Fn(&mut App, &Container, &Layered) -> AppResult<()>;

/// Puts `new` in the place of the configuration of a container, whose lock the caller holds. If it runs, it gets
/// what takes effect at once; then all is stored. Returns what waits.
pub fn put(app: &mut App, container: &Container, new: Layered, store: Store<'_>) -> AppResult<Vec<Pending>> {
    if new == container.config {
        return Ok(Vec::new());
    }
    let changed = check(app, container, &new)?;
    let (name, old) = (&container.name, &container.config);
    let lives = state::of(app, container) != State::Stopped;
    let apply = lives && are_limits(&changed);
    if apply {
        set_limits(app, container, &new)?;
    }
    let was_known = running::forget(&app.instance, name);
    let container = Container { config: new, ..container.clone() };
    let stored = store(app, &container, &container.config);
    let told = stored.and_then(|()| create::write_manifest(app, &container));
    let has_others = has_other_devices(&container, old);
    let told = told.and_then(|()| if has_others { proxies::follow(app, &container) } else { Ok(()) });
    if let Err(e) = told {
        // The stored values must be those that hold.
        let back = store(app, &container, old);
        let former = Container { config: old.clone(), ..container.clone() };
        let back = back.and_then(|()| create::write_manifest(app, &former));
        let back = back.and_then(|()| if apply { set_limits(app, &former, old) } else { Ok(()) });
        if let Err(undo) = back {
            tracing::warn!("cannot go back to the former configuration of '{name}': {undo}");
        }
        return Err(e);
    }
    if was_known {
        running::keep(app, &container);
    }
    let mut waiting = if lives { pending(&changed) } else { Vec::new() };
    if has_others {
        waiting.extend(shared::follow(app, &container));
    }
    Ok(waiting)
}

/// Whether another configuration means other devices.
fn has_other_devices(container: &Container, old: &Layered) -> bool {
    let former = Container { config: old.clone(), ..container.clone() };
    former.all_devices() != container.all_devices()
}

/// Refuses what this host cannot enforce or the grant does not allow; for a stopped container too, because the user
/// should learn of it now, not at the next start. Returns the keys that change.
pub fn check(app: &App, container: &Container, new: &Layered) -> AppResult<Vec<String>> {
    let wanted = Container { config: new.clone(), ..container.clone() };
    wanted.check().map_err(|source| StoreError::BadField { name: container.name.clone(), source })?;
    if has_other_devices(&wanted, &container.config) {
        let has_already = container.all_devices();
        for (device, _) in wanted.all_devices() {
            if !has_already.iter().any(|(other, _)| *other == device) {
                given::check(&app.instance, device)?;
                volumes::check(app, device)?;
                quota::check(app, &container.pool, device)?;
            }
        }
        proxies::check_names(app, &wanted)?;
    }
    let changed = changed(new, &container.config);
    if changed.iter().any(|key| key.starts_with("limits.")) {
        let limits = limits::of(app, new.expanded(), Some(&container.id))?;
        let is_changed = |key: &str| changed.iter().any(|other| of_one_limit(key, other));
        limits::check_granted(app, &limits, is_changed)?;
    }
    Ok(changed)
}

/// Brings to a container, whose lock the caller holds, what is stored already: from `old` to what it has now. Without
/// `old`, it is not known what has changed. Returns what waits.
pub fn follow(app: &mut App, container: &Container, old: Option<&Layered>) -> AppResult<Vec<Pending>> {
    let changed = old.map(|old| changed(&container.config, old));
    let state = state::of(app, container);
    if state != State::Stopped && changed.as_deref().is_none_or(are_limits) {
        set_limits(app, container, &container.config)?;
    }
    create::write_manifest(app, container)?;
    match old {
        // A command that was killed has begun it: there is nothing to go back to.
        None => proxies::follow_or_tell(app, container),
        Some(old) if has_other_devices(container, old) => proxies::follow(app, container)?,
        Some(_) => {}
    }
    if state == State::Running {
        running::keep(app, container);
    }
    let lives = state != State::Stopped;
    let mut waiting = changed.filter(|_| lives).map_or_else(Vec::new, |changed| pending(&changed));
    if lives && old.is_none_or(|old| has_other_devices(container, old)) {
        waiting.extend(shared::follow(app, container));
    }
    Ok(waiting)
}

fn set_limits(app: &mut App, container: &Container, config: &Layered) -> AppResult<()> {
    let limits = limits::granted(app, &container.name, config.expanded(), &container.id)?;
    app.broker.set_limits(container.id.as_str(), limits).map_err(AppError::from)
}

fn changed(new: &Layered, old: &Layered) -> Vec<String> {
    let keys = Config::changed(new.expanded(), old.expanded());
    keys.into_iter().map(str::to_owned).collect()
}

fn live(key: &str) -> Live {
    CONFIG_KEYS.find(key).map_or(Live::None, |known| known.live)
}

/// Whether the broker has to be told.
fn are_limits(changed: &[String]) -> bool {
    changed.iter().any(|key| key.starts_with("limits.") && live(key) == Live::Now)
}

fn pending(changed: &[String]) -> Vec<Pending> {
    let all = changed.iter().map(|key| Pending { live: live(key), key: key.clone() });
    all.filter(|p| matches!(p.live, Live::NextStart | Live::NewPrograms)).collect()
}

/// Whether two keys are of the same limit: `limits.memory` and `limits.memory.enforce`.
fn of_one_limit(key: &str, other: &str) -> bool {
    other == key || other.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'))
}
