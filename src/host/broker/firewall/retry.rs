//! Transactions that are tried again where the kernel's rules have changed meanwhile.

use super::error::FirewallResult;
use crate::sys::net::nft::{self, Batch};

/// How often a change is tried again because another program has changed the kernel's rules in between.
const TRIES: usize = 50;

/// The same if an element that was there is gone: most likely it has expired.
const TRIES_GONE: usize = 3;

/// Commits the batch of `make`. If the kernel's rules have changed in between, or an element has expired,
/// calls `make` again.
pub fn retried(mut make: impl FnMut(u32) -> FirewallResult<Batch>) -> FirewallResult<()> {
    tried(|| make(nft::generation()?))
}

/// The same for what belongs to this owner alone, so that changes by others do not matter to the batch.
pub fn tried(mut make: impl FnMut() -> FirewallResult<Batch>) -> FirewallResult<()> {
    let mut tries = 0;
    loop {
        tries += 1;
        match make()?.commit() {
            Err(e)
                if (e.is_stale() && tries < TRIES)
                    || (e.errno() == Some(libc::ENOENT) && tries < TRIES_GONE) =>
            {
                tracing::debug!(tries, "the kernel's rules have changed meanwhile");
            }
            other => return Ok(other?),
        }
    }
}
