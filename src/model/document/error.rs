//! What is wrong with a document, and where.

use super::place::Place;
use crate::model::fault::{self, Code, Facts};
use crate::model::keys::KeyError;

/// A mistake in a document.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {fault}")]
pub struct DocumentError {
    pub place: Place,
    pub fault: Fault,
}

#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It is no TOML. In the words of the library that reads it.
    #[error("{0}")]
    Syntax(String),
    #[error("{0}")]
    Key(KeyError),
    #[error("there is no '{word}' in {within}")]
    Unknown { word: String, within: String, nearest: Option<String>, known: String },
    #[error("'{word}' must be {rule}")]
    Type { word: String, rule: &'static str },
    #[error("{0}")]
    Wrong(String),
}

impl DocumentError {
    pub fn wrong(place: Place, what: impl Into<String>) -> Self {
        Self { place, fault: Fault::Wrong(what.into()) }
    }
}

impl fault::Fault for DocumentError {
    fn facts(&self) -> Facts {
        match &self.fault {
            Fault::Key(error) => error.facts(),
            Fault::Unknown { nearest, known, .. } => {
                Facts::user(Code::UnknownKey).meant(nearest.as_deref(), &format!("there may be {known}"))
            }
            Fault::Syntax(_) => Facts::user(Code::InvalidValue)
                .hint("keys and texts stand in quotes: \"limits.memory\" = \"512MiB\""),
            Fault::Type { .. } | Fault::Wrong(_) => Facts::user(Code::InvalidValue),
        }
    }
}
