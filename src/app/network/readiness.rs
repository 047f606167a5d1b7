//! Networks, and the firewall around them, made sure of before a container starts.

use super::lookup::find;
use crate::app::error::AppResult;
use crate::app::firewall;
use crate::app::instance::App;
use crate::model::network::Network;
use crate::model::nic::NicRequest;

/// Lets the broker begin with what `ensure` will ask for the interfaces of a new container.
pub fn expect(app: &mut App, nics: &[NicRequest]) -> AppResult<()> {
    for name in nics.iter().filter_map(NicRequest::network) {
        let network = find(app, name)?;
        app.broker.expect_network(&network);
    }
    Ok(())
}

/// Makes sure of the networks and of the firewall around them.
pub fn ensure(app: &mut App, networks: &[Network]) -> AppResult<()> {
    let mut in_place = true;
    for network in networks {
        in_place &= app.broker.ensure_network(network)?;
    }
    // An owner without a network may have a routed interface.
    if networks.is_empty() {
        in_place = app.broker.firewall_in_place()?;
    }
    if in_place { Ok(()) } else { firewall::apply_all(app) }
}
