//! Profiles: named settings that containers share, and what holds of a container that uses some.

mod layered;
mod name;
mod settings;

pub use layered::{Layered, MOST_PROFILES, Origin};
pub use name::{ProfileName, ProfileNameError};
pub use settings::{MAX_DESCRIPTION, Profile, ProfileSpec, check_description};
