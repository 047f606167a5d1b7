//! What the kernel and the machine have.

pub mod clock;
pub mod hardware;
pub mod probe;
pub mod random;
