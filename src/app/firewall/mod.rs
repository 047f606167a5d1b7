//! The firewall: a policy in the database, put into the kernel by the broker whenever either changes.

mod about;
mod ask;
mod behind;
mod blocks;
mod caution;
mod confirm;
mod copy;
mod edit;
mod facts;
mod hooks;
mod kernel;
mod note;
mod policy;

pub use ask::{Asked, RuleRow, check, export, forwards, forwards_of, rules, trace, traffic};
pub use behind::catch_up;
pub use blocks::{BlockRow, BlockWish, block, blocks, unblock};
pub use caution::Caution;
pub use confirm::{apply, confirm, roll_back_due};
pub use copy::restore;
pub use edit::{
    add_forward, add_rule, add_to_set, create_group, create_set, delete_group, delete_set, join_group,
    leave_group, remove_forward, remove_from_set, remove_rule, replace_forward, set_defaults,
    set_shared_forwards,
};
pub use hooks::repair;
pub(super) use hooks::{apply as apply_all, changed, forget, rename};
pub use note::{Note, expect};
