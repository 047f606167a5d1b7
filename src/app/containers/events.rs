//! What happens to containers, as changes between two looks at them. There is no daemon that could
//! tell: who wants to know looks again and again.

use std::collections::BTreeMap;

use super::state;
use crate::app::error::AppResult;
use crate::app::instance::App;
use crate::model::container::State;
use crate::model::name::{ContainerId, Name};
use crate::runtime::protocol::StateRecord;

/// Something that has happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub what: What,
    pub name: Name,
    pub id: ContainerId,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Created,
    Deleted,
    /// From the name that it had.
    Renamed(Name),
    Started,
    /// The guest's init says that it is up.
    Ready,
    /// By the guest itself.
    Rebooted,
    Frozen,
    Unfrozen,
    /// Why, where its monitor has said so.
    Stopped(Option<String>),
}

/// All containers at one moment.
#[derive(Default)]
pub struct Snapshot(BTreeMap<ContainerId, Seen>);

#[derive(Clone)]
struct Seen {
    name: Name,
    state: State,
    record: Option<StateRecord>,
}

impl Snapshot {
    pub fn take(app: &App) -> AppResult<Self> {
        let all = app.store.containers()?.into_iter().map(|container| {
            let (state, record) = (state::of(app, &container), state::record(app, &container.id));
            (container.id, Seen { name: container.name, state, record })
        });
        Ok(Self(all.collect()))
    }

    /// What has happened since `before`, which was taken earlier. A container that is between two states,
    /// or whose state is not known, counts as what it was: the change is told once it is settled.
    pub fn since(&mut self, before: &Self) -> Vec<Event> {
        for (id, new) in &mut self.0 {
            if !matches!(new.state, State::Running | State::Frozen | State::Stopped) {
                let old = before.0.get(id);
                new.state = old.map_or(State::Stopped, |old| old.state);
                new.record = old.and_then(|old| old.record.clone());
            }
        }
        let mut events = Vec::new();
        for (id, old) in &before.0 {
            if !self.0.contains_key(id) {
                if is_up(old.state) {
                    events.push(event(What::Stopped(None), id, old));
                }
                events.push(event(What::Deleted, id, old));
            }
        }
        for (id, new) in &self.0 {
            let Some(old) = before.0.get(id) else {
                events.push(event(What::Created, id, new));
                let stopped = Seen { state: State::Stopped, record: None, ..new.clone() };
                events.extend(changes(&stopped, new).into_iter().map(|what| event(what, id, new)));
                continue;
            };
            if old.name != new.name {
                events.push(event(What::Renamed(old.name.clone()), id, new));
            }
            events.extend(changes(old, new).into_iter().map(|what| event(what, id, new)));
        }
        events
    }
}

fn event(what: What, id: &ContainerId, seen: &Seen) -> Event {
    Event { what, name: seen.name.clone(), id: id.clone() }
}

fn is_up(state: State) -> bool {
    matches!(state, State::Running | State::Frozen)
}

fn changes(old: &Seen, new: &Seen) -> Vec<What> {
    let mut found = Vec::new();
    let monitor = |seen: &Seen| seen.record.as_ref().map(|record| record.monitor_pid);
    let boots = |seen: &Seen| seen.record.as_ref().map_or(0, |record| record.boots);
    let ready = |seen: &Seen| seen.record.as_ref().is_some_and(|record| record.ready);
    let reason = |seen: &Seen| seen.record.as_ref()?.ended.as_ref().map(|ended| ended.reason.clone());
    let same_run = is_up(old.state) && is_up(new.state) && monitor(old) == monitor(new);
    match (is_up(old.state), is_up(new.state)) {
        (true, false) => found.push(What::Stopped(reason(new))),
        (false, true) => found.push(What::Started),
        _ => {}
    }
    let rebooted = same_run && boots(new) > boots(old);
    if rebooted {
        found.push(What::Rebooted);
    }
    if is_up(new.state) && ready(new) && (!is_up(old.state) || rebooted || !ready(old)) {
        found.push(What::Ready);
    }
    match (old.state, new.state) {
        (State::Frozen, State::Running) => found.push(What::Unfrozen),
        (_, State::Frozen) if old.state != State::Frozen => found.push(What::Frozen),
        _ => {}
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(state: State, boots: u32, ready: bool) -> Seen {
        let record = StateRecord { monitor_pid: 7, init_pid: 8, ready, boots, ended: None, stopping: false };
        Seen { name: Name::new("web01").unwrap(), state, record: Some(record) }
    }

    fn snapshot(seen: Option<&Seen>) -> Snapshot {
        Snapshot(seen.map(|seen| (ContainerId::from_random(1), seen.clone())).into_iter().collect())
    }

    fn between(old: Option<&Seen>, new: Option<&Seen>) -> Vec<What> {
        snapshot(new).since(&snapshot(old)).into_iter().map(|event| event.what).collect()
    }

    #[test]
    fn a_life() {
        let stopped = &seen(State::Stopped, 0, false);
        let booting = &seen(State::Running, 1, false);
        let up = &seen(State::Running, 1, true);
        let again = &seen(State::Running, 2, true);
        let frozen = &seen(State::Frozen, 1, true);
        assert_eq!(between(None, Some(stopped)), [What::Created]);
        assert_eq!(between(None, Some(up)), [What::Created, What::Started, What::Ready]);
        assert_eq!(between(Some(stopped), Some(booting)), [What::Started]);
        assert_eq!(between(Some(booting), Some(up)), [What::Ready]);
        assert_eq!(between(Some(up), Some(again)), [What::Rebooted, What::Ready]);
        assert_eq!(between(Some(up), Some(frozen)), [What::Frozen]);
        assert_eq!(between(Some(frozen), Some(up)), [What::Unfrozen]);
        assert_eq!(between(Some(up), Some(stopped)), [What::Stopped(None)]);
        assert_eq!(between(Some(up), None), [What::Stopped(None), What::Deleted]);
        assert_eq!(between(Some(up), Some(up)), []);
    }

    #[test]
    fn what_is_not_known_is_no_event() {
        let up = &seen(State::Running, 1, true);
        for unsettled in [State::Unknown, State::Busy] {
            let mut after = snapshot(Some(&seen(unsettled, 1, true)));
            assert_eq!(after.since(&snapshot(Some(up))), []);
            assert_eq!(snapshot(Some(up)).since(&after), []);
            let mut made = snapshot(Some(&seen(unsettled, 1, true)));
            assert_eq!(made.since(&snapshot(None)).len(), 1);
            assert_eq!(snapshot(Some(up)).since(&made).len(), 2);
        }
    }
}
