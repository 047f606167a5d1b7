//! Names of profiles.

use crate::model::label::label;

label! {
    /// A profile's name.
    ProfileName, ProfileNameError, "a profile"
}

impl ProfileName {
    /// That of the profile which is always there, and which new containers use unless others are named.
    pub fn default_one() -> Self {
        Self("default".to_owned())
    }

    /// Whether it is that one's.
    pub fn is_default_one(&self) -> bool {
        self.0 == "default"
    }
}
