//! Where root filesystems come from: recipes and the builds they describe, archives, and what an
//! unpacked tree says of itself.

mod budget;
pub mod build;
pub mod decompress;
pub mod detect;
pub mod extract;
mod foreign;
mod header;
mod links;
mod member;
mod pax;
pub mod recipe;
mod rooted;
pub mod shape;
mod source;
mod tree;
mod xattr;

#[cfg(test)]
mod archive_tests;
#[cfg(test)]
mod gnu_tar_tests;
