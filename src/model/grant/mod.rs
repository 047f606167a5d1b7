//! Grants: what the administrator lets ordinary users have on the host.

mod keys;
mod settings;

pub use keys::GRANT_KEYS;
pub use settings::{Grant, Grantee};
