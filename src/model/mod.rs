//! Plain data and its rules. Nothing here does I/O, reads a clock or looks at the environment.

pub mod config;
pub mod container;
pub mod firewall;
pub mod grant;
pub mod guest_file;
pub mod guest_tools;
pub mod ids;
pub mod instance;
pub mod limits;
pub mod mac;
pub mod manifest;
pub mod monitor;
pub mod name;
pub mod network;
pub mod nic;
pub mod subid;
pub mod suggest;
pub mod template;
pub mod words;
