//! The message for wrong usage: clap's words, with advice that fits.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};

use crate::model::config::CONFIG_KEYS;
use crate::model::suggest;

/// Verbs that users know from other tools, and what is here instead.
const STRANGERS: &[(&str, &str)] = &[
    ("snapshots", "nagaya snapshot list NAME"),
    ("restore rollback", "nagaya snapshot restore NAME SNAPSHOT"),
    ("clone", "nagaya copy NAME NEW"),
    ("reinstall", "nagaya rebuild NAME [TEMPLATE]"),
    ("export backup vzdump", "nagaya has no backups yet"),
    ("commit", "nagaya publish NAME --as TEMPLATE"),
    ("cp push pull", "nagaya file push FILE NAME/PATH, nagaya file pull NAME/PATH TARGET"),
    ("image", "images are called templates: nagaya template list"),
    ("profiles", "nagaya profile list"),
    ("project", "nagaya has no projects; each user's containers are apart: nagaya list --all-owners"),
    ("remote cluster", "nagaya is about this host only"),
    ("pool volume", "nagaya has one pool, and no volumes yet; 'nagaya doctor' shows what it uses"),
    ("init", "nothing needs to be set up first: nagaya launch debian12 web01"),
    ("attach", "nagaya console NAME"),
    ("enter", "nagaya shell NAME"),
    ("inspect show", "nagaya info NAME"),
    ("status", "nagaya list"),
    ("stats monitor", "nagaya top"),
    ("kill", "nagaya stop --force NAME"),
    ("destroy", "nagaya delete NAME"),
    ("freeze", "nagaya pause NAME"),
    ("unfreeze unpause thaw", "nagaya resume NAME"),
    ("pull build", "nagaya template build NAME"),
    ("set", "nagaya config set NAME KEY=VALUE"),
    ("config device", "nagaya device add NAME DEVICE nic KEY=VALUE"),
    ("network edit", "nagaya has no editor for it: nagaya network set NAME KEY=VALUE"),
];

/// Options that users know from other tools, by verb.
const OPTIONS: &[(&str, &str, &str)] = &[
    ("list", "-a --all", "stopped containers are listed anyway; everybody's: nagaya list --all-owners"),
    ("delete", "-y --yes", "nagaya does not ask; what runs is deleted with --force"),
    ("launch create", "--memory -m", "-c limits.memory=512MiB"),
    ("launch create", "--cpus --cpu", "-c limits.cpu=2"),
    ("launch create", "-e --env", "-c environment.NAME=VALUE"),
    ("launch create", "--publish", "nagaya forward add NAME tcp 8080:80, once it is there"),
    ("launch create", "-v --volume --mount", "-d data,type=disk,source=/DIR,path=/PATH"),
    ("launch create", "--detach", "it runs in the background anyway"),
    ("launch create", "--name", "the name comes last: nagaya launch debian12 web01"),
    ("launch create", "--rm --ephemeral", "nagaya has no ephemeral containers yet"),
    ("launch create", "-n", "--network NETWORK"),
];

/// `error` with clap's advice where it fits, and ours where that misleads. `whole` is the command line as
/// it is defined.
pub fn advised(mut error: Error, words: &[String], whole: &Command) -> Error {
    // Clap's advice to put a word after '--' is hardly ever right here.
    error.remove(ContextKind::Suggested);
    let path = path(words, whole);
    if error.kind() == ErrorKind::InvalidSubcommand {
        let unknown = text(&error, ContextKind::InvalidSubcommand);
        error.remove(ContextKind::SuggestedSubcommand);
        if stranger(&path, &unknown).is_none()
            && let Some(nearest) = nearest_verb(&path, &unknown, whole)
        {
            error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![nearest]));
        }
    }
    if let Some(hint) = hint(&error, &path, words) {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![hint.into()]));
    }
    error
}

fn hint(error: &Error, path: &str, words: &[String]) -> Option<String> {
    match error.kind() {
        ErrorKind::InvalidSubcommand => stranger(path, &text(error, ContextKind::InvalidSubcommand)),
        ErrorKind::UnknownArgument => {
            let unknown = text(error, ContextKind::InvalidArg);
            let known = OPTIONS.iter().find(|(verbs, options, _)| {
                verbs.split(' ').any(|verb| verb == path)
                    && options.split(' ').any(|option| option == unknown)
            });
            let advice = known.map(|(_, _, advice)| (*advice).to_owned());
            advice.or_else(|| words.iter().find_map(|word| key_apart(word, words)))
        }
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            let (arg, value) = (text(error, ContextKind::InvalidArg), text(error, ContextKind::InvalidValue));
            if arg.contains("<SECONDS>") {
                return Some("it must be a number of seconds".to_owned());
            }
            if path.ends_with("device add") && arg.contains("<TYPE>") {
                return Some(device_type(&value));
            }
            key_apart(&value, words)
        }
        ErrorKind::ArgumentConflict if path == "exec" => {
            Some("a program that is left running has neither terminal nor input: -d alone".to_owned())
        }
        ErrorKind::MissingRequiredArgument => words.iter().find_map(|word| key_apart(word, words)),
        _ => None,
    }
}

/// What to use instead of a kind of device that nagaya does not have.
fn device_type(kind: &str) -> String {
    match kind {
        "volume" | "mount" => {
            "directories of the host are disks: nagaya device add web01 data disk source=/DIR path=/PATH"
        }
        "gpu" | "usb" | "pci" | "tpm" | "infiniband" | "unix-block" | "unix-hotplug" => {
            "such devices stay with the host; of its nodes guests can have /dev/kvm: \
             nagaya device add web01 kvm unix-char source=/dev/kvm"
        }
        "bridged" | "routed" | "macvlan" => {
            "that is a kind of nic: nagaya device add web01 eth1 nic nictype=KIND KEY=VALUE"
        }
        _ if kind.contains('=') => {
            "the type is missing before the keys: nagaya device add web01 eth1 nic KEY=VALUE"
        }
        _ => "the types are nic, disk, unix-char, proxy and none: nagaya device add web01 eth1 nic network=NAME",
    }
    .to_owned()
}

/// A key whose value was typed as a word of its own.
fn key_apart(key: &str, words: &[String]) -> Option<String> {
    let known = !key.contains('=') && key.contains('.') && CONFIG_KEYS.find(key).is_some();
    let value = words.iter().skip_while(|word| *word != key).nth(1).filter(|_| known)?;
    Some(format!("the value stands behind a '=': {key}={value}"))
}

fn stranger(path: &str, verb: &str) -> Option<String> {
    let whole = format!("{path} {verb}");
    let whole = whole.trim();
    let known = STRANGERS.iter().find(|(verbs, _)| {
        *verbs == whole
            || (path.is_empty()
                && verbs.split(' ').any(|known| known == verb)
                && !verbs.starts_with("config ")
                && !verbs.starts_with("network "))
    });
    known.map(|(_, advice)| (*advice).to_owned())
}

fn nearest_verb(path: &str, unknown: &str, whole: &Command) -> Option<String> {
    let command = path.split_whitespace().try_fold(whole, |command, verb| command.find_subcommand(verb))?;
    let shown = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    let names: Vec<&str> = shown.flat_map(|verb| verb.get_name_and_visible_aliases()).collect();
    suggest::nearest(unknown, names.into_iter()).map(str::to_owned)
}

/// The verbs that were understood.
fn path(words: &[String], whole: &Command) -> String {
    let mut command = whole;
    let mut path = Vec::new();
    let mut is_value = false;
    for word in words {
        if std::mem::take(&mut is_value) || word.starts_with('-') {
            is_value = word == "--owner";
            continue;
        }
        match command.find_subcommand(word) {
            Some(verb) => command = verb,
            None => break,
        }
        path.push(command.get_name().to_owned());
    }
    path.join(" ")
}

fn text(error: &Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    }
}
