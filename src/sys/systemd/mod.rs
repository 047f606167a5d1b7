//! What systemd tells a service, and what a service tells systemd.

pub mod activation;
pub mod notify;
