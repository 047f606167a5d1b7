//! Why a firewall is not as it was to be.

use crate::sys::net::nft::NftError;

/// Why a firewall could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// The caller has no right to it.
    #[error("{0}")]
    Refused(String),
    /// The tables are not there, so that nothing of them can be changed; `apply_all` makes them.
    #[error("the firewall is not in place")]
    NotInPlace,
    #[error(transparent)]
    Nft(#[from] NftError),
}

/// What the calls on a firewall return.
pub type FirewallResult<T> = Result<T, FirewallError>;
