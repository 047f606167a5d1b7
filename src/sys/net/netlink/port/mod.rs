//! The links of containers' interfaces.

mod attach;
mod attachment;
mod link_messages;
mod mend;
mod ownership;
mod rates;

pub use attachment::Attachment;
pub use mend::{Fault, Port};
pub use ownership::LINK_GROUP;
