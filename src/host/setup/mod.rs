//! `nagaya setup`: the service user, its ids and its directories, and their removal.

mod accounts;
mod dirs;
mod error;
mod lock;
mod look;
mod make;
mod owner;
mod remove;

pub use dirs::{Place, ensure_pool, remove_pool};
pub use error::SetupError;
pub use lock::acquire as lock;
pub use look::{is_set_up, look, own_range};
pub use make::{SetupOptions, ensure_run_dir, setup};
pub use owner::{Account, Ids, Owner};
pub use remove::{RemoveOptions, remove, remove_grants};
