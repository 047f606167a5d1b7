//! Which links are ours: by their names, their kind and their group.

use netlink_packet_route::link::InfoKind;

use crate::model::instance::{is_host_link, is_shaper_link};
use crate::sys::net::netlink::NetlinkError;
use crate::sys::net::netlink::link::Link;

/// The group of all links of ours (`ip link show group 28263`), which tells them from others' that are
/// called alike. It is given when a link is made, as an alias cannot be.
pub const LINK_GROUP: u32 = 0x6e67;

pub(super) fn check_names(host_name: &str, shaper_name: &str) -> Result<(), NetlinkError> {
    match (is_host_link(host_name), is_shaper_link(shaper_name)) {
        (true, true) => Ok(()),
        (true, false) => Err(NetlinkError::LinkName(shaper_name.to_owned())),
        (false, _) => Err(NetlinkError::LinkName(host_name.to_owned())),
    }
}

/// The link, if it is of that kind and we made it. The first version knew only slot 0 and no group.
pub fn ours(name: &str, link: Link, kind: &InfoKind) -> Result<Link, NetlinkError> {
    let first_version = link.group == 0 && (name.starts_with("ng") || name.starts_with('u'));
    match link.kind.as_ref() == Some(kind) && (link.group == LINK_GROUP || first_version) {
        true => Ok(link),
        false => Err(NetlinkError::NotOurs { name: name.to_owned() }),
    }
}
