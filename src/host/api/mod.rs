//! What callers, hostd and the broker share: the verbs with their requests and answers, how these travel, errors, grants,
//! and where all find one another.

pub mod access;
pub mod address;
pub mod error;
pub mod grants;
pub mod line;
pub mod packet;
pub mod requests;
pub mod socket;
pub mod verbs;
