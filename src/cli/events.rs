use std::time::Duration;

use serde::Serialize;

use super::output::print;
use super::report::{CliError, CliResult, DONE};
use super::time;
use crate::app::events::{Event, Snapshot, What};
use crate::model::name::Name;
use crate::sys::interrupt;

/// Print what happens to containers, as it happens
///
/// One JSON object a line: 'time', 'event', 'container', 'id', and with 'renamed' also 'from', with
/// 'stopped' also 'reason' where it is known. Events: created, started, ready, rebooted, frozen,
/// unfrozen, stopped, renamed, deleted. Containers are looked at four times a second, so what
/// begins and ends between two looks is not told. It runs until it is interrupted.
///
/// Examples:
///   nagaya events
///   nagaya events | jq -r 'select(.event == "stopped") | .container'
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct EventsArgs {}

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(250);

#[derive(Serialize)]
struct EventJson<'a> {
    time: String,
    event: &'static str,
    container: &'a Name,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

pub fn run(_: EventsArgs) -> CliResult<i32> {
    let app = super::open()?;
    interrupt::arm();
    let mut before = Snapshot::take(&app)?;
    while !interrupt::pending() {
        std::thread::sleep(INTERVAL);
        let mut now = Snapshot::take(&app)?;
        for event in now.since(&before) {
            print(&line(&event)?)?;
        }
        before = now;
    }
    Ok(DONE)
}

fn line(event: &Event) -> CliResult<String> {
    let (word, from, reason) = match &event.what {
        What::Created => ("created", None, None),
        What::Deleted => ("deleted", None, None),
        What::Renamed(from) => ("renamed", Some(from), None),
        What::Started => ("started", None, None),
        What::Ready => ("ready", None, None),
        What::Rebooted => ("rebooted", None, None),
        What::Frozen => ("frozen", None, None),
        What::Unfrozen => ("unfrozen", None, None),
        What::Stopped(reason) => ("stopped", None, reason.as_deref()),
    };
    let json = EventJson {
        time: time::rfc3339(time::now()),
        event: word,
        container: &event.name,
        id: event.id.as_str(),
        from,
        reason,
    };
    let text = serde_json::to_string(&json).map_err(|e| CliError::Output(e.into()))?;
    Ok(format!("{text}\n"))
}
