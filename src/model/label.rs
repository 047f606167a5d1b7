//! Names that stand in lists with commas, in paths and in tables of files: they hold neither commas nor slashes nor white
//! space.

/// What such a name is made of.
pub const RULE: &str = "1 to 63 of a-z, A-Z, 0-9 and '._-', a letter or digit first";

/// Whether a text can be one.
pub fn is_label(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    first && text.len() <= 63 && text.bytes().all(fits)
}

/// A type of such names, and its error.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident, $error:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        #[doc = concat!("Why a string is not ", $what, "'s name.")]
        #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
        #[error("'{0}' cannot name {what}", what = $what)]
        pub struct $error(String);

        impl $name {
            /// Checks `text`.
            pub fn new(text: &str) -> Result<Self, $error> {
                match $crate::model::label::is_label(text) {
                    true => Ok(Self(text.to_owned())),
                    false => Err($error(text.to_owned())),
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, $error> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        /// As people type it: they are told what it must be.
        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                Self::new(text).map_err(|e| format!("{e}: {}", $crate::model::label::RULE))
            }
        }
    };
}

pub(crate) use label;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_stand_in_lists_and_files() {
        for good in ["default", "Gold.2", "a_b-c", "0"] {
            assert!(is_label(good), "{good}");
        }
        let long = "x".repeat(64);
        for bad in ["", "-a", ".a", "..", "a,b", "a b", "a/b", "ü", "a\n", long.as_str()] {
            assert!(!is_label(bad), "{bad}");
        }
    }
}
