//! When snapshots are made by themselves, and for how long they are kept. Times of the day are those of a time zone
//! that the caller names.

mod expiry;
mod pattern;
mod retention;
mod times;

pub use expiry::Expiry;
pub use pattern::Pattern;
pub use retention::Retention;
pub use times::Schedule;
