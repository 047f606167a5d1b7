//! What is told meanwhile.

use serde::Serialize;

use super::containers;

/// What is told while a request is worked on.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// A new stage of slow work, with how far the whole has come, 0 to 100, where that is known.
    Stage { text: String, percent: Option<u8> },
    /// Bytes done in this stage, and of how many where that is known.
    Bytes { done: u64, total: Option<u64> },
    /// Something that users are to know, though nothing went wrong.
    Note { text: String },
    /// The console is shown from here on, and what is typed passed on.
    Attached,
    /// Something of a container's life, to whom watches.
    Container(containers::Happened),
}
