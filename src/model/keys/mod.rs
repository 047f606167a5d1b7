//! Keys and their values, of whatever can be set: a table for each, all of one type. From it come
//! reading, refusals, `… keys`, completion and the tables of the documentation.

mod error;
mod kind;
mod table;
#[cfg(test)]
mod tests;

pub use error::{KeyError, KeyFault};
pub(in crate::model) use kind::number;
pub use kind::{BOOL, Kind, MTU, TEXT, Words};
pub use table::{Absent, Key, Live, Subject, Table, is_unprintable};
