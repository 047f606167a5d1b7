//! The pool of templates', containers' and layers' trees.

pub mod contents;
pub mod layers;
pub mod opened;
pub mod pool_admin;
pub mod pools;
pub mod quota;
pub mod trash;
pub mod trees;
pub mod volumes;
pub mod worker;
