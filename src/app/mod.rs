//! What the verbs do.

pub mod doctor;
