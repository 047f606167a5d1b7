//! Where the guest stands.

use std::time::Instant;

use crate::runtime::boot::Booting;

/// The guest's state between two boots.
pub enum Stage {
    Up,
    /// Init has ended, and how is not known yet.
    Ending {
        since: Instant,
        look_at: Instant,
    },
    /// It has ended and will boot again; its cgroups are not empty yet.
    Clearing {
        until: Instant,
        look_at: Instant,
    },
    Booting(Booting),
}
