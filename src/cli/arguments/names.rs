//! Names of containers as they are typed: themselves, or patterns such as `web*`.

use crate::app::{AppError, Look};
use crate::cli::error::CliResult;
use crate::cli::several::child;
use crate::cli::verbs::list::{is_pattern, pattern};
use crate::model::name::Name;
use crate::model::natural;

/// Which containers a verb works on.
#[derive(clap::Args)]
pub struct Containers {
    /// The containers; a pattern such as 'web*' stands for those whose names match
    #[arg(value_name = "NAME", required_unless_present = "all")]
    names: Vec<String>,
    /// All containers
    #[arg(long, conflicts_with = "names")]
    all: bool,
}

impl Containers {
    /// Every one once. All may be none.
    pub fn names(&self) -> CliResult<Vec<Name>> {
        if self.all { all() } else { expand(&self.names) }
    }
}

/// Every name once, in the order given, with the matches of a pattern in its place. Names need not exist; a
/// pattern must match some.
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

/// Looked up in a child: looking takes becoming the owner, and root is needed afterwards.
fn all() -> CliResult<Vec<Name>> {
    child::in_child("list the containers", || {
        let containers = Look::open(&crate::cli::base_instance()?, &crate::cli::wish()).containers();
        let mut all: Vec<Name> = containers.into_iter().map(|(container, _)| container.name).collect();
        all.sort_by(|a, b| natural::compare(a.as_str(), b.as_str()));
        Ok(all)
    })
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
