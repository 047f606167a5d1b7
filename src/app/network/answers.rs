//! Who answers guests of a network: the broker is told of its containers.

use super::lookup::is_up;
use crate::app::error::AppResult;
use crate::app::instance::App;
use crate::host::services::dns::{self, DnsLease};
use crate::model::network::Network;

/// Tells the network's dnsmasq which guests there are, or ends it if the network wants none.
pub(super) fn answer(app: &mut App, network: &Network) -> AppResult<()> {
    let mut leases = Vec::new();
    // A server that only asks the host's resolvers does not need to know the guests.
    let known =
        if dns::is_go_between(&app.instance, network) { Vec::new() } else { app.store.containers()? };
    for container in known {
        for nic in container.nics.iter().filter(|nic| nic.network() == Some(network.name.as_str())) {
            let (ipv4, ipv6) = (nic.ipv4.map(|net| net.ip()), nic.ipv6.map(|net| net.ip()));
            if ipv4.is_some() || ipv6.is_some() {
                leases.push(DnsLease { name: container.name.clone(), mac: nic.mac, ipv4, ipv6 });
            }
        }
    }
    Ok(app.broker.ensure_names(network, &leases)?)
}

/// The same for those of `networks` that have a dnsmasq and whose bridges exist. Guests have their
/// addresses without it, so an error is not passed on.
pub fn answer_for(app: &mut App, networks: &[Network]) {
    for network in networks {
        if !dns::is_wanted(&app.instance, network) {
            continue;
        }
        let answered = is_up(app, network).and_then(|up| if up { answer(app, network) } else { Ok(()) });
        if let Err(e) = answered {
            tracing::warn!("network '{}' is without answers: {e}", network.name);
        }
    }
}
