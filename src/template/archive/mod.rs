//! Archives that nobody vouches for: read, checked and unpacked.

mod block;
mod decompress;
mod error;
mod extract;
mod foreign;
#[cfg(test)]
mod gnu_tar_tests;
mod header;
mod limits;
mod links;
mod member;
mod pax;
mod source;
#[cfg(test)]
mod tests;
mod tree;
pub mod writer;
mod xattr;

pub use extract::extract;
pub use limits::Limits;
