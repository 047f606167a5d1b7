//! Reading TOML table by table. Whatever is not expected is an error with its place.

use toml_edit::{Item, Key, TableLike, Value};

use super::error::{DocumentError, Fault};
use super::place::Place;
use crate::model::suggest;

/// A text that is TOML.
pub struct Document<'a> {
    text: &'a str,
    parsed: toml_edit::Document<&'a str>,
}

/// One table of it.
pub struct Section<'a> {
    text: &'a str,
    /// As messages call it.
    name: String,
    place: Place,
    table: &'a dyn TableLike,
}

/// A key with its value as text, whatever it was in the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    pub key: String,
    pub value: String,
    pub place: Place,
}

impl<'a> Document<'a> {
    /// Errors: it is no TOML.
    pub fn parse(text: &'a str) -> Result<Self, DocumentError> {
        let parsed = toml_edit::Document::parse(text).map_err(|error| {
            let place = Place::of(text, error.span().map_or(0, |span| span.start));
            DocumentError { place, fault: Fault::Syntax(error.message().replace('\n', ", ")) }
        })?;
        Ok(Self { text, parsed })
    }

    /// The whole; messages call it `name`.
    pub fn root(&self, name: &str) -> Section<'_> {
        let place = Place { line: 1, column: 1 };
        Section { text: self.text, name: name.to_owned(), place, table: self.parsed.as_table() }
    }
}

impl<'a> Section<'a> {
    /// Where it begins.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Refuses all keys but these.
    pub fn only(&self, known: &[&str]) -> Result<(), DocumentError> {
        let Some((word, _)) = self.table.iter().find(|(key, _)| !known.contains(key)) else { return Ok(()) };
        let nearest = suggest::nearest(word, known.iter().copied()).map(str::to_owned);
        let (word, within) = (word.to_owned(), self.name.clone());
        let place = self.place_of(&word);
        Err(DocumentError { place, fault: Fault::Unknown { word, within, nearest, known: known.join(", ") } })
    }

    /// The text of a key.
    pub fn string(&self, key: &str) -> Result<Option<(String, Place)>, DocumentError> {
        let Some(item) = self.table.get(key) else { return Ok(None) };
        let place = self.value_place(key, item);
        match item.as_str() {
            Some(text) => Ok(Some((text.to_owned(), place))),
            None => Err(self.wrong_type(key, place, "a text in quotes")),
        }
    }

    /// The texts of a key: a list of them, or one alone.
    pub fn strings(&self, key: &str) -> Result<Option<Vec<(String, Place)>>, DocumentError> {
        const RULE: &str = "a list of texts: [\"a\", \"b\"]";
        let Some(item) = self.table.get(key) else { return Ok(None) };
        let place = self.value_place(key, item);
        if let Some(text) = item.as_str() {
            return Ok(Some(vec![(text.to_owned(), place)]));
        }
        let list = item.as_array().ok_or_else(|| self.wrong_type(key, place, RULE))?;
        let text = |value: &Value| {
            let place = value.span().map_or(place, |span| Place::of(self.text, span.start));
            let text = value.as_str().ok_or_else(|| self.wrong_type(key, place, RULE))?;
            Ok((text.to_owned(), place))
        };
        list.iter().map(text).collect::<Result<Vec<_>, _>>().map(Some)
    }

    /// The table under a key.
    pub fn section(&self, key: &str) -> Result<Option<Section<'a>>, DocumentError> {
        self.table.get(key).map(|item| self.table_of(key, item)).transpose()
    }

    /// The tables under a key by their names, sorted as they stand in the text.
    pub fn sections(&self, key: &str) -> Result<Vec<(String, Section<'a>)>, DocumentError> {
        let Some(all) = self.section(key)? else { return Ok(Vec::new()) };
        let named = |(name, item)| Ok((String::from(name), all.table_of(name, item)?));
        all.table.iter().map(named).collect()
    }

    /// The keys of the table under a key, each with its value. The parts of a key may be tables within tables, as TOML
    /// takes `limits.memory` without quotes.
    pub fn pairs(&self, key: &str) -> Result<Vec<Pair>, DocumentError> {
        let mut pairs = Vec::new();
        if let Some(section) = self.section(key)? {
            section.flatten("", &mut pairs)?;
        }
        Ok(pairs)
    }

    fn flatten(&self, before: &str, pairs: &mut Vec<Pair>) -> Result<(), DocumentError> {
        for (key, item) in self.table.iter() {
            let whole = format!("{before}{key}");
            if item.is_table_like() {
                self.table_of(key, item)?.flatten(&format!("{whole}."), pairs)?;
                continue;
            }
            let place = self.place_of(key);
            if pairs.iter().any(|pair| pair.key == whole) {
                return Err(DocumentError::wrong(place, format!("'{whole}' stands there twice")));
            }
            let value = plain(item)
                .ok_or_else(|| self.wrong_type(&whole, place, "a text in quotes, a number, true or false"))?;
            pairs.push(Pair { key: whole, value, place });
        }
        Ok(())
    }

    fn table_of(&self, key: &str, item: &'a Item) -> Result<Section<'a>, DocumentError> {
        let place = self.place_of(key);
        let table = item.as_table_like().ok_or_else(|| self.wrong_type(key, place, "a table"))?;
        Ok(Section { text: self.text, name: format!("'{key}'"), place, table })
    }

    fn place_of(&self, key: &str) -> Place {
        let span = self.table.key(key).and_then(Key::span);
        span.map_or(self.place, |span| Place::of(self.text, span.start))
    }

    fn value_place(&self, key: &str, item: &Item) -> Place {
        item.span().map_or_else(|| self.place_of(key), |span| Place::of(self.text, span.start))
    }

    fn wrong_type(&self, word: &str, place: Place, rule: &'static str) -> DocumentError {
        DocumentError { place, fault: Fault::Type { word: word.to_owned(), rule } }
    }
}

/// A value as it would be typed.
pub(super) fn plain(item: &Item) -> Option<String> {
    let text = item.as_str().map(str::to_owned);
    let number = || item.as_integer().map(|number| number.to_string());
    text.or_else(number).or_else(|| item.as_bool().map(|is| is.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
        let document = Document::parse(text).map_err(|e| e.to_string())?;
        let found = document.root("the file").pairs("config").map_err(|e| e.to_string())?;
        Ok(found.into_iter().map(|pair| (pair.key, pair.value)).collect())
    }

    #[test]
    fn keys_may_stand_in_quotes_in_parts_and_in_tables() {
        let wanted = [("limits.cpu", "2"), ("boot.autostart", "true"), ("user.a.b", "x")];
        let wanted: Vec<_> = wanted.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        for text in [
            "[config]\n\"limits.cpu\" = \"2\"\n\"boot.autostart\" = \"true\"\n\"user.a.b\" = 'x'\n",
            "[config]\nlimits.cpu = 2\nboot.autostart = true\nuser.a.b = \"x\"\n",
            "config = { limits = { cpu = 2 }, boot.autostart = true, user.a.b = \"x\" }\n",
        ] {
            assert_eq!(pairs(text).unwrap(), wanted, "{text}");
        }
        assert_eq!(pairs("").unwrap(), []);
    }

    #[test]
    fn mistakes_have_a_place() {
        for (text, said) in [
            (
                "[config]\nlimits.cpu = 2.5\n",
                "line 2, column 8: 'limits.cpu' must be a text in quotes, a number",
            ),
            ("config = 3\n", "line 1, column 1: 'config' must be a table"),
            ("[config]\n\"a.b\" = 1\na.b = 2\n", "line 3, column 3: 'a.b' stands there twice"),
            ("[config\n", "line 1, column 8: "),
            ("[config]\n a = \n", "line 2, column 6: "),
        ] {
            let error = pairs(text).unwrap_err();
            assert!(error.starts_with(said), "{text}: {error}");
        }
    }

    #[test]
    fn strangers_are_named_with_what_is_meant() {
        let document = Document::parse("a = 1\n\nprofile = [\"x\"]\n").unwrap();
        let error = document.root("the file").only(&["a", "profiles"]).unwrap_err();
        assert_eq!(error.to_string(), "line 3, column 1: there is no 'profile' in the file");
        let facts = crate::model::fault::Fault::facts(&error);
        assert_eq!(facts.hint.unwrap(), "did you mean 'profiles'?");
    }

    #[test]
    fn lists_may_be_one_alone() {
        let document = Document::parse("a = \"x\"\nb = ['x',\n 'y']\nc = [1]\n").unwrap();
        let root = document.root("the file");
        let texts = |key| {
            root.strings(key).unwrap().map(|all| all.into_iter().map(|(text, _)| text).collect::<Vec<_>>())
        };
        assert_eq!(texts("a").unwrap(), ["x"]);
        assert_eq!(texts("b").unwrap(), ["x", "y"]);
        assert_eq!(texts("d"), None);
        assert!(root.strings("c").unwrap_err().to_string().starts_with("line 4, column 6"));
    }
}
