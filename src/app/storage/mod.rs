//! The pool of templates', containers' and layers' trees.

pub mod layers;
pub mod opened;
pub mod pool;
pub mod pools;
pub mod quota;
pub mod trash;
pub mod trees;
pub mod volumes;
pub mod worker;
