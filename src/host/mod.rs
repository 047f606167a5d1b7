//! What needs the host's rights, by who runs it: `broker` as root, `front` as a service without rights, `client` and
//! `rootless` as the user, `setup` as the administrator. What both ends of a connection share is in `api`.

pub mod api;
pub mod broker;
pub mod client;
pub mod front;
pub mod halves;
pub mod record;
pub mod rootless;
pub mod services;
pub mod setup;
pub mod sources;
