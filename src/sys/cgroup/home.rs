//! Where the cgroups of an instance's containers are: in directories of nagaya's own, or, where
//! systemd rules the hierarchy, in scopes that systemd makes.

use std::path::{Path, PathBuf};

use crate::model::instance::Instance;
use crate::model::name::ContainerId;
use crate::sys::fs::atomic_file::{self, Lasting};
use crate::sys::{SysError, SysResult, cgroup};

/// The first word of a daemonless owner's record.
const IDS: &str = "directories";
const SCOPES: &str = "scopes";

/// Who names and makes the containers' cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Naming {
    /// nagaya itself, by their ids.
    Ids,
    /// systemd: each is a scope in the instance's slice.
    Scopes { instance: Instance },
}

/// The cgroup under which an instance's containers are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    mount: PathBuf,
    /// Below the mount, beginning with '/'.
    base: String,
    naming: Naming,
}

impl Home {
    /// # Errors
    /// On a host without the cgroup v2 hierarchy.
    pub fn find(instance: &Instance) -> SysResult<Self> {
        let mount = cgroup::mount_dir()?;
        if instance.is_daemonless() {
            return Self::recorded(instance, mount);
        }
        let by_systemd = is_systemds(&mount);
        Ok(Self::at(instance, mount, by_systemd))
    }

    fn at(instance: &Instance, mount: PathBuf, by_systemd: bool) -> Self {
        let (base, naming) = if by_systemd {
            (slice_path(&instance.slice_unit()), Naming::Scopes { instance: instance.clone() })
        } else {
            (format!("/{}", instance.cgroup()), Naming::Ids)
        };
        Self { mount, base, naming }
    }

    /// A daemonless owner's containers are below the cgroup from which the first of them was started; later
    /// commands know it only from a record.
    fn recorded(instance: &Instance, mount: PathBuf) -> SysResult<Self> {
        let text = std::fs::read_to_string(Self::record(instance)).unwrap_or_default();
        let found = match text.trim_end().split_once(' ') {
            Some((IDS, base)) if base.starts_with('/') => Some((base, Naming::Ids)),
            Some((SCOPES, base)) if base.starts_with('/') => {
                Some((base, Naming::Scopes { instance: instance.clone() }))
            }
            _ => None,
        };
        let (base, naming) = found.ok_or_else(|| {
            SysError::new("find a cgroup of your own", std::io::Error::other("none has been chosen yet"))
        })?;
        Ok(Self { mount, base: base.to_owned(), naming })
    }

    fn record(instance: &Instance) -> PathBuf {
        instance.run_dir().join("cgroup")
    }

    /// Chooses `base` (as /proc/PID/cgroup has it) for a daemonless owner's containers: directories below
    /// it, or, `by_systemd`, scopes of the user's systemd.
    pub fn choose(instance: &Instance, base: &str, by_systemd: bool) -> SysResult<Self> {
        let text = format!("{} {base}\n", if by_systemd { SCOPES } else { IDS });
        atomic_file::replace(&Self::record(instance), text, 0o600, Lasting::UntilPowerCut)?;
        Self::recorded(instance, cgroup::mount_dir()?)
    }

    /// Whether systemd makes the containers' cgroups.
    pub fn is_by_systemd(&self) -> bool {
        matches!(self.naming, Naming::Scopes { .. })
    }

    /// The cgroup that the containers' cgroups are below, as /proc/PID/cgroup has it.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The scope that systemd is to make for a container; none where the directory is nagaya's.
    pub fn scope(&self, id: &ContainerId) -> Option<String> {
        match &self.naming {
            Naming::Scopes { instance } => Some(instance.scope_unit(id)),
            Naming::Ids => None,
        }
    }

    /// A container's cgroup as /proc/PID/cgroup has it.
    pub fn path(&self, id: &ContainerId) -> String {
        let name = self.scope(id).unwrap_or_else(|| id.to_string());
        format!("{}/{name}", self.base)
    }

    /// A container's directory, which need not exist.
    pub fn container_dir(&self, id: &ContainerId) -> PathBuf {
        self.mount.join(self.path(id).trim_start_matches('/'))
    }

    /// Every container that has a cgroup.
    pub fn containers(&self) -> Vec<ContainerId> {
        let entries = std::fs::read_dir(self.owner_dir()).into_iter().flatten().flatten();
        entries.filter_map(|entry| self.id_of(entry.file_name().to_str()?)).collect()
    }

    fn id_of(&self, dir: &str) -> Option<ContainerId> {
        let stem = dir.strip_suffix(".scope").unwrap_or(dir);
        let id = ContainerId::new(stem.rsplit('-').next()?).ok()?;
        let name = self.scope(&id).unwrap_or_else(|| id.to_string());
        (name == dir).then_some(id)
    }

    /// The systemd slice that holds all of this owner's containers; none where the directory is
    /// nagaya's.
    pub fn slice(&self) -> Option<String> {
        match &self.naming {
            Naming::Scopes { instance } => Some(instance.slice_unit()),
            Naming::Ids => None,
        }
    }

    /// The directory that holds all of this owner's containers.
    pub fn owner_dir(&self) -> PathBuf {
        self.mount.join(self.base.trim_start_matches('/'))
    }

    /// Removes the directory of an instance that has no container any more; systemd's slices are
    /// systemd's to remove.
    pub fn remove(&self) -> SysResult<()> {
        match self.naming {
            Naming::Ids => cgroup::remove(&self.owner_dir()),
            Naming::Scopes { .. } => Ok(()),
        }
    }
}

/// Whether systemd is this host's init (sd_booted(3)) and has the hierarchy at `mount`.
fn is_systemds(mount: &Path) -> bool {
    Path::new("/run/systemd/system").is_dir() && mount.join("init.scope").is_dir()
}

/// Where a slice's cgroup is: `a-b.slice` is a part of `a.slice` (systemd.slice(5)).
fn slice_path(unit: &str) -> String {
    let stem = unit.strip_suffix(".slice").unwrap_or(unit);
    let dashes = stem.match_indices('-').map(|(at, _)| at);
    let parts = dashes.chain([stem.len()]).map(|end| format!("/{}.slice", &stem[..end]));
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> ContainerId {
        ContainerId::from_random(0xab)
    }

    #[test]
    fn directories_of_our_own() {
        let mount = || PathBuf::from("/sys/fs/cgroup");
        let home = Home::at(&Instance::default(), mount(), false);
        assert_eq!(home.container_dir(&id()), mount().join("nagaya/000000ab"));
        assert_eq!(home.path(&id()), "/nagaya/000000ab");
        assert_eq!(home.scope(&id()), None);
        assert_eq!(home.id_of("000000ab"), Some(id()));
        let user = Home::at(&Instance::default().of_user(1000, "ann"), mount(), false);
        assert_eq!(user.path(&id()), "/nagaya/u1000/000000ab");
        assert_eq!(home.id_of("u1000"), None);
    }

    #[test]
    fn scopes_in_systemds_slices() {
        let mount = || PathBuf::from("/sys/fs/cgroup");
        let home = Home::at(&Instance::default(), mount(), true);
        assert_eq!(home.path(&id()), "/nagaya.slice/nagaya-000000ab.scope");
        assert_eq!(home.scope(&id()).unwrap(), "nagaya-000000ab.scope");
        assert_eq!(home.id_of("nagaya-000000ab.scope"), Some(id()));
        // An ordinary user's slice, and a scope that is not a container's.
        assert_eq!(home.id_of("nagaya-u1000.slice"), None);
        assert_eq!(home.id_of("other-000000ab.scope"), None);
        let user = Home::at(&Instance::default().of_user(1000, "ann"), mount(), true);
        assert_eq!(user.path(&id()), "/nagaya.slice/nagaya-u1000.slice/nagaya-u1000-000000ab.scope");
        let dashed = Home::at(&Instance::new("a-b").unwrap(), mount(), true);
        assert_eq!(dashed.path(&id()), "/a.slice/a-b.slice/a-b-000000ab.scope");
    }
}
