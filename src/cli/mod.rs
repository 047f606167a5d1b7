//! The command line: `verbs` has a file for each verb, whose argument struct's comment is its help.

pub mod arguments;
mod command;
mod context;
mod editor;
pub mod error;
pub mod output;
mod program;
mod report;
mod request;
pub mod several;
pub mod terminal;
pub mod verbs;

pub use command::main;
pub use context::{
    base_instance, instance, is_daemonless, name, open, open_lazily, open_to_make, open_to_make_from,
    open_to_make_with, open_with, open_with_devices, open_with_directory, owner_arguments, place, wish,
};
