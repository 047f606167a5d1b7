//! Which containers are listed.

use glob::Pattern;

use crate::api::containers::Container;
use crate::app::AppError;
use crate::cli::error::CliResult;
use crate::model::config::CONFIG_KEYS;
use crate::model::name::Name;
use crate::model::suggest;

/// Words of the command line: names, patterns of names, and KEY=VALUE.
#[derive(Debug, Default)]
pub struct Filter {
    /// Each of them must be there.
    pub names: Vec<Name>,
    patterns: Vec<Pattern>,
    /// Every one must hold, with one of its values.
    wanted: Vec<(String, Vec<Pattern>)>,
}

const STATES: [&str; 4] = ["running", "frozen", "stopped", "busy"];
/// What is asked for besides keys of the configuration.
const KEYS: [&str; 9] =
    ["state", "name", "template", "network", "profile", "storage", "address", "id", "owner"];

impl Filter {
    pub fn parse(words: &[String]) -> CliResult<Self> {
        let mut filter = Self::default();
        for word in words {
            match word.split_once('=') {
                Some((key, values)) => filter.want(key, values)?,
                None if is_pattern(word) => filter.patterns.push(pattern(word)?),
                None => filter.names.push(Name::new(word)?),
            }
        }
        Ok(filter)
    }

    fn want(&mut self, key: &str, values: &str) -> Result<(), AppError> {
        if !KEYS.contains(&key) {
            CONFIG_KEYS.known(key).map_err(|e| match suggest::nearest(key, KEYS.into_iter()) {
                Some(nearest) => {
                    AppError::Refused(format!("nothing is listed by '{key}': did you mean '{nearest}'?"))
                }
                None => e.into(),
            })?;
        }
        // A value of the configuration may hold a comma.
        let apart: Vec<&str> = if KEYS.contains(&key) { values.split(',').collect() } else { vec![values] };
        for state in apart.iter().filter(|state| key == "state" && !is_pattern(state)) {
            if !STATES.contains(state) && *state != "paused" && *state != "unknown" {
                let all = STATES.join(", ");
                return Err(AppError::Refused(format!("there is no state '{state}': there are {all}")));
            }
        }
        let apart =
            apart.iter().map(|value| if *value == "paused" && key == "state" { "frozen" } else { value });
        let patterns = apart.map(pattern).collect::<Result<Vec<_>, _>>()?;
        match self.wanted.iter_mut().find(|(known, _)| known == key) {
            Some((_, known)) => known.extend(patterns),
            None => self.wanted.push((key.to_owned(), patterns)),
        }
        Ok(())
    }

    /// Whether the filter takes only named containers, so that the others need not be looked at.
    pub fn is_names_only(&self) -> bool {
        self.patterns.is_empty() && !self.names.is_empty()
    }

    /// A container that is named must be there.
    pub fn check_named(&self, all: &[Container]) -> Result<(), AppError> {
        let is_missing = |name: &&Name| !all.iter().any(|listed| listed.name == name.as_str());
        match self.names.iter().find(is_missing) {
            Some(name) => {
                let nearest = suggest::nearest(name.as_str(), all.iter().map(|l| l.name.as_str()));
                Err(AppError::NoContainer { name: name.clone(), nearest: nearest.map(str::to_owned) })
            }
            None => Ok(()),
        }
    }

    pub fn takes(&self, container: &Container) -> bool {
        let name = &container.name;
        let named = (self.names.is_empty() && self.patterns.is_empty())
            || self.names.iter().any(|known| known.as_str() == name)
            || self.patterns.iter().any(|pattern| pattern.matches(name));
        let holds = |key: &str, patterns: &[Pattern]| {
            let values = values(key, container);
            patterns.iter().any(|pattern| values.iter().any(|value| pattern.matches(value)))
        };
        named && self.wanted.iter().all(|(key, patterns)| holds(key, patterns))
    }
}

/// The values of a key; one of several may match.
fn values(key: &str, container: &Container) -> Vec<String> {
    match key {
        "state" => vec![container.state.clone()],
        "name" => vec![container.name.clone()],
        "template" => vec![container.template.clone()],
        "storage" => vec![container.storage.clone()],
        "network" => container.networks.clone(),
        "profile" => container.profiles.clone(),
        "address" => {
            let bare = container.addresses.iter().filter_map(|net| net.split('/').next());
            bare.map(str::to_owned).chain(container.addresses.iter().cloned()).collect()
        }
        "id" => vec![container.id.clone()],
        "owner" => container.owner.clone().into_iter().collect(),
        key => vec![container.effective(key)],
    }
}

/// Whether a word is a pattern of names.
pub fn is_pattern(word: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.*?[]!".contains(c);
    word.contains(['*', '?', '[']) && word.chars().all(fits)
}

pub fn pattern(text: &str) -> Result<Pattern, AppError> {
    Pattern::new(text).map_err(|e| AppError::Refused(format!("'{text}' is not a pattern: {}", e.msg)))
}
