//! Networks: their rows, their bridges, and their repair.

mod answers;
mod claims;
mod lookup;
mod networks;
mod readiness;
pub mod repair;
mod subnets;

pub use answers::answer_for;
pub use claims::claim_all;
pub use lookup::{NetworkRow, find, list, of, orders, show};
pub use networks::{Connect, as_map, create, delete, ensure_default, requests, set};
pub use readiness::{ensure, expect};
pub use subnets::found;
