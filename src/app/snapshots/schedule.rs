//! `schedule run`: what has expired goes, and snapshots are made that are due.

use chrono::Local;

use super::snapshot::{self, SnapshotRequest};
use crate::app::Progress;
use crate::app::containers::state;
use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::model::container::{Container, Phase, State};
use crate::model::name::Name;
use crate::model::schedule::{Expiry, Retention, Schedule};
use crate::model::snapshot::{Snapshot, SnapshotName};
use crate::sys::kernel::clock::now;

/// What was done for a container.
pub struct Done {
    pub container: Name,
    /// The snapshot that was made.
    pub made: Option<SnapshotName>,
    /// Snapshots that were deleted.
    pub deleted: Vec<SnapshotName>,
    /// Why not all was done that was to be.
    pub error: Option<AppError>,
}

/// The schedule of a container.
pub struct Plan {
    pub container: Name,
    /// As the key has it.
    pub schedule: String,
    /// Seconds since 1970; none: never, because it is stopped or there is no such time.
    pub next: Option<i64>,
}

/// Goes through all containers. What one of them has to wait for does not hold up the others: it is tried again the
/// next time.
pub fn run(app: &mut App, progress: &dyn Progress) -> AppResult<Vec<Done>> {
    let looks = app.store.schedule_looks()?;
    let mut all = Vec::new();
    for container in app.store.containers()?.into_iter().filter(|found| found.phase == Phase::Settled) {
        let schedule = schedule_of(&container);
        let look = looks.get(&container.id).copied();
        let mut done =
            Done { container: container.name.clone(), made: None, deleted: Vec::new(), error: None };
        done.error = see_to(app, &container, schedule.as_ref(), look, &mut done, progress).err();
        if done.made.is_some() || !done.deleted.is_empty() || done.error.is_some() {
            all.push(done);
        }
    }
    Ok(all)
}

fn schedule_of(container: &Container) -> Option<Schedule> {
    container.config.expanded().get("snapshots.schedule").and_then(Schedule::parse)
}

/// When snapshots are made next, of each container that has a schedule.
pub fn list(app: &App) -> AppResult<Vec<Plan>> {
    let mut plans = Vec::new();
    for container in app.store.containers()? {
        let Some(schedule) = schedule_of(&container) else { continue };
        let next = is_wanted(app, &container).then(|| schedule.next(now(), &Local)).flatten();
        let text = container.config.expanded().get("snapshots.schedule").unwrap_or_default().to_owned();
        plans.push(Plan { container: container.name, schedule: text, next });
    }
    Ok(plans)
}

/// Whether its state allows it.
fn is_wanted(app: &App, container: &Container) -> bool {
    let also_stopped = container.config.expanded().get("snapshots.schedule.stopped") == Some("true");
    also_stopped || state::of(app, container) != State::Stopped
}

fn see_to(
    app: &mut App,
    container: &Container,
    schedule: Option<&Schedule>,
    look: Option<i64>,
    done: &mut Done,
    progress: &dyn Progress,
) -> AppResult<()> {
    // First, so that there is room.
    let snapshots = app.store.snapshots(&container.id)?;
    let over = over(container, &snapshots, now());
    if !over.is_empty() {
        snapshot::delete(app, &container.name, &over)?;
        done.deleted = over;
    }
    let Some(schedule) = schedule else { return Ok(()) };
    let time = now();
    // A schedule counts from when it is seen first.
    let is_due = look.is_some_and(|look| schedule.is_due(look, time, &Local));
    if is_due && is_wanted(app, container) {
        let expires_at = container
            .config
            .expanded()
            .get("snapshots.expiry")
            .and_then(Expiry::parse)
            .and_then(|expiry| expiry.after(time, &Local));
        let request = SnapshotRequest {
            container: container.name.clone(),
            name: None,
            comment: None,
            expires_at,
            is_automatic: true,
        };
        done.made = Some(snapshot::create(app, request, progress)?.name);
    }
    if is_due || look.is_none() {
        app.store.set_schedule_look(&container.id, time)?;
    }
    Ok(())
}

/// Snapshots that have expired, and those made by themselves that the retention does not keep.
fn over(container: &Container, snapshots: &[Snapshot], now: i64) -> Vec<SnapshotName> {
    let has_expired = |snapshot: &&Snapshot| snapshot.expires_at.is_some_and(|at| at <= now);
    let mut over: Vec<SnapshotName> =
        snapshots.iter().filter(has_expired).map(|snapshot| snapshot.name.clone()).collect();
    if let Some(retention) = container.config.expanded().get("snapshots.retention").and_then(Retention::parse)
    {
        let automatic: Vec<&Snapshot> = snapshots.iter().filter(|snapshot| snapshot.is_automatic).collect();
        let times: Vec<i64> = automatic.iter().map(|snapshot| snapshot.created_at).collect();
        for (snapshot, _) in automatic.iter().zip(retention.kept(&times, &Local)).filter(|(_, kept)| !kept) {
            if !over.contains(&snapshot.name) {
                over.push(snapshot.name.clone());
            }
        }
    }
    over
}
