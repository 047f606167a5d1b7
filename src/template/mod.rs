//! Where root filesystems come from: recipes and the builds they describe, archives, and what an
//! unpacked tree says of itself.

pub mod archive;
pub mod build;
pub mod detect;
pub mod recipe;
pub mod shape;
