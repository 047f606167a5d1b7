//! A container's keys and values.

use serde::{Deserialize, Serialize, Serializer};

use super::pairs::Pairs;
use crate::model::keys::Live;
use crate::model::name::Name;
use crate::model::profile::ProfileName;

/// What was set for the container alone.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Show {
    pub name: Name,
}

/// What holds: what was set for the container, and what its profiles say.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expand {
    pub name: Name,
}

/// A value that holds, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Value {
    pub value: String,
    /// None: it was set for the container alone.
    pub profile: Option<ProfileName>,
}

/// All of it or, where one key is refused, nothing.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    pub name: Name,
    pub config: Pairs,
}

/// Back to what the profiles say, or to the defaults, in the same way.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unset {
    pub name: Name,
    pub keys: Vec<String>,
}

/// What is wanted of a running container and what it has, where these differ.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Diff {
    pub name: Name,
}

/// A key that does not hold as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub key: String,
    /// None: nothing is wanted.
    pub wanted: Option<String>,
    /// What the container has; as a file of its cgroup has it, where `file` names one.
    pub live: Option<String>,
    pub file: Option<&'static str>,
    /// When it will hold, as the list of keys says it.
    #[serde(serialize_with = "as_listed")]
    pub holds: Live,
}

/// A container's settings as TOML, for people to edit.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    pub name: Name,
}

/// The settings that a text says, in place of the present ones.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Import {
    pub name: Name,
    pub text: String,
    /// The text that it was made from: refused where the settings were changed since.
    #[serde(default)]
    pub former: Option<String>,
}

/// A change that a running container has yet to see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pending {
    pub key: String,
    /// When it does, as the list of keys says it.
    #[serde(serialize_with = "as_listed")]
    pub live: Live,
}

fn as_listed<S: Serializer>(live: &Live, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(live.as_str())
}
