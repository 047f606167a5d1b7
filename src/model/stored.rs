//! How one version of nagaya reads what another has stored. The rules are in docs/design.md, "What outlives
//! a version".

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde::{Deserialize, Serialize, forward_to_deserialize_any};
use serde_json::{Error, Value};

/// Why a document cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// It may have what this version would lose or take for something else.
    #[error("it has version {found}, and this nagaya knows only {known}")]
    Newer { found: i64, known: u32 },
    #[error("its version is {0}, which no nagaya has written")]
    Version(i64),
    #[error("it cannot be read as TOML of its kind")]
    Syntax(#[source] Box<toml::de::Error>),
}

impl StoredError {
    /// The document is not TOML, or not of its kind.
    pub fn syntax(err: toml::de::Error) -> Self {
        Self::Syntax(Box::new(err))
    }

    /// Whether a later version of nagaya can read it.
    pub fn is_newer(&self) -> bool {
        matches!(self, Self::Newer { .. })
    }
}

/// A TOML document with its version, and with the fields that a later nagaya has added under the same
/// version: those are written back as they were.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document<T> {
    #[serde(default = "first")]
    version: u32,
    /// What this version knows of it.
    #[serde(flatten)]
    pub content: T,
    #[serde(flatten)]
    others: toml::Table,
}

fn first() -> u32 {
    1
}

impl<T> Document<T> {
    /// A new document.
    pub fn new(version: u32, content: T) -> Self {
        Self { version, content, others: toml::Table::new() }
    }

    /// The keys that this version of nagaya does not know.
    pub fn strangers(&self) -> impl Iterator<Item = &str> {
        self.others.keys().map(String::as_str)
    }
}

impl<T: DeserializeOwned> Document<T> {
    /// Reads `text`, whose version may be `known` at most; without one, it is the first.
    pub fn read(text: &str, known: u32) -> Result<Self, StoredError> {
        check_version(text, known)?;
        let read: Self = toml::from_str(text).map_err(StoredError::syntax)?;
        Ok(Self { version: known, ..read })
    }
}

/// The version of a TOML document; none in documents from before there was one.
pub fn version(text: &str) -> Result<Option<i64>, StoredError> {
    let table: toml::Table = toml::from_str(text).map_err(StoredError::syntax)?;
    Ok(table.get("version").and_then(toml::Value::as_integer))
}

/// The version of a TOML document; this nagaya knows those up to `known`.
pub fn check_version(text: &str, known: u32) -> Result<u32, StoredError> {
    let found = version(text)?.unwrap_or(1);
    match u32::try_from(found) {
        Ok(number) if (1..=known).contains(&number) => Ok(number),
        _ if found < 1 => Err(StoredError::Version(found)),
        _ => Err(StoredError::Newer { found, known }),
    }
}

/// Whether what begins with `head`, a few lines, has a version above `known`.
pub fn is_newer(head: &str, known: u32) -> bool {
    let number = head.lines().find_map(|line| line.strip_prefix("version = ")?.trim().parse::<i64>().ok());
    number.is_some_and(|found| found > i64::from(known))
}

/// Reads JSON of a type that refuses unknown fields because users type it too, but ignores them here.
pub fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    // Nearly always there are no unknown fields, and this is quicker.
    match serde_json::from_str(text) {
        Ok(read) => Ok(read),
        Err(_) => known_of(serde_json::from_str(text)?),
    }
}

/// The part of `value` that `T` knows.
pub fn known_of<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    T::deserialize(Known(value))
}

/// Gives structures only their own fields, at every depth.
struct Known(Value);

impl<'de> Deserializer<'de> for Known {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(all) => visitor.visit_seq(SeqDeserializer::new(all.into_iter().map(Known))),
            Value::Object(all) => visitor
                .visit_map(MapDeserializer::new(all.into_iter().map(|(key, value)| (key, Known(value))))),
            plain => plain.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let mut value = self.0;
        if let Value::Object(all) = &mut value {
            all.retain(|key, _| fields.contains(&key.as_str()));
        }
        Known(value).deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map identifier ignored_any
    }
}

impl IntoDeserializer<'_, Error> for Known {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::fmt::Debug;

    /// Every place of `value` where an object is, and for each of its members the path to it, in which
    /// `*` stands for all elements of a list.
    fn members(value: &Value, path: &str, found: &mut Vec<(String, String)>) {
        match value {
            Value::Object(all) => {
                for (key, value) in all {
                    let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    found.push((path.to_owned(), key.clone()));
                    members(value, &below, found);
                }
            }
            Value::Array(all) => all.iter().for_each(|value| members(value, &format!("{path}.*"), found)),
            _ => {}
        }
    }

    /// Does `change` to every object at `path`.
    fn at(value: &mut Value, path: &str, change: &mut dyn FnMut(&mut serde_json::Map<String, Value>)) {
        let (first, rest) = path.split_once('.').unwrap_or((path, ""));
        match value {
            Value::Object(all) if path.is_empty() => change(all),
            Value::Object(all) => at(all.get_mut(first).expect("a member"), rest, change),
            Value::Array(all) if first == "*" => all.iter_mut().for_each(|value| at(value, rest, change)),
            _ => {}
        }
    }

    /// Takes each field out of `document` in turn, and puts one that is not known beside each: what `read`
    /// makes of it must be an error for those of `needed` alone, and the same as before with one more.
    /// What is below `maps` has keys that are no fields.
    pub fn outlives<T: PartialEq + Debug, E: Debug>(
        document: &Value,
        read: impl Fn(Value) -> Result<T, E>,
        needed: &[&str],
        maps: &[&str],
    ) {
        let whole = read(document.clone()).expect("the whole is read");
        let mut found = Vec::new();
        members(document, "", &mut found);
        found.retain(|(path, _)| !maps.contains(&path.as_str()));
        assert!(!found.is_empty());
        let mut missed: Vec<&str> = needed.to_vec();
        for (path, key) in found {
            let name = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let mut less = document.clone();
            at(&mut less, &path, &mut |object| drop(object.remove(&key)));
            let outcome = read(less);
            assert_eq!(outcome.is_err(), needed.contains(&name.as_str()), "without {name}: {outcome:?}");
            missed.retain(|needed| *needed != name);
            let mut more = document.clone();
            at(&mut more, &path, &mut |object| {
                object
                    .insert("of-a-later-version".to_owned(), serde_json::json!({ "a": [1, { "b": true }] }));
            });
            assert_eq!(read(more).expect("more than is known"), whole, "something unknown beside {name}");
        }
        assert!(missed.is_empty(), "there is no {missed:?}");
    }

    /// The same of a type that serde reads as it stands.
    pub fn value_outlives<T: Serialize + DeserializeOwned + PartialEq + Debug>(
        value: &T,
        needed: &[&str],
        maps: &[&str],
    ) {
        let document = serde_json::to_value(value).unwrap();
        outlives(&document, serde_json::from_value::<T>, needed, maps);
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Content {
        text: String,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        table: BTreeMap<String, u64>,
    }

    #[test]
    fn what_is_not_known_is_written_back() {
        let text = "version = 1\ntext = \"a\"\nnews = [1, 2]\n\n[table]\nx = 1\n\n[more]\ny = 2\n";
        let mut read: Document<Content> = Document::read(text, 2).unwrap();
        assert_eq!(read.strangers().collect::<Vec<_>>(), ["more", "news"]);
        read.content.text = "b".to_owned();
        let written = toml::to_string(&read).unwrap();
        let again: toml::Table = toml::from_str(&written).unwrap();
        let expected = text.replace("\"a\"", "\"b\"").replace("version = 1", "version = 2");
        assert_eq!(again, toml::from_str::<toml::Table>(&expected).unwrap(), "{written}");
        let new = toml::to_string(&Document::new(1, Content { text: "a".into(), table: BTreeMap::new() }));
        assert_eq!(new.unwrap(), "version = 1\ntext = \"a\"\n");
    }

    #[test]
    fn a_version_is_known_or_named() {
        for (text, known) in [("text = \"a\"", 1), ("version = 1", 1), ("version = 2", 3)] {
            assert!(check_version(text, known).is_ok(), "{text}");
        }
        for found in [3i64, 4_294_967_297] {
            let err = check_version(&format!("version = {found}\nnews = true"), 2).unwrap_err();
            assert!(err.is_newer(), "{err}");
            assert_eq!(err.to_string(), format!("it has version {found}, and this nagaya knows only 2"));
        }
        for odd in ["version = 0", "version = -1"] {
            assert!(matches!(check_version(odd, 2), Err(StoredError::Version(_))), "{odd}");
        }
        assert!(matches!(check_version("version", 2), Err(StoredError::Syntax(_))));
        assert!(
            is_newer("version = 3\nid = \"0a", 2)
                && !is_newer("version = 2\nid = \"0a", 2)
                && !is_newer("", 2)
        );
    }
}
