//! What running a program asks of the database, in a file for each container that runs, by its name: with it, the
//! database need not be opened.
//!
//! The file is a copy. It is written once a start is recorded, and removed before the database says anything else.
//! It counts as long as the manifest is the one beside which it was written: also a version of nagaya that knows
//! nothing of the file writes a new manifest after each change. Where there is no such file, the database is asked,
//! and it alone says why nothing can be run.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::app::instance::{App, layout};
use crate::model::container::Container;
use crate::model::instance::Instance;
use crate::model::name::{ContainerId, Name};
use crate::sys::cgroup::home::Home;
use crate::sys::fs::atomic_file::{self, Lasting};
use crate::sys::{cgroup, error_text};

/// Longest file, in bytes.
const MOST: u64 = 1 << 20;

/// A container that a program can be run in.
pub struct Known {
    pub id: ContainerId,
    pub name: Name,
    /// Variables of each program.
    pub environment: Vec<(String, String)>,
    /// The guest's cgroup.
    pub payload: Option<PathBuf>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    id: ContainerId,
    environment: Vec<(String, String)>,
    manifest: Stamp,
}

/// Changes with every new manifest.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp(u64, u64, i64, i64);

impl Stamp {
    fn now(instance: &Instance, id: &ContainerId) -> std::io::Result<Self> {
        let stat = std::fs::metadata(layout::manifest(instance, id))?;
        Ok(Self(stat.ino(), stat.len(), stat.mtime(), stat.mtime_nsec()))
    }
}

impl Known {
    /// As the database says.
    pub fn of(app: &App, container: &Container) -> Self {
        Self {
            id: container.id.clone(),
            name: container.name.clone(),
            environment: environment(container),
            payload: app.home.as_ref().map(|home| home.container_dir(&container.id).join("payload")),
        }
    }

    /// As the file says, if there is one that counts; and as the kernel says, that the container runs.
    pub fn look(instance: &Instance, name: &Name) -> Option<Self> {
        let mut text = Vec::new();
        let file = std::fs::File::open(layout::running(instance, name)).ok()?;
        file.take(MOST).read_to_end(&mut text).ok()?;
        let Record { id, environment, manifest } = serde_json::from_slice(&text).ok()?;
        if Stamp::now(instance, &id).ok()? != manifest {
            return None;
        }
        let payload = Home::find(instance).ok()?.container_dir(&id).join("payload");
        let events = cgroup::events(&payload).ok().flatten()?;
        let runs = events.populated && !events.frozen;
        runs.then(|| Self { id, name: name.clone(), environment, payload: Some(payload) })
    }
}

fn environment(container: &Container) -> Vec<(String, String)> {
    let variables = container.config.expanded().environment();
    variables.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Writes the file. The caller holds the container's lock, under which it has read the container, and has written
/// the manifest.
pub fn keep(app: &App, container: &Container) {
    let path = layout::running(&app.instance, &container.name);
    let write = || -> Result<(), String> {
        let manifest = Stamp::now(&app.instance, &container.id).map_err(|e| e.to_string())?;
        let record = Record { id: container.id.clone(), environment: environment(container), manifest };
        let text = serde_json::to_vec(&record).map_err(|e| e.to_string())?;
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(|e| e.to_string())?;
        }
        atomic_file::replace(&path, text, 0o600, Lasting::UntilPowerCut).map_err(|e| error_text(&e))
    };
    if let Err(e) = write() {
        // The one before would not count either.
        tracing::warn!("programs of '{}' are run by way of the database: {e}", container.name);
    }
}

/// Writes the file anew, if there is one. For whoever has written a new manifest.
pub fn renew(app: &App, container: &Container) {
    if layout::running(&app.instance, &container.name).exists() {
        keep(app, container);
    }
}

/// Removes the file, before anything changes of what it says. Returns whether there was one.
pub fn forget(instance: &Instance, name: &Name) -> bool {
    std::fs::remove_file(layout::running(instance, name)).is_ok()
}

/// Removes all of them.
pub fn forget_all(instance: &Instance) {
    let _ = std::fs::remove_dir_all(layout::all_running(instance));
}
