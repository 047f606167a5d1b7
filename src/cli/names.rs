//! Names of containers as they are typed: themselves, or patterns such as `web*`.

use std::io::Read;

use super::list::{is_pattern, pattern};
use super::report::{CliError, CliResult, DONE};
use crate::app::{AppError, Look};
use crate::model::name::Name;
use crate::model::natural;
use crate::sys::Context;
use crate::sys::clone::{self, CloneSpec};

/// Every name once, in the order given, with those that a pattern fits in its place. Names need
/// not be there; a pattern must fit some.
pub fn expand(words: &[String]) -> CliResult<Vec<Name>> {
    let all = if words.iter().any(|word| is_pattern(word)) { all()? } else { Vec::new() };
    let mut found: Vec<Name> = Vec::new();
    for word in words {
        let meant = if is_pattern(word) { fitting(word, &all)? } else { vec![Name::new(word)?] };
        for name in meant {
            if !found.contains(&name) {
                found.push(name);
            }
        }
    }
    Ok(found)
}

fn fitting(word: &str, all: &[Name]) -> CliResult<Vec<Name>> {
    let pattern = pattern(word)?;
    let found: Vec<Name> = all.iter().filter(|name| pattern.matches(name.as_str())).cloned().collect();
    match found.is_empty() {
        true => Err(AppError::Refused(format!("no container's name fits '{word}'")).into()),
        false => Ok(found),
    }
}

/// Looked up in a child: whoever looks becomes the owner, and root is needed afterwards.
fn all() -> CliResult<Vec<Name>> {
    let base = super::base_instance()?;
    let wish = super::WISH.get().cloned().unwrap_or_default();
    let (mut reader, writer) = std::io::pipe().cannot(|| "make a pipe").map_err(CliError::Fork)?;
    let child = clone::fork(&CloneSpec::default(), || {
        let all: Vec<Name> = Look::open(&base, &wish).containers().into_iter().map(|(c, _)| c.name).collect();
        i32::from(serde_json::to_writer(&writer, &all).is_err())
    });
    let child = child.map_err(CliError::Fork)?;
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).map_err(CliError::Relay)?;
    if child.wait().map_err(CliError::Fork)?.code() != DONE {
        return Err(AppError::Refused("the names of the containers cannot be read".to_owned()).into());
    }
    let mut all: Vec<Name> = serde_json::from_str(&text).map_err(|e| CliError::Relay(e.into()))?;
    all.sort_by(|a, b| natural::compare(a.as_str(), b.as_str()));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_once_and_all_checked() {
        let words = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let found = expand(&words(&["b", "a", "b"])).unwrap();
        assert_eq!(found.iter().map(Name::as_str).collect::<Vec<_>>(), ["b", "a"]);
        assert!(expand(&words(&["a", "No!"])).is_err());
    }

    #[test]
    fn a_pattern_fits_whole_names() {
        let all: Vec<Name> = ["web1", "web2", "db"].iter().map(|name| Name::new(name).unwrap()).collect();
        assert_eq!(fitting("web*", &all).unwrap(), all[..2]);
        assert_eq!(fitting("d?", &all).unwrap(), all[2..]);
        assert!(fitting("we", &all).is_err() && fitting("x*", &all).is_err());
    }
}
