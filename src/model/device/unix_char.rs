//! The keys of a `unix-char` device and what they mean.

use serde::{Deserialize, Serialize};

use super::place::GUEST_PATH;
use crate::model::config::value::boolean;
use crate::model::ids::IDS_PER_RANGE;
use crate::model::keys::{Absent, BOOL, Key, KeyError, Kind, Live, Subject, Table, Words, number};
use crate::model::monitor::NODES;

/// A device node of the host's in a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnixChar {
    /// Its path on the host, of one of [`NODES`].
    pub source: String,
    /// Where it is in the guest.
    pub path: String,
    #[serde(default = "usual_mode")]
    pub mode: u32,
    /// In the guest.
    #[serde(default)]
    pub uid: u32,
    #[serde(default)]
    pub gid: u32,
    /// Without the host's node the container does not start.
    #[serde(default = "yes")]
    pub required: bool,
}

fn usual_mode() -> u32 {
    0o660
}

fn yes() -> bool {
    true
}

/// How a key is set, by a value of its kind, and read; None where it has the default.
#[derive(Clone, Copy)]
pub struct Field {
    set: fn(&mut UnixChar, &str) -> Option<()>,
    get: fn(&UnixChar) -> Option<String>,
}

impl Subject for UnixChar {
    type Draft = Self;
    type Sets = Field;
    const EMPTY_RESETS: bool = false;

    fn put(key: &Key<Self>, node: &mut Self, name: &str, value: &str) -> Result<(), KeyError> {
        (key.sets.set)(node, value).ok_or_else(|| KeyError::wrong(name, value, key.kind.rule))
    }
}

impl UnixChar {
    /// From its keys.
    ///
    /// # Errors
    /// The key that cannot be so, and what it must be.
    pub fn of<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, KeyError> {
        let (source, path) = (String::new(), String::new());
        let mut node = Self { source, path, mode: usual_mode(), uid: 0, gid: 0, required: true };
        for (key, value) in pairs {
            UNIX_CHAR_KEYS.set(&mut node, key, value)?;
        }
        let (source, path) = (&mut node.source, &mut node.path);
        match (source.is_empty(), path.is_empty()) {
            (true, false) => source.clone_from(path),
            (false, true) => path.clone_from(source),
            _ => {}
        }
        node.check().map_err(|e| e.listed_by(UNIX_CHAR_KEYS.listed_by))?;
        Ok(node)
    }

    /// The rules that the fields' types do not enforce.
    pub fn check(&self) -> Result<(), KeyError> {
        match self.source.as_str() {
            "" => return Err(KeyError::needs("a unix-char", "source, such as source=/dev/kvm")),
            source if !is_source(source) => return Err(KeyError::wrong("source", source, SOURCE.rule)),
            _ => {}
        }
        if !is_in_dev(&self.path) {
            return Err(KeyError::wrong("path", &self.path, PATH.rule));
        }
        for (key, id) in [("uid", self.uid), ("gid", self.gid)] {
            if id >= IDS_PER_RANGE {
                return Err(KeyError::wrong(key, &id.to_string(), ID.rule));
            }
        }
        match self.mode <= 0o777 {
            true => Ok(()),
            false => Err(KeyError::wrong("mode", &format!("{:o}", self.mode), MODE.rule)),
        }
    }

    pub fn config(&self) -> impl Iterator<Item = (&'static str, String)> {
        UNIX_CHAR_KEYS.keys.iter().filter_map(|key| Some((key.name, (key.sets.get)(self)?)))
    }
}

fn is_source(path: &str) -> bool {
    NODES.iter().any(|node| node.path == path)
}

/// The guest's /dev is made anew at each boot: elsewhere a file would stay behind.
fn is_in_dev(path: &str) -> bool {
    (GUEST_PATH.check)(path) && path.starts_with("/dev/")
}

const SOURCE: Kind = Kind {
    name: "path",
    words: Words::These(&["/dev/fuse", "/dev/kvm", "/dev/net/tun"]),
    rule: "/dev/fuse, /dev/kvm or /dev/net/tun: what guests could do to the host with others is not known",
    check: is_source,
};

const PATH: Kind = Kind {
    name: "path",
    words: Words::NONE,
    rule: "an absolute path below /dev, without '.' and '..'",
    check: is_in_dev,
};

const MODE: Kind = Kind {
    name: "mode",
    words: Words::NONE,
    rule: "an octal number from 0 to 0777",
    check: |text| mode(text).is_some(),
};

const ID: Kind = number!(0, 65_535);

fn mode(text: &str) -> Option<u32> {
    let is_octal = (1..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o777)
}

pub const UNIX_CHAR_KEYS: Table<UnixChar> =
    Table { what: "unix-char", listed_by: "nagaya device keys unix-char", keys: KEYS, absent: ABSENT };

/// Names are LXD's.
const KEYS: &[Key<UnixChar>] = &[
    Key::new(
        "source",
        SOURCE,
        "",
        Live::NextStart,
        "The host's node [default: path]",
        Field {
            set: |node, text| {
                text.clone_into(&mut node.source);
                Some(())
            },
            get: |node| Some(node.source.clone()),
        },
    ),
    Key::new(
        "path",
        PATH,
        "",
        Live::NextStart,
        "Where it is in the guest [default: source]",
        Field {
            set: |node, text| {
                text.clone_into(&mut node.path);
                Some(())
            },
            get: |node| Some(node.path.clone()).filter(|path| *path != node.source),
        },
    ),
    Key::new(
        "mode",
        MODE,
        "0660",
        Live::NextStart,
        "Its permissions in the guest",
        Field {
            set: |node, text| {
                node.mode = mode(text)?;
                Some(())
            },
            get: |node| Some(format!("0{:o}", node.mode)).filter(|_| node.mode != usual_mode()),
        },
    ),
    Key::new(
        "uid",
        ID,
        "0",
        Live::NextStart,
        "Its owner in the guest",
        Field {
            set: |node, text| {
                node.uid = text.parse().ok()?;
                Some(())
            },
            get: |node| Some(node.uid.to_string()).filter(|_| node.uid != 0),
        },
    ),
    Key::new(
        "gid",
        ID,
        "0",
        Live::NextStart,
        "Its group in the guest",
        Field {
            set: |node, text| {
                node.gid = text.parse().ok()?;
                Some(())
            },
            get: |node| Some(node.gid.to_string()).filter(|_| node.gid != 0),
        },
    ),
    Key::new(
        "required",
        BOOL,
        "true",
        Live::NextStart,
        "Whether the container starts only if the host has the node",
        Field {
            set: |node, text| {
                node.required = boolean(text)?;
                Some(())
            },
            get: |node| (!node.required).then(|| "false".to_owned()),
        },
    ),
];

/// Keys that LXD's nodes have, and what to use instead.
const ABSENT: &[Absent] = &[
    Absent::instead(
        "limits.*",
        "limits of a container's disk traffic: nagaya config set NAME limits.read=10MB",
    ),
    Absent::instead("major", "source=PATH says which node it is"),
    Absent::instead("minor", "source=PATH says which node it is"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<UnixChar, String> {
        UnixChar::of(pairs.iter().copied()).map_err(|e| e.to_string())
    }

    #[test]
    fn one_of_source_and_path_is_enough() {
        let kvm = of(&[("source", "/dev/kvm")]).unwrap();
        assert_eq!((kvm.path.as_str(), kvm.mode), ("/dev/kvm", 0o660));
        assert_eq!(of(&[("path", "/dev/kvm")]).unwrap(), kvm);
        assert_eq!(kvm.config().collect::<Vec<_>>(), [("source", "/dev/kvm".to_owned())]);
        let all =
            [("source", "/dev/kvm"), ("path", "/dev/vm"), ("mode", "0600"), ("uid", "1000"), ("gid", "104")];
        let back: Vec<_> = of(&all).unwrap().config().collect();
        assert_eq!(back, all.map(|(key, value)| (key, value.to_owned())));
    }

    #[test]
    fn no_other_node_can_be_had() {
        for pairs in [
            &[("source", "/dev/mem")][..],
            &[("source", "/dev/../dev/kvm")],
            &[("source", "/dev/sda"), ("path", "/dev/kvm")],
            &[("source", "/dev/kvm"), ("path", "/etc/kvm")],
            &[("source", "/dev/kvm"), ("mode", "4755")],
            &[("source", "/dev/kvm"), ("uid", "65536")],
            &[],
        ] {
            of(pairs).unwrap_err();
        }
    }
}
