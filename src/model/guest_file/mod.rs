//! Files in a guest that nagaya writes parts of, and how its lines are merged with the guest's own.

mod merge;
mod placed_file;

pub use merge::{Merged, guest_lines, has_block, is_ours_alone, merge};
pub use placed_file::{
    BEGIN, END, GuestFile, IGNORE, MARKER, RECORD, When, interface_file_dirs, is_interface_file,
};
