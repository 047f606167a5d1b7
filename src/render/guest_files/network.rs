//! The files that make a guest's own tools agree with what was set from outside: the tools find the
//! addresses in place, keep them, and set them again if somebody removes them.

use super::interface::Interface;
use super::subject::Subject;
use super::{alpine, ifcfg, ifupdown, netplan, network_manager, networkd};
use crate::model::guest_file::GuestFile;
use crate::model::guest_tools::GuestTools;
use crate::model::template::NetworkStyle;

/// The files of the guest's network tools. What an earlier start has written for an interface that is
/// gone, the writer knows by [`is_interface_file`](crate::model::guest_file::is_interface_file).
pub fn network_files(tools: &GuestTools, subject: Subject<'_>) -> Vec<GuestFile> {
    let interfaces = Interface::all(subject.nics, subject.resolvers, subject.domain);
    match tools.network {
        NetworkStyle::Networkd => interfaces.iter().map(networkd::file).collect(),
        NetworkStyle::Ifupdown => vec![ifupdown::file(&interfaces, tools.is_interfaces_d_free)],
        NetworkStyle::Ifcfg => ifcfg::files(subject.hostname, &interfaces),
        NetworkStyle::Netplan => vec![netplan::file(&interfaces)],
        NetworkStyle::NetworkManager => network_manager::files(&interfaces),
        NetworkStyle::Alpine => vec![alpine::file(&interfaces)],
        NetworkStyle::None => Vec::new(),
    }
}
