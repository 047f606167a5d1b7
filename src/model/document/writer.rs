//! Bringing a text up to date without touching what people wrote beside the values.

use std::collections::BTreeMap;

use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value};

use super::reader::plain;
use crate::model::config::Config;

/// Gives the table `key` of a document just the keys of `config`.
pub(super) fn put_pairs(document: &mut DocumentMut, key: &str, config: &Config) {
    let mut wanted: BTreeMap<&str, &str> = config.iter().collect();
    if !document.get(key).is_some_and(Item::is_table_like) {
        document.insert(key, Item::Table(Table::new()));
    }
    let Some(table) = document.get_mut(key).and_then(Item::as_table_like_mut) else { return };
    keep(table, "", &mut wanted);
    put_new(table, wanted);
}

/// Adds what `keep` has not found.
pub(super) fn put_new(table: &mut dyn TableLike, wanted: BTreeMap<&str, &str>) {
    for (key, value) in wanted {
        table.insert(key, toml_edit::value(value));
    }
}

/// Sets what is wanted where it stands, and removes the rest; what it finds is no longer among the wanted.
pub(super) fn keep(table: &mut dyn TableLike, before: &str, wanted: &mut BTreeMap<&str, &str>) {
    let keys: Vec<String> = table.iter().map(|(key, _)| key.to_owned()).collect();
    for key in keys {
        let whole = format!("{before}{key}");
        let Some(item) = table.get_mut(&key) else { continue };
        let gone = match item.as_table_like_mut() {
            Some(inner) => {
                keep(inner, &format!("{whole}."), wanted);
                inner.is_empty()
            }
            None => match wanted.remove(whole.as_str()) {
                Some(value) => {
                    put(item, value);
                    false
                }
                None => true,
            },
        };
        if gone {
            table.remove(&key);
        }
    }
}

/// Gives an item another text, if it has not that one already.
fn put(item: &mut Item, text: &str) {
    if plain(item).as_deref() != Some(text) {
        replace(item, text.into());
    }
}

/// With the comment that stands behind it.
fn replace(item: &mut Item, mut value: Value) {
    if let Some(old) = item.as_value() {
        *value.decor_mut() = old.decor().clone();
    }
    *item = Item::Value(value);
}

/// Gives the key of a document this text, or takes it away where there is none.
pub(super) fn put_string(document: &mut DocumentMut, key: &str, text: &str) {
    match document.get_mut(key) {
        Some(item) if item.is_value() => put(item, text),
        _ => drop(document.insert(key, toml_edit::value(text))),
    }
}

/// Gives the key of a document this list.
pub(super) fn put_strings(document: &mut DocumentMut, key: &str, texts: &[&str]) {
    let list = || texts.iter().copied().collect::<Array>();
    let is_same = |old: &Array| old.iter().filter_map(Value::as_str).eq(texts.iter().copied());
    match document.get_mut(key) {
        Some(item) if item.as_array().is_some_and(is_same) => {}
        Some(item) if item.is_value() => replace(item, Value::Array(list())),
        _ => drop(document.insert(key, toml_edit::value(list()))),
    }
}
