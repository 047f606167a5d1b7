//! SQLite: what nagaya knows and the kernel does not. One file, owned by the instance's user and
//! readable by nobody else; the `-wal` beside it is part of it.
//!
//! Every method is one transaction. Those that write take the write lock before they read, so what
//! they checked is still so when they commit. A `Store` must not be carried across a fork: SQLite's
//! locks belong to the process.

mod allot;
mod columns;
mod connection;
mod containers;
#[cfg(test)]
mod contention;
mod database;
mod devices;
#[cfg(test)]
mod disk;
mod error;
mod files;
mod firewall;
#[cfg(test)]
mod fixture;
mod layers;
mod networks;
mod nics;
mod open;
mod operations;
mod pools;
mod profiles;
mod rebuild;
#[cfg(test)]
mod released;
mod replace;
mod reserve;
mod schema;
mod sealing;
mod setup;
mod snapshots;
mod templates;
mod volumes;

pub use database::Store;
pub use error::{NO_TEMPLATE, StoreError};
pub use sealing::Sealing;
