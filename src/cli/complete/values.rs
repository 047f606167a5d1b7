//! What there is that fits, as the database has it at this moment.

use std::ffi::{OsStr, OsString};

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

use super::places::What;
use crate::app::owner::{self, Wish};
use crate::app::{Look, look::Doing};
use crate::model::config;
use crate::model::container::Container;
use crate::model::grant;
use crate::model::limits;
use crate::model::network::NETWORK_KEYS;
use crate::model::nic::NIC_KEYS;

/// A word with a line about it, which some shells show.
type Offer = (String, String);

pub fn completer(what: What) -> ArgValueCompleter {
    ArgValueCompleter::new(move |typed: &OsStr| {
        let Some(typed) = typed.to_str() else { return Vec::new() };
        let words = Words::typed();
        let fits = |(word, about): Offer| {
            let about = (!about.is_empty()).then(|| about.into());
            word.starts_with(typed).then(|| CompletionCandidate::new(word).help(about))
        };
        offers(what, typed, &words).into_iter().filter_map(fits).collect()
    })
}

/// What stands on the line already.
struct Words(Vec<String>);

impl Words {
    /// The shell's scripts give them behind a '--'.
    fn typed() -> Self {
        let all: Vec<OsString> = std::env::args_os().skip_while(|word| word != "--").skip(1).collect();
        Self(all.iter().map(|word| word.to_string_lossy().into_owned()).collect())
    }

    /// Whose containers the line is about.
    fn wish(&self) -> Wish {
        let long = self.0.iter().find_map(|word| word.strip_prefix("--owner=").map(str::to_owned));
        let apart = self.0.iter().skip_while(|word| *word != "--owner").nth(1).cloned();
        Wish { owner: long.or(apart).filter(|owner| !owner.is_empty()), private: super::super::is_private() }
    }

    fn has(&self, word: &str) -> bool {
        self.0.iter().any(|typed| typed == word)
    }
}

fn offers(what: What, typed: &str, words: &Words) -> Vec<Offer> {
    match what {
        What::Anything => Vec::new(),
        What::Account => owner::accounts().into_iter().map(plain).collect(),
        What::Direction => fixed(&["in", "out"]),
        What::DefaultPair => {
            let actions = ["allow", "deny", "reject", "none"];
            ["in", "out"].iter().flat_map(|d| actions.map(|a| plain(format!("{d}={a}")))).collect()
        }
        What::ListColumn => list_columns(typed),
        What::Proto if words.has("forward") => fixed(&["tcp", "udp", "sctp"]),
        What::Proto => fixed(&["tcp", "udp", "sctp", "icmp", "gre", "esp", "ah"]),
        What::Rule => fixed(&["in", "out", "any", "tcp", "udp", "sctp", "icmp", "gre", "esp", "ah"]),
        What::ConfigKey => config_keys(""),
        What::ConfigPair => with_values(typed, config_keys("="), config_values),
        What::NetworkKey => network_keys(""),
        What::NetworkPair => with_values(typed, network_keys("="), network_values),
        What::DeviceKey => device_keys(""),
        What::DevicePair => with_values(typed, device_keys("="), |key| device_values(key, words)),
        What::GrantPair => grant_pairs(),
        _ => of_instance(what, words),
    }
}

fn of_instance(what: What, words: &Words) -> Vec<Offer> {
    let look = look(words);
    match what {
        What::Container | What::Running | What::Up | What::Paused | What::Stopped => {
            containers(&look, what).filter(|(name, _)| !words.has(name)).collect()
        }
        What::ListWord => {
            let states = ["running", "frozen", "stopped"].map(|state| plain(format!("state={state}")));
            let templates = look.templates().into_iter().map(|name| plain(format!("template={name}")));
            let networks = look.networks().into_iter().map(|name| plain(format!("network={name}")));
            let names = containers(&look, What::Container).filter(|(name, _)| !words.has(name));
            names.chain(states).chain(templates).chain(networks).collect()
        }
        What::Template => look.templates().into_iter().map(plain).collect(),
        What::Recipe => look.recipes(),
        What::Buildable => {
            let mut all = look.recipes();
            let known: Vec<Offer> = look.templates().into_iter().map(plain).collect();
            all.retain(|(name, _)| !known.iter().any(|(template, _)| template == name));
            known.into_iter().chain(all).collect()
        }
        What::Network => look.networks().into_iter().map(plain).collect(),
        What::NetworkOrNone => look.networks().into_iter().chain(["none".to_owned()]).map(plain).collect(),
        What::Group => look.groups().into_iter().map(plain).collect(),
        What::Set => look.sets().into_iter().map(plain).collect(),
        What::Peer => look.sets().into_iter().map(|set| plain(format!("set:{set}"))).collect(),
        What::Target | What::DefaultTarget => {
            let networks = look.networks().into_iter().map(|network| plain(format!("network:{network}")));
            let groups = look.groups().into_iter().map(|group| plain(format!("group:{group}")));
            let groups = groups.filter(|_| what == What::Target);
            containers(&look, What::Container).chain(networks).chain(groups).collect()
        }
        What::Device => named(&look, words).map(devices).unwrap_or_default(),
        What::ConfigKeySet => match named(&look, words) {
            Some(container) => container.config.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            None => config_keys(""),
        },
        _ => Vec::new(),
    }
}

fn look(words: &Words) -> Look {
    match super::super::base_instance() {
        Ok(base) => Look::open(&base, &words.wish()),
        Err(_) => Look::nothing(),
    }
}

fn containers(look: &Look, what: What) -> impl Iterator<Item = Offer> {
    let wanted = move |doing| match what {
        What::Running => doing == Doing::Runs,
        What::Up => doing != Doing::Nothing,
        What::Paused => doing == Doing::Paused,
        What::Stopped => doing == Doing::Nothing,
        _ => true,
    };
    let about = |doing, container: &Container| {
        let state = match doing {
            Doing::Runs => "running",
            Doing::Paused => "paused",
            Doing::Nothing => "stopped",
        };
        format!("{state}, {}", super::super::text::line(&container.template_name))
    };
    let all = look.containers().into_iter().filter(move |(_, doing)| wanted(*doing));
    all.map(move |(container, doing)| (container.name.to_string(), about(doing, &container)))
}

/// The container that the line names.
fn named(look: &Look, words: &Words) -> Option<Container> {
    let mut all = look.containers().into_iter().map(|(container, _)| container);
    all.find(|container| words.has(container.name.as_str()))
}

fn devices(container: Container) -> Vec<Offer> {
    let about = |nic: &crate::model::nic::Nic| nic.network().unwrap_or(nic.kind.as_str()).to_owned();
    container.nics.iter().map(|nic| (nic.device.clone(), about(nic))).collect()
}

/// Behind the commas.
fn list_columns(typed: &str) -> Vec<Offer> {
    let before = typed.rsplit_once(',').map(|(before, _)| format!("{before},")).unwrap_or_default();
    let names = super::super::list::COLUMNS.iter().map(|name| (*name).to_owned());
    let keys = config::KEYS.iter().map(|key| key.name.trim_end_matches('*').to_owned());
    names.chain(keys).map(|name| plain(format!("{before}{name}"))).collect()
}

/// Keys with a '=' behind them; behind that, values.
fn with_values(typed: &str, keys: Vec<Offer>, values: impl Fn(&str) -> Vec<String>) -> Vec<Offer> {
    match typed.split_once('=') {
        Some((key, _)) => values(key).into_iter().map(|value| plain(format!("{key}={value}"))).collect(),
        None => keys,
    }
}

/// A family of keys is offered without its star, for a name to be added.
fn config_keys(behind: &str) -> Vec<Offer> {
    let named = |key: &config::Key| match key.name.strip_suffix('*') {
        Some(family) => family.to_owned(),
        None => format!("{}{behind}", key.name),
    };
    config::KEYS.iter().map(|key| (named(key), key.help.to_owned())).collect()
}

fn config_values(key: &str) -> Vec<String> {
    let kind = config::find(key).map(|known| known.kind);
    kind.map(|kind| kind.words().iter().map(|word| (*word).to_owned()).collect()).unwrap_or_default()
}

fn grant_pairs() -> Vec<Offer> {
    let keys = grant::KEYS.iter().map(|key| format!("{key}="));
    let resources = limits::RLIMITS.iter().map(|name| format!("kernel.{name}="));
    keys.chain(resources).map(plain).collect()
}

fn network_keys(behind: &str) -> Vec<Offer> {
    let all = NETWORK_KEYS.iter().map(|(key, _, help)| (*key, *help));
    all.map(|(key, help)| keyed(key, behind, help)).collect()
}

fn device_keys(behind: &str) -> Vec<Offer> {
    let all = NIC_KEYS.iter().map(|(key, _, help)| (*key, *help));
    all.map(|(key, help)| keyed(key, behind, help)).collect()
}

fn keyed(key: &str, behind: &str, help: &str) -> Offer {
    match key.strip_suffix('*') {
        Some(family) => (family.to_owned(), help.to_owned()),
        None => (format!("{key}{behind}"), help.to_owned()),
    }
}

fn network_values(key: &str) -> Vec<String> {
    let default = NETWORK_KEYS.iter().find(|(known, _, _)| *known == key).map(|(_, default, _)| *default);
    match (key, default) {
        (_, Some("true" | "false")) => words_of(&["true", "false"]),
        ("ipv4.address" | "ipv6.address", _) => words_of(&["auto", "none"]),
        ("parent", _) => interfaces(),
        _ => Vec::new(),
    }
}

fn device_values(key: &str, words: &Words) -> Vec<String> {
    let default = NIC_KEYS.iter().find(|(known, _, _)| *known == key).map(|(_, default, _)| *default);
    match (key, default) {
        (_, Some("true" | "false")) => words_of(&["true", "false"]),
        ("nictype", _) => words_of(&["bridged", "macvlan", "routed"]),
        ("network", _) => look(words).networks(),
        ("ipv4.address" | "ipv6.address", _) => words_of(&["none"]),
        ("parent", _) => interfaces(),
        _ => Vec::new(),
    }
}

/// The host's.
fn interfaces() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn words_of(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn fixed(words: &[&str]) -> Vec<Offer> {
    words.iter().map(|word| plain((*word).to_owned())).collect()
}

fn plain(word: String) -> Offer {
    (word, String::new())
}
