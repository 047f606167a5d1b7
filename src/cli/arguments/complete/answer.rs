//! What a shell is answered, and the scripts by which it asks.

use clap::{Arg, Command};
use clap_complete::env::{CompleteEnv, EnvCompleter, Fish, Shells, Zsh};

use super::bash::Bash;
use super::{places, values};

/// Names the shell that asks.
pub const VARIABLE: &str = "NAGAYA_COMPLETE";

const SHELLS: [&dyn EnvCompleter; 3] = [&Bash, &Zsh, &Fish];

/// Answers a shell that asks, and ends the process then. `whole` is the command line as it is defined.
pub fn answer(whole: fn() -> Command) {
    if std::env::var_os(VARIABLE).is_some() {
        CompleteEnv::with_factory(move || shown(&whole(), &mut Vec::new()))
            .var(VARIABLE)
            .shells(Shells(&SHELLS))
            .complete();
    }
}

/// The scripts, for packages: the shell's name, its file's, and what is in it.
pub fn scripts() -> std::io::Result<Vec<(&'static str, &'static str, String)>> {
    let files = ["nagaya", "_nagaya", "nagaya.fish"];
    let mut scripts = Vec::new();
    for (shell, file) in SHELLS.into_iter().zip(files) {
        let mut text = Vec::new();
        shell.write_registration(VARIABLE, "nagaya", "nagaya", "nagaya", &mut text)?;
        let mut text = String::from_utf8_lossy(&text).into_owned();
        if shell.name() == "zsh" {
            // zsh loads the file as the body of a function at the first Tab, and calls that.
            text.push_str("\n[[ $funcstack[1] == _nagaya ]] && _clap_dynamic_completer_nagaya \"$@\"\n");
        }
        scripts.push((shell.name(), file, text));
    }
    Ok(scripts)
}

/// The command line for completion: without hidden options, and with what each argument may be.
pub fn shown(command: &Command, path: &mut Vec<String>) -> Command {
    let mut shown = Command::new(command.get_name().to_owned())
        .visible_aliases(command.get_visible_aliases().map(str::to_owned).collect::<Vec<_>>())
        .args(command.get_arguments().filter(|arg| !arg.is_hide_set()).map(|arg| placed(arg, path)));
    if let Some(about) = command.get_about() {
        shown = shown.about(about.clone());
    }
    if command.get_version().is_some() {
        shown = shown.version(env!("CARGO_PKG_VERSION"));
    }
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        path.push(verb.get_name().to_owned());
        shown = shown.subcommand(self::shown(verb, path));
        path.pop();
    }
    shown
}

fn placed(arg: &Arg, path: &[String]) -> Arg {
    match places::what(&path.join(" "), arg.get_id().as_str()) {
        Some(what) => arg.clone().add(values::completer(what)),
        None => arg.clone(),
    }
}
