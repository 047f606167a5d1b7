//! The monitor: one small process per container, inside the container's user namespace, as the
//! uid that is the guest's root. It boots the guest, holds its console, tells a reboot from a
//! power-off, and serves the control socket.
//!
//! It has one thread and waits in one place for everything at once. Work that may take long is begun, and
//! continued when its descriptor is ready or its time is over. Neither a client nor the guest can hold up
//! anybody else.

mod asking;
mod changes;
mod clients;
mod deferred;
mod ending;
mod freezer;
mod guest_devices;
mod host_stop;
mod programs;
mod rebooting;
mod requests;
mod serve;
mod stage;
mod state;

pub use serve::run;
