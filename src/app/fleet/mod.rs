//! `apply`: a host is made to match a file.

mod look;
mod perform;

pub use look::{File, plan};
pub use perform::{apply_machine, apply_profiles};
