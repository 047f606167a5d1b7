//! Kernel and host facilities, one file each. The few files with `unsafe` say so at their top.

pub mod accounts;
pub mod cgroup;
mod error;
pub mod fs;
pub mod kernel;
pub mod net;
pub mod process;
pub mod programs;
pub mod systemd;
pub mod terminal;
mod timeout;

pub use error::{Context, SysError, SysResult, error_text, lack_of};
pub use timeout::timespec;
