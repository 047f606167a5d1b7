//! The names and values that fit, as the database has them at this moment.

use std::ffi::{OsStr, OsString};

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

use super::places::What;
use crate::app::Look;
use crate::app::instance::look::Doing;
use crate::app::instance::owner;
use crate::app::instance::owner::Wish;
use crate::model::config::CONFIG_KEYS;
use crate::model::container::Container;
use crate::model::device::{DISK_KEYS, PROXY_KEYS, UNIX_CHAR_KEYS};
use crate::model::grant::GRANT_KEYS;
use crate::model::keys::{Subject, Table, Words as Values};
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

/// The words that are on the line already.
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
        Wish {
            owner: long.or(apart).filter(|owner| !owner.is_empty()),
            daemonless: crate::cli::is_daemonless(),
        }
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
        What::Profiles => behind_commas(typed, look(words).profiles()),
        What::Proto if words.has("forward") => fixed(&["tcp", "udp", "sctp"]),
        What::Proto => fixed(&["tcp", "udp", "sctp", "icmp", "gre", "esp", "ah"]),
        What::Rule => fixed(&["in", "out", "any", "tcp", "udp", "sctp", "icmp", "gre", "esp", "ah"]),
        What::ConfigKey => keys(&CONFIG_KEYS, ""),
        What::ConfigPair => key_pairs(&CONFIG_KEYS, typed, words),
        What::NetworkKey => keys(&NETWORK_KEYS, ""),
        What::NetworkPair => key_pairs(&NETWORK_KEYS, typed, words),
        What::DeviceKey => {
            [keys(&NIC_KEYS, ""), keys(&DISK_KEYS, ""), keys(&UNIX_CHAR_KEYS, ""), keys(&PROXY_KEYS, "")]
                .concat()
        }
        What::DevicePair if words.has("disk") => key_pairs(&DISK_KEYS, typed, words),
        What::DevicePair if words.has("proxy") => key_pairs(&PROXY_KEYS, typed, words),
        What::DevicePair if words.has("unix-char") => key_pairs(&UNIX_CHAR_KEYS, typed, words),
        What::DevicePair => key_pairs(&NIC_KEYS, typed, words),
        What::GrantPair => key_pairs(&GRANT_KEYS, typed, words),
        _ => of_instance(what, typed, words),
    }
}

fn of_instance(what: What, typed: &str, words: &Words) -> Vec<Offer> {
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
        What::Volume => look.volumes().into_iter().map(plain).collect(),
        What::Pool => look.pools().into_iter().map(plain).collect(),
        What::Profile => look.profiles().into_iter().map(plain).collect(),
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
        What::Snapshot => named(&look, words).map(|found| snapshots(&look, &found, "")).unwrap_or_default(),
        What::Source => {
            let all = look.containers().into_iter().map(|(container, _)| container);
            let both = all.flat_map(|found| {
                let before = format!("{}/", found.name);
                let of_it = snapshots(&look, &found, &before);
                std::iter::once(plain(found.name.to_string())).chain(of_it)
            });
            both.filter(|(word, _)| typed.contains('/') || !word.contains('/')).collect()
        }
        What::ContainerPath => {
            look.containers().into_iter().map(|(found, _)| plain(format!("{}/", found.name))).collect()
        }
        What::Device => named(&look, words).map(devices).unwrap_or_default(),
        What::ConfigKeySet => match named(&look, words) {
            Some(container) => {
                container.config.own().iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
            }
            None => keys(&CONFIG_KEYS, ""),
        },
        _ => Vec::new(),
    }
}

fn look(words: &Words) -> Look {
    match crate::cli::base_instance() {
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
        format!("{state}, {}", crate::cli::output::text::line(&container.template_name))
    };
    let all = look.containers().into_iter().filter(move |(_, doing)| wanted(*doing));
    all.map(move |(container, doing)| (container.name.to_string(), about(doing, &container)))
}

/// The container that the line names.
fn named(look: &Look, words: &Words) -> Option<Container> {
    let mut all = look.containers().into_iter().map(|(container, _)| container);
    all.find(|container| words.has(container.name.as_str()))
}

/// The snapshots of a container, each with `before` in front of it.
fn snapshots(look: &Look, container: &Container, before: &str) -> Vec<Offer> {
    let all = look.snapshots(&container.id).into_iter();
    all.map(|snapshot| (format!("{before}{}", snapshot.name), snapshot.comment.unwrap_or_default())).collect()
}

fn devices(container: Container) -> Vec<Offer> {
    let about = |nic: &crate::model::nic::Nic| nic.network().unwrap_or(nic.kind.as_str()).to_owned();
    let nics = container.nics.iter().map(|nic| (nic.device.clone(), about(nic)));
    let others = container.all_devices().into_iter();
    nics.chain(others.map(|(other, _)| (other.name.clone(), other.path().to_owned()))).collect()
}

fn list_columns(typed: &str) -> Vec<Offer> {
    let names = crate::cli::verbs::list::COLUMNS.iter().map(|name| (*name).to_owned());
    let keys = CONFIG_KEYS.keys.iter().map(|key| key.name.trim_end_matches('*').to_owned());
    behind_commas(typed, names.chain(keys))
}

/// Each word after those that are typed already.
fn behind_commas(typed: &str, words: impl IntoIterator<Item = String>) -> Vec<Offer> {
    let before = typed.rsplit_once(',').map(|(before, _)| format!("{before},")).unwrap_or_default();
    words.into_iter().map(|word| plain(format!("{before}{word}"))).collect()
}

/// A table's keys. A family is offered without its star, for a name to be added.
fn keys<S: Subject>(table: &Table<S>, behind: &str) -> Vec<Offer> {
    let offer = |key: &crate::model::keys::Key<S>| match key.family() {
        Some(family) => (family.to_owned(), key.help.to_owned()),
        None => (format!("{}{behind}", key.name), key.help.to_owned()),
    };
    table.keys.iter().map(offer).collect()
}

/// Keys with a '=' after them; after that, values.
fn key_pairs<S: Subject>(table: &Table<S>, typed: &str, words: &Words) -> Vec<Offer> {
    let Some((key, _)) = typed.split_once('=') else { return keys(table, "=") };
    let values = match table.find(key).map(|known| known.kind.words) {
        Some(Values::These(these)) => these.iter().map(|word| (*word).to_owned()).collect(),
        Some(Values::Networks) => look(words).networks(),
        Some(Values::Interfaces) => interfaces(),
        None => Vec::new(),
    };
    values.into_iter().map(|value| plain(format!("{key}={value}"))).collect()
}

/// The host's.
fn interfaces() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn fixed(words: &[&str]) -> Vec<Offer> {
    words.iter().map(|word| plain((*word).to_owned())).collect()
}

fn plain(word: String) -> Offer {
    (word, String::new())
}
