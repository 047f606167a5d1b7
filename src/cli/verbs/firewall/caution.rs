//! What keeps an operator from being shut out.

use crate::api::firewall::Caution;
use crate::model::firewall::operator::SshConnection;
use crate::sys::net::ssh;

/// `--force` of changes that could shut the operator out, and the ssh connection. Call it before an
/// instance is opened: afterwards the process cannot look at root's parent processes.
pub fn caution(force: bool) -> Caution {
    let ssh = ssh::connection().and_then(|text| SshConnection::parse(&text));
    Caution { ssh, force }
}
