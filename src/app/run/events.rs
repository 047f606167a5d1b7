//! Requests that take time to look: what happens to containers, and what they use.

use std::time::Duration;

use super::door::{Listener, Perform};
use crate::api::Event;
use crate::api::containers::{Happened, Load, Measure, Watch};
use crate::app::containers::events::{self, Snapshot, What};
use crate::app::containers::top;
use crate::app::error::AppResult;
use crate::app::instance::App;
use crate::model::time::Timestamp;
use crate::model::waits;
use crate::sys::kernel::clock;
use crate::sys::process::interrupt;

impl Perform for Watch {
    type Answer = ();

    fn perform(self, app: &mut App, listener: &mut dyn Listener) -> AppResult<()> {
        interrupt::arm();
        let mut before = Snapshot::take(app)?;
        while !interrupt::pending() && !listener.is_gone() {
            std::thread::sleep(waits::EVENTS_POLL);
            let mut now = Snapshot::take(app)?;
            for event in now.since(&before) {
                listener.hear(Event::Container(event.into()));
            }
            before = now;
        }
        Ok(())
    }
}

impl Perform for Measure {
    type Answer = Vec<Load>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<Load>> {
        let before = top::sample(app)?;
        std::thread::sleep(Duration::from_millis(self.milliseconds.into()));
        Ok(top::sample(app)?.since(&before))
    }
}

impl From<events::Event> for Happened {
    fn from(happened: events::Event) -> Self {
        let (event, from, reason) = match happened.what {
            What::Created => ("created", None, None),
            What::Deleted => ("deleted", None, None),
            What::Renamed(from) => ("renamed", Some(from), None),
            What::Started => ("started", None, None),
            What::Ready => ("ready", None, None),
            What::Rebooted => ("rebooted", None, None),
            What::Frozen => ("frozen", None, None),
            What::Unfrozen => ("unfrozen", None, None),
            What::Stopped(reason) => ("stopped", None, reason),
        };
        Self { time: Timestamp(clock::now()), event, container: happened.name, id: happened.id, from, reason }
    }
}
