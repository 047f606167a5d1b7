//! Keys and values in the order in which they were given: an object in JSON.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// The last value of a key counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pairs(pub Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Pairs, M::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_kept() {
        let pairs: Pairs = serde_json::from_str(r#"{"b":"1","a":"2"}"#).unwrap();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(pairs.0, [pair("b", "1"), pair("a", "2")]);
        assert!(serde_json::from_str::<Pairs>(r#"{"a":1}"#).is_err());
        assert!(serde_json::from_str::<Pairs>(r#"["a"]"#).is_err());
    }
}
