//! Requests that wait for a guest that is booting again.

use std::os::fd::OwnedFd;

use crate::runtime::interests::Id;
use crate::runtime::protocol::Request;

/// Requests that may wait for a guest that is booting again.
pub const MOST_DEFERRED: usize = 32;

/// A request that a guest can answer only once it has booted.
pub struct Deferred {
    pub client: Id,
    pub request: Request,
    pub fds: Vec<OwnedFd>,
}
