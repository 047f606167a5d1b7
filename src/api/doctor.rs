//! What a host offers and what it lacks.

use serde::{Deserialize, Serialize};

/// Look at the whole host. It changes nothing.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckHost {}

/// How a part of the host serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    /// Not there yet; nagaya makes it when it is needed.
    Later,
    /// Not known: only root can find out.
    Untried,
    /// Containers run, but less well, or fewer, or not for everybody.
    Degraded,
    /// Containers cannot run.
    Missing,
}

/// What was found of one part of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The chapter: `kernel`, `cgroup`, `ids`, `storage`, `network`, `programs`,
    /// `limits` or `daemonless`.
    pub area: &'static str,
    pub name: &'static str,
    pub status: Status,
    /// One line.
    pub detail: String,
    /// A command that fixes it, or one that shows what is wrong. There is one if, and only if, the status
    /// is `Degraded` or `Missing`.
    pub fix: Option<String>,
}
