//! What the service manager calls: starting and stopping all containers with the host, and the watcher.

pub mod autostart;
pub mod autostop;
pub mod watch;
