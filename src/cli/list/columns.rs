//! The columns of the list of containers.

use super::Listed;
use crate::app::AppError;
use crate::cli::report::CliResult;
use crate::cli::time;
use crate::model::config;
use crate::model::suggest;

/// What a column shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Column {
    Known(&'static str),
    /// What holds of a key of the configuration.
    Key(String),
}

/// Whoever chooses has these, and keys of the configuration.
pub const NAMES: [&str; 11] =
    ["name", "owner", "state", "ipv4", "ipv6", "addresses", "networks", "template", "pid", "created", "id"];
/// A narrow terminal does without, the first goes first.
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
            return config::known(text).map(|_| Self::Key(text.to_owned())).map_err(|e| e.to_string());
        }
        let nearest = suggest::nearest(text, NAMES.iter().copied());
        let meant = nearest.map(|name| format!("did you mean '{name}'? ")).unwrap_or_default();
        Err(format!("{meant}There are {}, and keys of the configuration", NAMES.join(", ")))
    }

    /// Those that are shown where nobody chose; everybody's containers with whose they are.
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

    /// For people addresses and times are short, for programs whole.
    pub fn cell(&self, listed: &Listed, now: Option<i64>) -> String {
        let container = &listed.container;
        match self {
            Self::Key(key) => listed.effective(key),
            Self::Known("name") => container.name.clone(),
            Self::Known("owner") => container.owner.clone().unwrap_or_default(),
            Self::Known("state") => container.state.clone(),
            Self::Known(version @ ("ipv4" | "ipv6")) => addresses(listed, *version == "ipv6", now.is_some()),
            Self::Known("addresses") => container.addresses.join(" "),
            Self::Known("networks") => container.networks.join(" "),
            Self::Known("template") => container.template.clone(),
            Self::Known("pid") => container.pid.map(|pid| pid.to_string()).unwrap_or_default(),
            Self::Known("created") => match now {
                Some(now) => time::age(now, listed.created),
                None => container.created_at.clone(),
            },
            Self::Known("id") => container.id.clone(),
            Self::Known(_) => String::new(),
        }
    }
}

/// Of one kind, without prefix lengths: the first, and how many there are besides.
fn addresses(listed: &Listed, ipv6: bool, short: bool) -> String {
    let all = listed.container.addresses.iter().map(|net| net.split('/').next().unwrap_or_default());
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
