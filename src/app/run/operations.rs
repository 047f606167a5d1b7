//! Requests about operations.

use super::door::{Listener, Perform};
use crate::api::operations::{List, Show};
use crate::app::error::AppResult;
use crate::app::instance::App;
use crate::app::operations;
use crate::model::operation::Operation;

impl Perform for List {
    type Answer = Vec<Operation>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<Operation>> {
        operations::list(app)
    }
}

impl Perform for Show {
    type Answer = Box<Operation>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Box<Operation>> {
        operations::show(app, &self.id).map(Box::new)
    }
}
