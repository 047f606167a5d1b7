//! Snapshots: what a container was at a time.

mod name;
mod source;
mod stored;

pub use name::SnapshotName;
pub use source::Source;
pub use stored::{MOST_COMMENT, MOST_SNAPSHOTS, Snapshot};
