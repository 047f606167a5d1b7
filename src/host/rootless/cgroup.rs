//! Where a daemonless owner's containers have their cgroups: below the user's own systemd, or below the
//! cgroup that the command is in.

use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::host::services::scope;
use crate::host::services::systemd::Systemd;
use crate::model::instance::Instance;
use crate::sys::cgroup::home::Home;
use crate::sys::{SysError, SysResult, cgroup, error_text};

/// The cgroup to which the processes of the containers' parent cgroup are moved: a cgroup with processes of
/// its own cannot pass controllers on to those below it.
const LEAF: &str = "nagaya-commands";

/// There is no cgroup that the user may write.
#[derive(Debug, thiserror::Error)]
#[error("no cgroup may be written by user '{user}': {why}. Two ways lead out: {remedy}")]
pub struct NoCgroup {
    user: String,
    why: String,
    remedy: String,
}

impl NoCgroup {
    fn new(instance: &Instance, why: impl Into<String>) -> Self {
        let user = instance.user();
        let own = if Path::new("/run/systemd/system").is_dir() {
            format!(
                "have a systemd of your own ('loginctl enable-linger {user}', then log in anew) or start from \
                 'systemd-run --user --scope -p Delegate=yes bash'"
            )
        } else {
            format!(
                "have root give you a cgroup: 'cd DIR; chown {user}: . cgroup.procs cgroup.subtree_control \
                 cgroup.threads; echo PID >cgroup.procs', where DIR is a new one below the cgroup v2 mount and \
                 PID your shell's"
            )
        };
        let remedy = format!("install nagaya-hostd; or {own}");
        Self { user: user.to_owned(), why: why.into(), remedy }
    }

    pub fn why(&self) -> &str {
        &self.why
    }

    pub fn remedy(&self) -> &str {
        &self.remedy
    }
}

/// Where containers can have their cgroups.
enum Place {
    /// Chosen before.
    Chosen(Home),
    /// Scopes below this cgroup, made by the user's systemd.
    Scopes(String),
    /// Directories below this cgroup, in which the command is.
    Here(String),
}

/// Makes sure that containers can be started from here. A choice once made stays as long as it can be used,
/// or containers run there.
pub fn ensure(instance: &Instance) -> Result<Home, NoCgroup> {
    let failed = |e: SysError| NoCgroup::new(instance, error_text(&e));
    match find(instance)? {
        Place::Chosen(home) => Ok(home),
        Place::Scopes(base) => Home::choose(instance, &base, true).map_err(failed),
        Place::Here(here) => {
            let mount = cgroup::mount_dir().map_err(failed)?;
            vacate(&directory(&mount, &here)).map_err(failed)?;
            let base = format!("{}/{}", here.trim_end_matches('/'), instance.name());
            Home::choose(instance, &base, false).map_err(failed)
        }
    }
}

/// The same without choosing anything: describes what would be chosen.
pub fn look(instance: &Instance) -> Result<String, NoCgroup> {
    Ok(match find(instance)? {
        Place::Chosen(home) => format!("{}, as chosen before", home.base()),
        Place::Scopes(base) => format!("{base}, by your own systemd"),
        Place::Here(here) => format!("{here}, where this command stands"),
    })
}

fn find(instance: &Instance) -> Result<Place, NoCgroup> {
    let no_way = |why: String| NoCgroup::new(instance, why);
    let mount = cgroup::mount_dir().map_err(|e| no_way(error_text(&e)))?;
    let here = own_cgroup();
    if let Ok(home) = Home::find(instance) {
        let running = home.containers().iter().any(|id| cgroup::populated(&home.container_dir(id)));
        if running || is_usable(instance, &home, &mount, here.as_deref()) {
            return Ok(Place::Chosen(home));
        }
    }
    match by_systemd(instance) {
        Ok(Some(base)) => return Ok(Place::Scopes(base)),
        Ok(None) => {}
        Err(e) => tracing::warn!("{e}"),
    }
    let here = here.ok_or_else(|| no_way("this process is in none of version 2".to_owned()))?;
    let dir = directory(&mount, &here);
    if is_writable(&dir) {
        Ok(Place::Here(here))
    } else {
        Err(no_way(format!("{} is not theirs", dir.display())))
    }
}

/// Whether a new container can be started in `home` from the cgroup that this command is in.
fn is_usable(instance: &Instance, home: &Home, mount: &Path, here: Option<&str>) -> bool {
    if home.is_by_systemd() {
        return scope::own_bus(instance).is_some();
    }
    let parent = home.base().rsplit_once('/').map_or("", |(parent, _)| parent);
    // A process may go from one cgroup to another where both are below one that its user may write.
    let below = here.is_some_and(|here| here == parent || here.starts_with(&format!("{parent}/")));
    below && is_writable(&directory(mount, parent))
}

fn directory(mount: &Path, path: &str) -> PathBuf {
    mount.join(path.trim_start_matches('/'))
}

/// This process's cgroup, as /proc has it, without a leaf that [`vacate`] has made.
fn own_cgroup() -> Option<String> {
    let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(path.strip_suffix(&format!("/{LEAF}")).unwrap_or(path).to_owned())
}

fn is_writable(dir: &Path) -> bool {
    let may = |path: PathBuf| rustix::fs::access(path, Access::WRITE_OK).is_ok();
    may(dir.to_owned()) && may(dir.join("cgroup.procs"))
}

/// The slice in the user's systemd; none where there is no such systemd.
fn by_systemd(instance: &Instance) -> Result<Option<String>, String> {
    let Some(bus) = scope::own_bus(instance) else { return Ok(None) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| e.to_string())?;
    let asked = runtime.block_on(async { Systemd::connect(&bus).await?.control_group().await });
    let root = asked.map_err(|e| format!("your systemd does not answer: {}", error_text(&e)))?;
    Ok(Some(format!("{}/{}", root.trim_end_matches('/'), instance.slice_unit())))
}

/// If `dir` has controllers to pass on, moves its processes to a leaf.
fn vacate(dir: &Path) -> SysResult<()> {
    let controllers = std::fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    if controllers.trim().is_empty() {
        return Ok(());
    }
    cgroup::move_to_leaf(dir, LEAF)
}
