//! Requests about schedules.

use super::door::{Listener, Perform, Told};
use crate::api::schedules::{Done, List, Plan, Run};
use crate::app::error::AppResult;
use crate::app::instance::App;
use crate::app::snapshots::schedule;
use crate::model::time::Timestamp;

impl Perform for Run {
    type Answer = Vec<Done>;

    fn perform(self, app: &mut App, listener: &mut dyn Listener) -> AppResult<Vec<Done>> {
        let all = schedule::run(app, &Told::to(listener))?.into_iter();
        Ok(all
            .map(|done| Done {
                container: done.container,
                made: done.made.map(String::from),
                deleted: done.deleted.into_iter().map(String::from).collect(),
                error: done.error.map(Into::into),
            })
            .collect())
    }
}

impl Perform for List {
    type Answer = Vec<Plan>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<Plan>> {
        let plans = schedule::list(app)?.into_iter();
        Ok(plans
            .map(|plan| Plan {
                container: plan.container.to_string(),
                schedule: plan.schedule,
                next: plan.next.map(Timestamp),
            })
            .collect())
    }
}
