pub mod spawn;
pub mod stage;
