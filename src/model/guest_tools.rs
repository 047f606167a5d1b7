//! Which of a guest's own tools set up its network and look up names.

use super::template::NetworkStyle;

/// What there is in a tree. None of it is trusted; it decides only which files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestTools {
    /// What sets up its interfaces.
    pub network: NetworkStyle,
    /// What becomes of systemd-resolved.
    pub resolved: Resolved,
    /// resolvconf has a directory for what the administrator has to say.
    pub has_resolvconf: bool,
    /// /etc/network/interfaces.d holds nothing that would speak of an interface too.
    pub is_interfaces_d_free: bool,
}

/// systemd-resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolved {
    Absent,
    /// There, but nothing starts it at boot.
    Idle,
    Enabled,
}
