//! The table of the keys that something has.

use super::{KeyError, KeyFault, Kind};
use crate::model::suggest;

/// What has keys.
pub trait Subject: Sized + 'static {
    /// What they are set on.
    type Draft;
    /// What a key sets.
    type Sets: Copy + 'static;
    /// Whether an empty value takes a key back.
    const EMPTY_RESETS: bool;

    /// Sets `key`, an entry of the table under its full name, to a value of its kind, or to an empty
    /// one where that takes it back.
    ///
    /// # Errors
    /// What the kind alone cannot tell.
    fn put(key: &Key<Self>, draft: &mut Self::Draft, name: &str, value: &str) -> Result<(), KeyError>;

    /// What stands in place of a family's '*'; the error completes "cannot be set: …".
    fn check_rest(_family: &Key<Self>, rest: &str) -> Result<(), &'static str> {
        if rest.is_empty() { Err("it needs a name after the dot") } else { Ok(()) }
    }
}

/// When a change of a key takes effect in what runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Live {
    /// At once.
    Now,
    /// In programs that are run from now on; in the guest's init at the next start.
    NewPrograms,
    NextStart,
    /// On the host at once, in a guest at its next start.
    Guests,
    /// When the host boots or shuts down.
    Host,
    /// It is said when its subject is made, and stays.
    Creation,
    /// It has no effect of its own.
    None,
}

impl Live {
    /// As the tables of keys show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Now => "at once",
            Self::NewPrograms => "in new programs",
            Self::NextStart => "at the next start",
            Self::Guests => "at once, in guests at their next start",
            Self::Host => "with the host",
            Self::Creation => "at creation only",
            Self::None => "no effect",
        }
    }
}

/// How a key stands to LXD's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lxd {
    Same,
    /// LXD has it too; what is otherwise there.
    Differs(&'static str),
    /// LXD has no such key.
    Ours,
}

impl Lxd {
    /// As the tables of keys show it; None where there is nothing to say.
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Same => None,
            Self::Differs(how) => Some(how),
            Self::Ours => Some("not there"),
        }
    }
}

/// A key, or with '*' at its end a family of keys.
pub struct Key<S: Subject> {
    pub name: &'static str,
    pub kind: Kind,
    /// Empty: nothing is set, nothing is limited.
    pub default: &'static str,
    pub live: Live,
    pub lxd: Lxd,
    /// One line.
    pub help: &'static str,
    pub sets: S::Sets,
}

impl<S: Subject> Key<S> {
    pub const fn new(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        live: Live,
        help: &'static str,
        sets: S::Sets,
    ) -> Self {
        Self { name, kind, default, live, lxd: Lxd::Same, help, sets }
    }

    /// LXD's is otherwise.
    pub const fn differs(self, how: &'static str) -> Self {
        Self { lxd: Lxd::Differs(how), ..self }
    }

    /// LXD has none.
    pub const fn ours(self) -> Self {
        Self { lxd: Lxd::Ours, ..self }
    }

    /// What all keys of the family begin with.
    pub fn family(&self) -> Option<&'static str> {
        self.name.strip_suffix('*')
    }
}

/// A key of LXD's, or with '*' at its end a family of them, that we do not have.
pub struct Absent {
    pub name: &'static str,
    /// What to type or to know instead.
    pub instead: Option<&'static str>,
}

impl Absent {
    pub const fn key(name: &'static str) -> Self {
        Self { name, instead: None }
    }

    pub const fn instead(name: &'static str, instead: &'static str) -> Self {
        Self { name, instead: Some(instead) }
    }
}

/// All keys of one subject.
pub struct Table<S: Subject> {
    /// As in "there is no … key".
    pub what: &'static str,
    /// The command that lists them.
    pub listed_by: &'static str,
    /// In the order in which they are shown.
    pub keys: &'static [Key<S>],
    pub absent: &'static [Absent],
}

impl<S: Subject> Table<S> {
    /// The entry for `key`, which may be one of a family.
    pub fn find(&self, key: &str) -> Option<&'static Key<S>> {
        self.keys.iter().find(|known| is_named(known.name, key))
    }

    /// # Errors
    /// Where there is none: what there is instead.
    pub fn known(&self, key: &str) -> Result<&'static Key<S>, KeyError> {
        if let Some(found) = self.find(key) {
            return Ok(found);
        }
        let absent = self.absent.iter().find(|absent| is_named(absent.name, key));
        let fault = match absent {
            Some(absent) => KeyFault::Absent { key: key.to_owned(), instead: absent.instead },
            None => {
                let absent = self.absent.iter().map(|absent| absent.name);
                let names = self.keys.iter().map(|known| known.name).chain(absent);
                let nearest = suggest::nearest(key, names).map(str::to_owned);
                KeyFault::Unknown { what: self.what, key: key.to_owned(), nearest }
            }
        };
        Err(KeyError::from(fault).listed_by(self.listed_by))
    }

    /// Sets one key.
    ///
    /// # Errors
    /// The key that there is not, or that cannot be so. What depends on other keys is the
    /// subject's to say.
    pub fn set(&self, draft: &mut S::Draft, key: &str, value: &str) -> Result<(), KeyError> {
        let entry = self.known(key)?;
        self.put(entry, draft, key, value).map_err(|e| e.listed_by(self.listed_by))
    }

    fn put(&self, entry: &Key<S>, draft: &mut S::Draft, key: &str, value: &str) -> Result<(), KeyError> {
        if entry.live == Live::Creation {
            return Err(KeyFault::Fixed { key: key.to_owned(), what: self.what }.into());
        }
        check(entry, key, value)?;
        S::put(entry, draft, key, value)
    }
}

fn is_named(name: &str, key: &str) -> bool {
    match name.strip_suffix('*') {
        Some(family) => key.starts_with(family),
        None => name == key,
    }
}

/// What no value may hold.
pub fn is_unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// Whether `key`, whose entry is `entry`, may have `value`.
fn check<S: Subject>(entry: &Key<S>, key: &str, value: &str) -> Result<(), KeyError> {
    if let Some(rest) = entry.family().and_then(|family| key.strip_prefix(family)) {
        S::check_rest(entry, rest).map_err(|reason| KeyFault::Name { key: key.to_owned(), reason })?;
    }
    if value.chars().any(is_unprintable) {
        return Err(KeyError::wrong(key, value, "without control characters"));
    }
    let resets = S::EMPTY_RESETS && value.is_empty();
    if resets || (entry.kind.check)(value) {
        Ok(())
    } else {
        Err(KeyError::wrong(key, value, entry.kind.rule))
    }
}
