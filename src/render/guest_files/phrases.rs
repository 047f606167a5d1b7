//! What files of several styles are put together from.

use std::net::IpAddr;

use crate::model::guest_file::{GuestFile, When};

/// A file of the guest's network tools.
pub(super) fn block(path: impl Into<String>, content: String, mode: u32) -> GuestFile {
    let when = When::Block { rest: String::new(), replaces: true };
    GuestFile { path: path.into(), content, mode, when }
}

/// Addresses with `separator` in between.
pub(super) fn join<'a>(addresses: impl IntoIterator<Item = &'a IpAddr>, separator: &str) -> String {
    addresses.into_iter().map(IpAddr::to_string).collect::<Vec<_>>().join(separator)
}
