//! Work of more than one step, which the next command finishes or undoes if its own was killed.

mod journal;
pub mod reconcile;

pub use journal::{
    Procedure, Step, finish, list, nothing, of_container, of_pool, of_profile, run, show, undo,
};
