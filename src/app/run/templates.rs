//! Requests about templates.

use super::door::{Listener, Perform, Told};
use super::passed::{Passed, PerformWith};
use crate::api::templates::{Build, Delete, Import, List, Recipe, Recipes, Show, Template};
use crate::app::error::AppResult;
use crate::app::images::templates::{self, Entry};
use crate::app::instance::{App, Lazy};
use crate::model::text;
use crate::model::time::Timestamp;
use crate::sys::Context;

impl Perform for List {
    type Answer = Vec<Template>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<Template>> {
        Ok(templates::list(app)?.iter().map(Template::from).collect())
    }
}

impl Perform for Show {
    type Answer = Template;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Template> {
        Ok(Template::from(&templates::show(app, &self.name)?))
    }
}

impl Perform for Recipes {
    type Answer = Vec<Recipe>;

    fn perform(self, _: &mut App, _: &mut dyn Listener) -> AppResult<Vec<Recipe>> {
        let all = templates::recipes().into_iter();
        Ok(all.map(|(name, description)| Recipe { name, description }).collect())
    }
}

impl Perform for Build {
    type Answer = Template;

    fn perform(self, app: &mut App, listener: &mut dyn Listener) -> AppResult<Template> {
        Ok(Template::from(&templates::build(app, &self.name, &Told::to(listener))?))
    }
}

impl PerformWith for Import {
    type Answer = Template;

    fn perform(
        self,
        mut lazy: Lazy,
        passed: &Passed<'_>,
        listener: &mut dyn Listener,
    ) -> AppResult<Template> {
        let archive = passed.get(self.archive)?.try_clone_to_owned().cannot(|| "keep the archive open")?;
        let told = Told::to(listener);
        Ok(Template::from(&templates::import(lazy.app()?, archive, self.bytes, &self.name, &told)?))
    }
}

impl Perform for Delete {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        templates::delete(app, &self.name)
    }
}

impl From<&Entry> for Template {
    fn from(entry: &Entry) -> Self {
        Self {
            name: text::line(&entry.name),
            id: entry.id.to_string(),
            os: text::line(&entry.facts.os),
            arch: text::line(&entry.facts.arch),
            init: word(&entry.facts.init),
            network: word(&entry.facts.network),
            bytes: entry.bytes,
            created_at: Timestamp(entry.created_at),
            used_by: entry.used_by,
        }
    }
}

/// A unit variant's name, as it is stored.
fn word(value: &impl serde::Serialize) -> String {
    let text = serde_json::to_value(value).ok();
    text.and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}
