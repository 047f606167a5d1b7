//! A set of machines that one file describes, and what makes a host match it.

mod document;
mod plan;
mod range;

pub use document::{Fleet, MAX_TEXT, Machine, Run, read};
pub use plan::{Action, Change, Kind, Present, PresentMachine, Step, plan};
