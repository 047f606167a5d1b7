//! Why a program was not started in a guest.

use serde::{Deserialize, Serialize};

use super::protocol::Reply;

/// What stopped an exec before the program ran.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NotStarted {
    pub code: i32,
    pub reason: String,
}

impl NotStarted {
    pub fn reply(self) -> Reply {
        Reply::NotStarted { code: self.code, reason: self.reason }
    }
}
