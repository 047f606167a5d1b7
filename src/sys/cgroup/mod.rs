//! Control groups: where they are, their limits and their counters.

mod dying;
mod group;
pub mod home;
pub mod limits;
pub mod usage;

pub use dying::is_dying;
pub use group::{
    ContainerCgroup, all_processes, clean, create, events, exec_leaves, guest_dir, holds, kill, make_parents,
    mount_dir, move_to_leaf, oom_kills, populated, processes, remove, wait_empty, write_at,
};
