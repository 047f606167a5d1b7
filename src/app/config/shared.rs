//! Directories and nodes that containers have by their profiles: a running guest gets what it should have, and loses what
//! it should not.

use std::cmp::Reverse;

use super::pending::Pending;
use crate::app::containers::attached::Attached;
use crate::app::containers::hot_plug::{self, Seen};
use crate::app::containers::state;
use crate::app::instance::App;
use crate::app::storage::quota;
use crate::model::container::{Container, State};
use crate::model::device::{Device, device_key};
use crate::model::keys::Live;
use crate::sys::error_text;

/// What a change does to a running guest.
#[derive(Debug, Default, PartialEq, Eq)]
struct Difference {
    /// Those further down first.
    gone: Vec<Device>,
    /// Those further up first.
    new: Vec<Device>,
    /// A guest keeps what it has until its next start.
    changed: Vec<Device>,
}

impl Difference {
    fn between(given: &[Device], wanted: &[Device]) -> Self {
        let lacks = |all: &[Device], device: &Device| all.iter().all(|other| other.name != device.name);
        let mut gone: Vec<Device> = given.iter().filter(|was| lacks(wanted, was)).cloned().collect();
        gone.sort_by(|a, b| Reverse(a.path()).cmp(&Reverse(b.path())));
        let mut new: Vec<Device> = wanted.iter().filter(|now| lacks(given, now)).cloned().collect();
        new.sort_by(|a, b| a.path().cmp(b.path()));
        let differs = |now: &&Device| given.iter().any(|was| was.name == now.name && was != *now);
        Self { gone, new, changed: wanted.iter().filter(differs).cloned().collect() }
    }
}

/// Brings to the running guest of a container, whose lock the caller holds, what is stored. What a guest does not let
/// happen waits for its next start: it cannot hold up what concerns others too. Returns what waits.
pub fn follow(app: &mut App, container: &Container) -> Vec<Pending> {
    if let Err(e) = quota::follow(app, container) {
        (app.tell)(&format!("'{}' keeps the size that it had: {}", container.name, error_text(&e)));
    }
    if state::of(app, container) == State::Stopped {
        return Vec::new();
    }
    let Some(given) = Attached::read(&app.instance, &container.id) else { return Vec::new() };
    let Difference { gone, new, changed } = Difference::between(&given.devices, &container.mounted());
    let mut waiting: Vec<Device> = Vec::new();
    for device in gone {
        if let Err(e) = hot_plug::unmount(app, container, &device, false) {
            (app.tell)(&error_text(&e));
            waiting.push(device);
        }
    }
    for device in new {
        let is_occupied = waiting.iter().any(|other| other.path() == device.path());
        let mounted = match is_occupied {
            true => Ok(Seen::NextStart),
            false => hot_plug::mount(app, container, &device),
        };
        match mounted {
            Ok(Seen::Now) => {}
            Ok(Seen::NextStart) => waiting.push(device),
            Err(e) => {
                let (name, path) = (&device.name, device.path());
                (app.tell)(&format!(
                    "'{}' does not have device '{name}' at {path} yet: {}",
                    container.name,
                    error_text(&e)
                ));
                waiting.push(device);
            }
        }
    }
    let waits = |device: Device| Pending { key: device_key(&device.name), live: Live::NextStart };
    waiting.into_iter().chain(changed).map(waits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::device::DeviceType;

    #[test]
    fn what_is_below_goes_first_and_comes_last() {
        let disk = |name: &str, path: &str| {
            let pairs = [("source", "tmpfs:"), ("path", path)].map(|(k, v)| (k.to_owned(), v.to_owned()));
            Device::of(name, DeviceType::Disk, &pairs.into()).unwrap()
        };
        let (top, below, other) = (disk("a", "/a"), disk("b", "/a/b"), disk("c", "/c"));
        let moved = disk("c", "/d");
        let all = Difference::between(&[top.clone(), below.clone(), other], std::slice::from_ref(&moved));
        assert_eq!((all.gone, all.new, all.changed), (vec![below.clone(), top.clone()], vec![], vec![moved]));
        let back = Difference::between(&[], &[below.clone(), top.clone()]);
        assert_eq!(back, Difference { new: vec![top, below], ..Difference::default() });
    }
}
