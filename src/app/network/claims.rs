//! An ordinary user's networks on the host's record.

use super::lookup::{NetworkRow, list};
use crate::app::error::AppResult;
use crate::app::instance::App;
use crate::host::client::BrokerError;

/// Claims all networks of an ordinary user, because the broker refuses the user's firewall otherwise. A
/// network whose creation was cut short, and that the grant does not allow, is removed.
pub fn claim_all(app: &mut App) -> AppResult<()> {
    for NetworkRow { network, users, .. } in list(app)? {
        match app.broker.ensure_network(&network) {
            Err(BrokerError::Refused(_)) if users.is_empty() => app.store.delete_network(&network.name)?,
            other => drop(other?),
        }
    }
    Ok(())
}
