//! Requests about snapshots, copies, and what containers stand on.

use std::fs::File;
use std::time::Duration;

use super::door::{Listener, Perform, Told};
use super::passed::{Passed, PerformWith};
use crate::api::snapshots::{
    ArchiveDiff, Archived, Copy, Create, Delete, Details, Diff, Difference, Expire, Kind, List, Made,
    Optimize, Publish, Rebuild, Rename, Restore, Show, Snapshot,
};
use crate::api::templates::Template;
use crate::app::error::{AppError, AppResult};
use crate::app::instance::{App, Lazy};
use crate::app::network::Connect;
use crate::app::snapshots::copy::CopyRequest;
use crate::app::snapshots::differences::Written;
use crate::app::snapshots::rebuild::RebuildRequest;
use crate::app::snapshots::snapshot::SnapshotRequest;
use crate::app::snapshots::{copy, diff, differences, list, optimize, publish, rebuild, restore, snapshot};
use crate::model::name::Name;
use crate::model::snapshot::Snapshot as StoredSnapshot;
use crate::model::text;
use crate::model::time::Timestamp;
use crate::sys::Context;
use crate::sys::fs::copy::Change;

impl Perform for Create {
    type Answer = Made;

    fn perform(self, app: &mut App, listener: &mut dyn Listener) -> AppResult<Made> {
        let request = SnapshotRequest {
            container: self.container,
            name: self.name,
            comment: self.comment,
            expires_at: self.expires_at.map(|time| time.0),
            is_automatic: false,
        };
        let made = snapshot::create(app, request, &Told::to(listener))?;
        Ok(Made { name: made.name.to_string(), frozen_ms: made.frozen.map(milliseconds) })
    }
}

fn milliseconds(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

impl Perform for List {
    type Answer = Vec<Snapshot>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<Snapshot>> {
        Ok(list::list(app, &self.container)?.iter().map(|found| shown(&self.container, found)).collect())
    }
}

impl Perform for Show {
    type Answer = Details;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Details> {
        let (found, size) = list::show(app, &self.container, &self.name)?;
        Ok(Details {
            snapshot: shown(&self.container, &found),
            bytes: size.bytes,
            files: size.files,
            is_own: size.is_own,
        })
    }
}

fn shown(container: &Name, found: &StoredSnapshot) -> Snapshot {
    Snapshot {
        container: container.to_string(),
        name: found.name.to_string(),
        created_at: Timestamp(found.created_at),
        expires_at: found.expires_at.map(Timestamp),
        was_running: found.was_running,
        is_automatic: found.is_automatic,
        comment: found.comment.as_deref().map(text::line),
        template: text::line(&found.chain.template_name),
        layers: found.chain.layers.len(),
    }
}

impl Perform for Restore {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        restore::restore(app, &self.container, &self.name, self.stop.map(Into::into))
    }
}

impl Perform for Rename {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        snapshot::rename(app, &self.container, &self.name, &self.new_name)
    }
}

impl Perform for Expire {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        snapshot::expire(app, &self.container, &self.name, self.expires_at.map(|time| time.0))
    }
}

impl Perform for Delete {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        snapshot::delete(app, &self.container, &self.names)
    }
}

impl Perform for Copy {
    type Answer = Made;

    fn perform(self, app: &mut App, listener: &mut dyn Listener) -> AppResult<Made> {
        let as_source = self.networks.is_empty() && self.addresses.is_empty();
        let request = CopyRequest {
            source: self.source,
            name: self.name,
            config: self.config.0,
            connect: (!as_source).then_some(Connect { networks: self.networks, addresses: self.addresses }),
            snapshots: self.snapshots,
            refresh: self.refresh,
            pool: self.storage,
        };
        let copied = copy::copy(app, request, &Told::to(listener))?;
        Ok(Made { name: copied.name.to_string(), frozen_ms: copied.frozen.map(milliseconds) })
    }
}

impl Perform for Publish {
    type Answer = Template;

    fn perform(self, app: &mut App, listener: &mut dyn Listener) -> AppResult<Template> {
        let told = Told::to(listener);
        Ok(Template::from(&publish::publish(app, &self.source, &self.template, self.replace, &told)?))
    }
}

impl Perform for Rebuild {
    type Answer = String;

    fn perform(self, app: &mut App, listener: &mut dyn Listener) -> AppResult<String> {
        let request = RebuildRequest {
            container: self.container,
            template: self.template,
            stop: self.stop.map(Into::into),
        };
        Ok(rebuild::rebuild(app, request, &Told::to(listener))?.to_string())
    }
}

impl Perform for Optimize {
    type Answer = usize;

    fn perform(self, app: &mut App, listener: &mut dyn Listener) -> AppResult<usize> {
        optimize::optimize(app, &self.container, &Told::to(listener))
    }
}

impl Perform for Diff {
    type Answer = Vec<Difference>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<Difference>> {
        let found = diff::diff(app, &self.source, self.from.as_ref())?;
        Ok(found.into_iter().map(difference).collect())
    }
}

impl PerformWith for ArchiveDiff {
    type Answer = Archived;

    fn perform(
        self,
        mut lazy: Lazy,
        passed: &Passed<'_>,
        listener: &mut dyn Listener,
    ) -> AppResult<Archived> {
        let to = passed.get(self.archive)?.try_clone_to_owned().cannot(|| "keep the archive open")?;
        if rustix::termios::isatty(&to) {
            return Err(AppError::advised(
                "an archive is not written to a terminal",
                format!("name a file, or pass it on: nagaya diff {} --tar FILE", self.source),
            ));
        }
        let (mut to, told) = (File::from(to), Told::to(listener));
        let written = differences::write(lazy.app()?, &self.source, self.from.as_ref(), &mut to, &told)?;
        let Written { entries, bytes, left_out, named } = written;
        let named = named.iter().map(|line| text::line(line)).collect();
        Ok(Archived { entries, bytes, left_out, named })
    }
}

fn difference((path, change): (Vec<u8>, Change)) -> Difference {
    let kind = match change {
        Change::Added => Kind::Added,
        Change::Changed => Kind::Changed,
        Change::Deleted => Kind::Deleted,
    };
    Difference { kind, path: String::from_utf8_lossy(&path).into_owned() }
}
