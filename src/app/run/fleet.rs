//! Requests about sets of machines.

use super::config::told;
use super::door::{Listener, Perform, Told};
use crate::api::config::Pending;
use crate::api::fleet::{ApplyMachine, ApplyProfiles, Plan, Step};
use crate::api::profiles::Waiting;
use crate::app::error::AppResult;
use crate::app::fleet::{self, File};
use crate::app::instance::App;

impl Perform for Plan {
    type Answer = Vec<Step>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<Step>> {
        fleet::plan(app, &File::read(&self.text, self.file.as_deref())?, self.prune)
    }
}

impl Perform for ApplyProfiles {
    type Answer = Vec<Waiting>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<Waiting>> {
        let waiting = fleet::apply_profiles(app, &File::read(&self.text, None)?)?;
        Ok(waiting.into_iter().map(Waiting::from).collect())
    }
}

impl Perform for ApplyMachine {
    type Answer = Vec<Pending>;

    fn perform(self, app: &mut App, listener: &mut dyn Listener) -> AppResult<Vec<Pending>> {
        let file = File::read(&self.text, self.file.as_deref())?;
        let pending = fleet::apply_machine(app, &file, &self.name, self.prune, &Told::to(listener))?;
        Ok(told(pending))
    }
}
