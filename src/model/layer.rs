//! Layers: immutable trees, one on the other, that containers and snapshots stand on.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::template::TemplateId;

/// A layer's identity: 16 hexadecimal digits, drawn at random.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LayerId(String);

/// A string that is not 16 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not the id of a layer (16 hexadecimal digits)")]
pub struct LayerIdError(String);

impl LayerId {
    /// Reads an id. Errors: `text` is not 16 hexadecimal digits in lower case.
    pub fn new(text: &str) -> Result<Self, LayerIdError> {
        let good = text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if good { Ok(Self(text.to_owned())) } else { Err(LayerIdError(text.to_owned())) }
    }

    /// The id that is this number.
    pub fn from_random(bits: u64) -> Self {
        Self(format!("{bits:016x}"))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for LayerId {
    type Error = LayerIdError;
    fn try_from(text: String) -> Result<Self, LayerIdError> {
        Self::new(&text)
    }
}

impl From<LayerId> for String {
    fn from(id: LayerId) -> String {
        id.0
    }
}

/// What a root filesystem stands on: a template, and the layers above it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// The lowest layer.
    pub template: TemplateId,
    /// The name it was launched from; the template may have been renamed or deleted since.
    pub template_name: String,
    /// Those above, the lowest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerId>,
}

impl Chain {
    /// The same with one more layer on top.
    pub fn with(&self, layer: LayerId) -> Self {
        let mut chain = self.clone();
        chain.layers.push(layer);
        chain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_sixteen_hex_digits() {
        assert_eq!(LayerId::from_random(0xab).as_str(), "00000000000000ab");
        for bad in ["", "0", "00000000000000aG", "../../../../../..", "00000000000000AB", "00000000000000abc"]
        {
            assert!(LayerId::new(bad).is_err(), "{bad:?}");
        }
    }
}
