//! Why a key cannot be set, or not so.

use crate::model::fault::{Code, Facts, Fault};

/// What is wrong with a key or its value, and which command tells of the keys that there are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct KeyError {
    pub fault: KeyFault,
    /// Empty where no table was asked.
    listed_by: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    #[error("there is no {what} key '{key}'")]
    Unknown { what: &'static str, key: String, nearest: Option<String> },
    #[error("'{key}' is a key of LXD's that nagaya does not have")]
    Absent { key: String, instead: Option<&'static str> },
    #[error("{key} cannot be '{value}': it must be {rule}")]
    Wrong { key: String, value: String, rule: String },
    #[error("'{key}' cannot be set: {reason}")]
    Name { key: String, reason: &'static str },
    #[error("{key} needs {other}")]
    Needs { key: String, other: String },
    #[error("{key} is only for {of}")]
    NotFor { key: String, of: String },
    #[error("{key} cannot be changed: it is said when the {what} is created")]
    Fixed { key: String, what: &'static str },
    #[error("{key} is not set")]
    NotSet { key: String },
    #[error("'{text}' is not KEY=VALUE")]
    NoValue { text: String },
    #[error("the {what} would be longer than {kib} KiB")]
    TooLong { what: &'static str, kib: usize },
}

impl From<KeyFault> for KeyError {
    fn from(fault: KeyFault) -> Self {
        Self { fault, listed_by: "" }
    }
}

impl KeyError {
    pub fn wrong(key: &str, value: &str, rule: &str) -> Self {
        KeyFault::Wrong { key: key.to_owned(), value: value.to_owned(), rule: rule.to_owned() }.into()
    }

    pub fn needs(key: &str, other: &str) -> Self {
        KeyFault::Needs { key: key.to_owned(), other: other.to_owned() }.into()
    }

    pub fn not_for(key: &str, of: &str) -> Self {
        KeyFault::NotFor { key: key.to_owned(), of: of.to_owned() }.into()
    }

    pub fn not_set(key: &str) -> Self {
        KeyFault::NotSet { key: key.to_owned() }.into()
    }

    /// Of keys that `command` lists.
    pub fn listed_by(self, command: &'static str) -> Self {
        Self { listed_by: command, ..self }
    }
}

impl Fault for KeyError {
    fn facts(&self) -> Facts {
        let listed = match self.listed_by {
            "" => None,
            command => Some(format!("'{command}' lists all keys and what they take")),
        };
        match &self.fault {
            KeyFault::Unknown { nearest, .. } => {
                Facts::user(Code::UnknownKey).meant(nearest.as_deref(), &listed.unwrap_or_default())
            }
            KeyFault::Absent { instead, .. } => {
                Facts::user(Code::UnknownKey).maybe(instead.map(str::to_owned).or(listed))
            }
            KeyFault::NotSet { .. } => Facts::user(Code::KeyNotSet).maybe(listed),
            KeyFault::NoValue { .. } => Facts::user(Code::GrantInvalid),
            KeyFault::Wrong { .. }
            | KeyFault::Name { .. }
            | KeyFault::Needs { .. }
            | KeyFault::NotFor { .. }
            | KeyFault::Fixed { .. }
            | KeyFault::TooLong { .. } => Facts::user(Code::InvalidValue).maybe(listed),
        }
    }
}
