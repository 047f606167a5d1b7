//! Templates: building, importing, listing, deleting.

pub mod builder;
pub mod record;
pub mod templates;
