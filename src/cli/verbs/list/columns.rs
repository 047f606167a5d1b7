//! The columns of the list of containers.

use crate::api::containers::Container;
use crate::app::AppError;
use crate::cli::error::CliResult;
use crate::cli::output::time;
use crate::model::config::CONFIG_KEYS;
use crate::model::suggest;

/// What a column shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Column {
    Known(&'static str),
    /// The effective value of a key of the configuration.
    Key(String),
}

/// The columns that can be chosen, besides keys of the configuration.
pub const NAMES: [&str; 13] = [
    "name",
    "owner",
    "state",
    "ipv4",
    "ipv6",
    "addresses",
    "networks",
    "profiles",
    "template",
    "storage",
    "pid",
    "created",
    "id",
];
/// Columns that a narrow terminal leaves out, the first one first.
pub const OPTIONAL: &[&str] = &["pid", "created", "template", "ipv6"];

const USUAL: [&str; 6] = ["name", "state", "ipv4", "ipv6", "template", "created"];
const WIDE: [&str; 8] = ["name", "state", "ipv4", "ipv6", "networks", "template", "pid", "created"];

impl Column {
    /// # Errors
    /// For who reads help: which there are.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(name) = NAMES.iter().find(|name| **name == text) {
            return Ok(Self::Known(name));
        }
        if text.contains('.') {
            return CONFIG_KEYS.known(text).map(|_| Self::Key(text.to_owned())).map_err(|e| e.to_string());
        }
        let nearest = suggest::nearest(text, NAMES.iter().copied());
        let meant = nearest.map(|name| format!("did you mean '{name}'? ")).unwrap_or_default();
        Err(format!("{meant}There are {}, and keys of the configuration", NAMES.join(", ")))
    }

    /// The usual columns; in a list of everybody's containers, with the owner.
    pub fn usual(wide: bool, with_owner: bool) -> Vec<Self> {
        let owner = with_owner.then_some("owner").into_iter();
        let names: &[&'static str] = if wide { &WIDE } else { &USUAL };
        owner.chain(names.iter().copied()).map(Self::Known).collect()
    }

    pub fn title(&self) -> &str {
        match self {
            Self::Known(name) => name,
            Self::Key(key) => key,
        }
    }

    /// In tables, addresses and times are short; in CSV they are complete.
    pub fn cell(&self, container: &Container, now: Option<i64>) -> String {
        match self {
            Self::Key(key) => container.effective(key),
            Self::Known("name") => container.name.clone(),
            Self::Known("owner") => container.owner.clone().unwrap_or_default(),
            Self::Known("state") => container.state.clone(),
            Self::Known(version @ ("ipv4" | "ipv6")) => {
                addresses(container, *version == "ipv6", now.is_some())
            }
            Self::Known("addresses") => container.addresses.join(" "),
            Self::Known("networks") => container.networks.join(" "),
            Self::Known("profiles") => container.profiles.join(","),
            Self::Known("template") => container.template.clone(),
            Self::Known("storage") => container.storage.clone(),
            Self::Known("pid") => container.pid.map(|pid| pid.to_string()).unwrap_or_default(),
            Self::Known("created") => match now {
                Some(now) => time::age(now, container.created_at.0),
                None => container.created_at.to_string(),
            },
            Self::Known("id") => container.id.clone(),
            Self::Known(_) => String::new(),
        }
    }
}

/// The addresses of one family without prefix lengths; `short`: the first, and how many more there are.
fn addresses(container: &Container, ipv6: bool, short: bool) -> String {
    let all = container.addresses.iter().map(|net| net.split('/').next().unwrap_or_default());
    let own: Vec<&str> = all.filter(|address| address.contains(':') == ipv6).collect();
    match own.as_slice() {
        [first, _, ..] if short => format!("{first} +{}", own.len() - 1),
        _ => own.join(" "),
    }
}

/// All that `--columns` was given.
pub fn chosen(texts: &[String]) -> CliResult<Vec<Column>> {
    let all = texts.iter().flat_map(|text| text.split(',')).filter(|text| !text.is_empty());
    let all = all.map(|text| {
        Column::parse(text).map_err(|why| AppError::Refused(format!("there is no column '{text}': {why}")))
    });
    Ok(all.collect::<Result<_, _>>()?)
}
