//! Why a request was not done.

use serde::Serialize;

use crate::model::fault::{Code, Fault, Kind};
use crate::sys::error_text;

/// An error as programs and people see it.
#[derive(Debug, Clone, PartialEq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub kind: Kind,
    pub code: Code,
    /// With its causes, in one line.
    pub message: String,
    /// What to type next, where that is known.
    pub hints: Vec<String>,
    /// The name that was probably meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
}

impl<E: Fault> From<E> for Error {
    fn from(error: E) -> Self {
        let facts = error.facts();
        let hints = facts.hint.into_iter().collect();
        Self {
            kind: facts.kind,
            code: facts.code,
            message: error_text(&error),
            hints,
            nearest: facts.nearest,
        }
    }
}
