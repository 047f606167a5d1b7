//! The keys of a `disk` device and what they mean.

use serde::{Deserialize, Serialize};

use super::place::{GUEST_PATH, is_clean_path};
use crate::model::config::value::{boolean, size, size_text};
use crate::model::keys::{Absent, BOOL, Key, KeyError, Kind, Live, Subject, Table, Words};
use crate::model::label::is_label;
use crate::model::pool::PoolName;

/// What is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskSource<'a> {
    /// A directory of the host's.
    Directory(&'a str),
    /// A volume of a pool.
    Volume(&'a PoolName, &'a str),
    /// Memory: empty at each start.
    Tmpfs,
    /// What the container has of its own in the pool.
    Root,
}

/// A directory of the host's, a volume, or an empty directory in memory, in a guest; or how much the guest's own root may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// As its key says; empty for the root.
    #[serde(default)]
    pub source: String,
    /// The pool whose volume the source is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolName>,
    /// Where it is in the guest.
    pub path: String,
    #[serde(default)]
    pub readonly: bool,
    /// The guest's root owns what the source's owner owns.
    #[serde(default = "yes")]
    pub shift: bool,
    /// Without its source the container does not start.
    #[serde(default = "yes")]
    pub required: bool,
    /// Of a tmpfs, in bytes; None: the kernel's own bound, half of the host's memory. Of the root: what it may take of
    /// the disk; None: no bound.
    #[serde(default)]
    pub size: Option<u64>,
    /// Of the root: how many files it may have; None: no bound.
    #[serde(default)]
    pub inodes: Option<u64>,
}

fn yes() -> bool {
    true
}

/// How a key is set, by a value of its kind, and read; None where it has the default.
#[derive(Clone, Copy)]
pub struct Field {
    set: fn(&mut Disk, &str) -> Option<()>,
    get: fn(&Disk) -> Option<String>,
}

impl Subject for Disk {
    type Draft = Self;
    type Sets = Field;
    const EMPTY_RESETS: bool = false;

    fn put(key: &Key<Self>, disk: &mut Self, name: &str, value: &str) -> Result<(), KeyError> {
        (key.sets.set)(disk, value).ok_or_else(|| KeyError::wrong(name, value, key.kind.rule))
    }
}

impl Disk {
    /// From its keys.
    ///
    /// # Errors
    /// The key that cannot be so, and what it must be.
    pub fn of<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, KeyError> {
        let (source, path) = (String::new(), String::new());
        let (readonly, shift, required) = (false, true, true);
        let mut disk = Self { source, pool: None, path, readonly, shift, required, size: None, inodes: None };
        for (key, value) in pairs {
            DISK_KEYS.set(&mut disk, key, value)?;
        }
        disk.check().map_err(|e| e.listed_by(DISK_KEYS.listed_by))?;
        Ok(disk)
    }

    /// The rules that the fields' types do not enforce.
    pub fn check(&self) -> Result<(), KeyError> {
        if self.path == ROOT {
            return self.check_root();
        }
        if self.inodes.is_some() {
            return Err(KeyError::not_for("inodes", "a disk with path=/"));
        }
        if self.source.is_empty() {
            return Err(KeyError::needs("a disk", "source=DIRECTORY"));
        }
        match &self.pool {
            Some(_) if !is_label(&self.source) => {
                return Err(KeyError::wrong("source", &self.source, "with pool, the name of a volume"));
            }
            Some(_) if !self.shift => return Err(KeyError::not_for("shift", "a disk without pool")),
            None if !is_source(&self.source) => {
                return Err(KeyError::wrong("source", &self.source, SOURCE.rule));
            }
            _ => {}
        }
        if self.size.is_some() && self.source() != DiskSource::Tmpfs {
            return Err(KeyError::not_for("size", "a disk with source=tmpfs: or path=/"));
        }
        match self.path.as_str() {
            "" => Err(KeyError::needs("a disk", "path=PATH, its place in the guest")),
            path if !(GUEST_PATH.check)(path) => Err(KeyError::wrong("path", path, PATH.rule)),
            _ => Ok(()),
        }
    }

    fn check_root(&self) -> Result<(), KeyError> {
        for (key, is_default) in [
            ("source", self.source.is_empty()),
            ("pool", self.pool.is_none()),
            ("readonly", !self.readonly),
            ("shift", self.shift),
            ("required", self.required),
        ] {
            if !is_default {
                return Err(KeyError::not_for(key, "a disk with another path than /"));
            }
        }
        Ok(())
    }

    pub fn source(&self) -> DiskSource<'_> {
        match self.source.as_str() {
            _ if self.path == ROOT => DiskSource::Root,
            volume if let Some(pool) = &self.pool => DiskSource::Volume(pool, volume),
            TMPFS => DiskSource::Tmpfs,
            path => DiskSource::Directory(path),
        }
    }

    /// The directory of the host's that it is, if it is one.
    pub fn directory(&self) -> Option<&str> {
        match self.source() {
            DiskSource::Directory(path) => Some(path),
            DiskSource::Tmpfs | DiskSource::Volume(..) | DiskSource::Root => None,
        }
    }

    pub fn config(&self) -> impl Iterator<Item = (&'static str, String)> {
        DISK_KEYS.keys.iter().filter_map(|key| Some((key.name, (key.sets.get)(self)?)))
    }
}

fn is_source(text: &str) -> bool {
    text == TMPFS || text == "/" || is_clean_path(text)
}

const TMPFS: &str = "tmpfs:";
/// The guest's root.
const ROOT: &str = "/";

const SOURCE: Kind = Kind {
    name: "path",
    words: Words::NONE,
    rule: "the absolute path of a directory of the host's, without '.' and '..', or tmpfs:; with pool=POOL, a volume's \
           name",
    check: |text| is_source(without_slash(text)) || is_label(text),
};

const PATH: Kind = Kind {
    rule: "an absolute path in the guest, without '.' and '..', and neither in /proc or /sys nor /dev itself",
    check: |text| text == ROOT || (GUEST_PATH.check)(without_slash(text)),
    ..GUEST_PATH
};

const POOL: Kind = Kind {
    name: "name",
    words: Words::NONE,
    rule: "the name of a storage pool",
    check: |text| is_label(text),
};

pub const INODES: Kind = Kind {
    name: "integer",
    words: Words::NONE,
    rule: "a number of files of at least 16",
    check: |text| inodes(text).is_some(),
};

/// A number of files that a guest may have at most.
pub fn inodes(text: &str) -> Option<u64> {
    text.parse().ok().filter(|n| (16..=i64::MAX as u64).contains(n))
}

pub const SIZE: Kind = Kind {
    name: "size",
    words: Words::NONE,
    rule: "a number of bytes of at least 4KiB, such as 64MiB",
    check: |text| quota_size(text).is_some(),
};

/// A number of bytes that a guest may have at most.
pub fn quota_size(text: &str) -> Option<u64> {
    size(text).filter(|bytes| *bytes >= 4096)
}

/// As shells complete directories.
fn without_slash(path: &str) -> &str {
    path.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(path)
}

pub const DISK_KEYS: Table<Disk> =
    Table { what: "disk", listed_by: "nagaya device keys disk", keys: KEYS, absent: ABSENT };

/// Names are LXD's.
const KEYS: &[Key<Disk>] = &[
    Key::new(
        "source",
        SOURCE,
        "",
        Live::NextStart,
        "The host's directory, a volume of 'pool', or tmpfs: for memory",
        Field {
            set: |disk, text| {
                without_slash(text).clone_into(&mut disk.source);
                Some(())
            },
            get: |disk| (!disk.source.is_empty()).then(|| disk.source.clone()),
        },
    ),
    Key::new(
        "pool",
        POOL,
        "",
        Live::NextStart,
        "The storage pool whose volume the source is",
        Field {
            set: |disk, text| {
                disk.pool = Some(PoolName::new(text).ok()?);
                Some(())
            },
            get: |disk| disk.pool.as_ref().map(PoolName::to_string),
        },
    ),
    Key::new(
        "path",
        PATH,
        "",
        Live::NextStart,
        "Where it is in the guest, made if it is missing; / is the guest's root",
        Field {
            set: |disk, text| {
                without_slash(text).clone_into(&mut disk.path);
                Some(())
            },
            get: |disk| Some(disk.path.clone()),
        },
    ),
    Key::new(
        "readonly",
        BOOL,
        "false",
        Live::NextStart,
        "Whether the guest may only read it",
        Field {
            set: |disk, text| flag(&mut disk.readonly, text),
            get: |disk| disk.readonly.then(|| "true".to_owned()),
        },
    ),
    Key::new(
        "shift",
        BOOL,
        "true",
        Live::NextStart,
        "Whether what the directory's owner owns is the guest's root's",
        Field {
            set: |disk, text| flag(&mut disk.shift, text),
            get: |disk| (!disk.shift).then(|| "false".to_owned()),
        },
    )
    .differs("default false"),
    Key::new(
        "required",
        BOOL,
        "true",
        Live::NextStart,
        "Whether the container starts only if the directory is there",
        Field {
            set: |disk, text| flag(&mut disk.required, text),
            get: |disk| (!disk.required).then(|| "false".to_owned()),
        },
    ),
    Key::new(
        "size",
        SIZE,
        "",
        Live::NextStart,
        "Bytes at most, of a tmpfs [default: half of the memory], of the disk for path=/",
        Field {
            set: |disk, text| {
                disk.size = Some(size(text)?);
                Some(())
            },
            get: |disk| disk.size.map(|bytes| size_text(bytes).replace(' ', "")),
        },
    ),
    Key::new(
        "inodes",
        INODES,
        "",
        Live::Now,
        "path=/: how many files, directories and links the guest may have",
        Field {
            set: |disk, text| {
                disk.inodes = Some(inodes(text)?);
                Some(())
            },
            get: |disk| disk.inodes.map(|n| n.to_string()),
        },
    )
    .ours(),
];

/// Keys that LXD's disks have, and what to use instead.
const ABSENT: &[Absent] = &[
    Absent::instead("attached", "nagaya device remove takes it away"),
    Absent::key("boot.priority"),
    Absent::key("ceph.*"),
    Absent::key("dependent"),
    Absent::key("initial.*"),
    Absent::key("io.*"),
    Absent::instead(
        "limits.max*",
        "limits of a container's disk traffic: nagaya config set NAME limits.read=10MB",
    ),
    Absent::instead(
        "limits.read*",
        "limits of a container's disk traffic: nagaya config set NAME limits.read=10MB",
    ),
    Absent::instead(
        "limits.write*",
        "limits of a container's disk traffic: nagaya config set NAME limits.write=10MB",
    ),
    Absent::instead("propagation", "what the host mounts below the source later is not seen in guests"),
    Absent::key("raw.mount.options"),
    Absent::instead("recursive", "what is mounted below the source is always part of it"),
    Absent::key("size.state"),
];

fn flag(field: &mut bool, text: &str) -> Option<()> {
    *field = boolean(text)?;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Disk, String> {
        Disk::of(pairs.iter().copied()).map_err(|e| e.to_string())
    }

    #[test]
    fn keys_are_read_back() {
        let all = [("source", "/srv/data"), ("path", "/mnt/data"), ("readonly", "true"), ("shift", "false")];
        let disk = of(&all).unwrap();
        assert!(disk.readonly && !disk.shift && disk.required);
        let back: Vec<_> = disk.config().collect();
        assert_eq!(back, all.map(|(key, value)| (key, value.to_owned())));
        let memory = of(&[("source", "tmpfs:"), ("path", "/cache/"), ("size", "64MiB")]).unwrap();
        assert_eq!((memory.directory(), memory.size, memory.path.as_str()), (None, Some(64 << 20), "/cache"));
        let back: Vec<_> = memory.config().collect();
        assert_eq!(back[2], ("size", "64MiB".to_owned()));
        assert_eq!(Disk::of(back.iter().map(|(key, value)| (*key, value.as_str()))).unwrap(), memory);
        let volume = of(&[("source", "mail"), ("pool", "fast"), ("path", "/srv")]).unwrap();
        let fast = PoolName::new("fast").unwrap();
        assert_eq!((volume.source(), volume.directory()), (DiskSource::Volume(&fast, "mail"), None));
        let root = of(&[("path", "/"), ("size", "10GiB"), ("inodes", "100000")]).unwrap();
        assert_eq!((root.source(), root.directory()), (DiskSource::Root, None));
        let back: Vec<_> = root.config().collect();
        assert_eq!(back.iter().map(|(key, _)| *key).collect::<Vec<_>>(), ["path", "size", "inodes"]);
    }

    #[test]
    fn what_cannot_be_is_told() {
        for (pairs, said) in [
            (&[("path", "/a")][..], "a disk needs source"),
            (&[("source", "/a")], "a disk needs path"),
            (&[("source", "a"), ("path", "/a")], "source cannot be 'a'"),
            (&[("source", "/a/../b"), ("path", "/a")], "source cannot be"),
            (&[("source", "/a"), ("path", "/proc/1")], "path cannot be"),
            (
                &[("source", "/a"), ("path", "/b"), ("size", "1GiB")],
                "size is only for a disk with source=tmpfs: or path=/",
            ),
            (&[("source", "/a"), ("path", "/")], "source is only for a disk with another path"),
            (&[("path", "/"), ("readonly", "true")], "readonly is only for"),
            (&[("path", "/"), ("inodes", "3")], "inodes cannot be"),
            (&[("source", "/a"), ("path", "/b"), ("inodes", "100")], "inodes is only for"),
            (&[("source", "/a"), ("path", "/b"), ("pool", "x")], "source cannot be '/a'"),
            (&[("source", "a"), ("path", "/b"), ("pool", "x"), ("shift", "false")], "shift is only for"),
            (&[("source", "a"), ("path", "/b"), ("pool", "x/y")], "pool cannot be"),
            (&[("path", "/"), ("pool", "x")], "pool is only for"),
            (&[("sorce", "/a")], "no disk key 'sorce'"),
        ] {
            let err = of(pairs).unwrap_err();
            assert!(err.contains(said), "{err}");
        }
    }
}
