//! The program on the real kernel, as root: each test in an instance of its own, judged by the
//! kernel's own tools and never by nagaya's code.

#[path = "root/host.rs"]
mod host;
#[path = "root/network.rs"]
mod network;
#[path = "root/templates.rs"]
mod templates;
