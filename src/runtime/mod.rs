//! A running container: its monitor, the first steps of its init, console and exec. One thread, no async,
//! no database, no path of the host.

mod boot;
pub mod config;
mod console;
mod devices;
mod exec;
mod files;
mod init;
mod interests;
pub mod monitor;
mod not_started;
mod program;
pub mod protocol;
mod rootfs;
