//! Programs in running containers.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::model::byte_string::ByteString;
use crate::model::name::Name;

/// Run a program in a container until it has ended, and pass on what it reads and prints, and this process's
/// signals to it.
///
/// `stdin`, `stdout` and `stderr` are numbers of descriptors that come beside the request. The program gets none
/// of them itself: it has pipes or a terminal of its own, and bytes are passed on. One that is not said is empty.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    pub name: Name,
    /// The program and its arguments; none stands for the user's login shell.
    #[serde(default)]
    pub command: Vec<ByteString>,
    /// Added to the guest's environment and the container's.
    #[serde(default, deserialize_with = "variables")]
    pub environment: Vec<(ByteString, ByteString)>,
    /// An absolute path in the guest; the user's home where none is given.
    #[serde(default)]
    pub directory: Option<ByteString>,
    /// Name or number in the guest, or `user:group`.
    #[serde(default = "root")]
    pub user: String,
    /// With a terminal of its own, of this size; `stderr` has no use then.
    #[serde(default)]
    pub terminal: Option<Size>,
    /// Only begin it: it runs until it ends or the guest does, and has no streams.
    #[serde(default)]
    pub detach: bool,
    /// Each line of its output begins with the container's name, and it has no input.
    #[serde(default)]
    pub labelled: bool,
    #[serde(default)]
    pub stdin: Option<i32>,
    #[serde(default)]
    pub stdout: Option<i32>,
    #[serde(default)]
    pub stderr: Option<i32>,
}

/// Of a terminal's window. One that has a window of its own, which `stdin` or `stdout` leads to, follows that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    pub rows: u16,
    pub columns: u16,
}

fn root() -> String {
    "root".to_owned()
}

fn variables<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(ByteString, ByteString)>, D::Error> {
    let all = BTreeMap::<String, ByteString>::deserialize(deserializer)?;
    Ok(all.into_iter().map(|(name, value)| (name.into_bytes().into(), value)).collect())
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// With this code; 128 and the number of the signal that ended it.
    Exited(i32),
    /// It was only to be begun, and has not ended yet.
    Runs,
    /// It could not start; 126 or 127 as in a shell, 70 for anything else.
    NotStarted { code: i32, reason: String },
}
