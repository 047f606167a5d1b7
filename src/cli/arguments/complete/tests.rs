use clap::{Arg, Command, CommandFactory, ValueHint};

use super::answer::{VARIABLE, scripts, shown};
use super::places;
use crate::cli::command::Cli;

/// Values that nobody can guess: numbers, times, addresses, texts.
const FREE: &str = "timeout ip address env cwd user id_ranges subnet seconds reason at note from to dport number \
                    ports members addresses unit wait interval confirm lines since";

fn arguments(command: &Command, path: &str, found: &mut Vec<(String, Arg)>) {
    for arg in command.get_arguments().filter(|arg| arg.get_action().takes_values() && !arg.is_hide_set()) {
        found.push((path.to_owned(), arg.clone()));
    }
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        arguments(verb, format!("{path} {}", verb.get_name()).trim_start(), found);
    }
}

#[test]
fn every_argument_is_completed_or_free() {
    let mut found = Vec::new();
    arguments(&Cli::command(), "", &mut found);
    for (path, arg) in &found {
        let id = arg.get_id().as_str();
        let known = places::what(path, id).is_some()
            || !arg.get_possible_values().is_empty()
            || arg.get_value_hint() == ValueHint::AnyPath
            || FREE.split_whitespace().any(|free| free == id);
        assert!(known, "'{path}' {id}: say in places.rs what it may be");
    }
    assert!(found.len() > 60);
}

#[test]
fn nothing_hidden_is_left() {
    fn check(command: &Command) {
        assert!(!command.is_hide_set(), "{}", command.get_name());
        assert!(command.get_arguments().all(|arg| !arg.is_hide_set()), "{}", command.get_name());
        command.get_subcommands().for_each(check);
    }
    let command = shown(&Cli::command(), &mut Vec::new());
    check(&command);
    assert!(command.find_subcommand("launch").is_some() && command.find_subcommand("broker").is_none());
}

#[test]
fn scripts_ask_the_program() {
    let scripts = scripts().unwrap();
    assert_eq!(
        scripts.iter().map(|(_, file, _)| *file).collect::<Vec<_>>(),
        ["nagaya", "_nagaya", "nagaya.fish"]
    );
    for (shell, _, text) in &scripts {
        assert!(
            text.contains(&format!("{VARIABLE}={shell}"))
                || text.contains(&format!("{VARIABLE}=\"{shell}\"")),
            "{text}"
        );
    }
    // What zsh loads first of all says for which command it is.
    assert!(scripts[1].2.starts_with("#compdef nagaya\n"));
    let kept = include_str!("nagaya.bash");
    assert_eq!(scripts[0].2, kept);
}
