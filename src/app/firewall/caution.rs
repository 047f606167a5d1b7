//! The operator is not shut out by mistake.

use crate::app::error::{AppError, AppResult};
use crate::model::firewall::operator::{SshConnection, shut_out};
use crate::model::firewall::{Block, Plan, Policy};

/// What the operator's command says besides the change itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caution {
    /// The connection over which the operator works here.
    pub ssh: Option<SshConnection>,
    /// Makes the change even if it would cut that connection.
    pub force: bool,
}

/// Refuses a change that would shut the operator out, unless the present policy does that already.
pub(super) fn check_way_in(
    caution: &Caution,
    (before, old): (&Plan, &Policy),
    (after, new): (&Plan, &Policy),
    blocks: &[Block],
) -> AppResult<()> {
    if let Some(ssh) = caution.ssh.as_ref().filter(|_| !caution.force)
        && let Some(why) = shut_out(ssh, after, new, blocks)
        && shut_out(ssh, before, old, blocks).is_none()
    {
        return Err(AppError::ShutOut(why));
    }
    Ok(())
}
