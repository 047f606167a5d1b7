//! The container while it lives: its monitor, the first steps of its init, console and exec. One
//! thread, no async, no database, no path of the host.
#![allow(unsafe_code)]

mod boot;
pub mod byte_string;
pub mod config;
mod console;
mod exec;
mod guest_files;
mod init;
mod interests;
pub mod monitor;
mod program;
pub mod protocol;
mod rootfs;
