//! Copies of trees in layers. What a layer hides of those below it is applied, or is kept so that the copy is a
//! layer itself. The owner of a tree may be hostile, and may be changing it: no link is followed, and nothing but
//! regular files is opened. Hard links, holes, extended attributes and times survive.

mod carry;
mod diff;
mod digest;
pub mod marks;
mod node;
mod rounds;
mod seen;
#[cfg(test)]
mod tests;
mod walk;

pub use self::carry::carry_links;
pub use self::diff::{Change, Found, MOST as MOST_DIFFERENCES, Visit, diff, visit};
pub use self::digest::digest;
pub use self::node::{Xattr, extents, open_dir, open_regular, xattrs_of};
pub use self::rounds::Rounds;
pub use self::walk::{Marks, attributes, copy};
