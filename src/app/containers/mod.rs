//! Containers: their making, life and end, what runs in them, and what is known of them.

pub mod attached;
pub mod console;
pub mod create;
pub mod delete;
pub mod events;
pub mod exec;
pub mod given;
pub mod guest_config;
pub mod hot_plug;
pub mod lifecycle;
pub mod list;
pub mod lost;
pub mod lxcfs;
pub mod machine;
pub mod monitor;
mod plan;
pub mod rename;
pub mod run;
pub mod running;
mod spawn;
pub mod state;
pub mod top;
