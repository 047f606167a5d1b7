//! Settings as TOML that people write: what is wrong is told with its line, and their comments are kept.

mod devices;
mod error;
mod place;
mod reader;
mod settings;
mod writer;

pub use devices::devices;
pub use error::{DocumentError, Fault};
pub use place::Place;
pub use reader::{Document, Section};
pub use settings::{MAX_TEXT, checked, container_text, profile_text, read_container, read_profile};
