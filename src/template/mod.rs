//! Where root filesystems come from: recipes and the builds they describe, archives, and what an
//! unpacked tree says of itself.

pub mod build;
pub mod decompress;
pub mod detect;
pub mod extract;
mod header;
mod member;
mod pax;
pub mod recipe;
mod source;
mod tree;
mod xattr;

#[cfg(test)]
mod archive_tests;
#[cfg(test)]
mod gnu_tar_tests;
