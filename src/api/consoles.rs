//! Consoles of containers.

use serde::{Deserialize, Serialize};

use crate::model::name::Name;

/// Show what a container's console printed last and then what it prints, until the guest ends.
///
/// `input` and `output` are numbers of descriptors that come beside the request.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    pub name: Name,
    /// What is typed; it ends with this too. None: it only shows.
    #[serde(default)]
    pub input: Option<i32>,
    pub output: i32,
    /// Ctrl-a q in the input leaves the console, and Ctrl-a Ctrl-a stands for one Ctrl-a.
    #[serde(default)]
    pub keys: bool,
    /// Without control sequences.
    #[serde(default)]
    pub plain: bool,
}

/// Show what a container's console has printed, also of one that does not run.
///
/// `output` is the number of a descriptor that comes beside the request.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShowLog {
    pub name: Name,
    pub output: i32,
    /// Only so many of the last lines.
    #[serde(default)]
    pub lines: Option<usize>,
    /// Go on with what comes, through starts and stops, until the container is deleted or nobody reads.
    #[serde(default)]
    pub follow: bool,
    /// Without control sequences.
    #[serde(default)]
    pub plain: bool,
}

/// Why a console is shown no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The guest has ended, or the input or whoever reads the output has.
    Closed,
    /// By the keys for it.
    Left,
    /// This signal has come.
    Signal(i32),
}
