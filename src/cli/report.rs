//! The one place that prints an error.

use std::io::{self, Write};

use super::context;
use super::error::{BUG, CliError};
use super::output::{Colour, coloured, text};
use super::terminal;
use crate::model::fault::Code;
use crate::model::name::Name;
use crate::sys::error_text;
use crate::sys::process::fork::exit_now;

/// Prints `error` and what to do about it, and with several containers which one it concerns. Returns the
/// exit code.
pub fn report(error: &CliError, subject: Option<&Name>) -> i32 {
    if !matches!(error, CliError::ReaderGone | CliError::Reported(_)) {
        let subject = subject.map(|name| format!("{name}: ")).unwrap_or_default();
        say("error", Colour::Red, &format!("{subject}{}", error_text(error)), hint(error).as_deref());
    }
    error.code()
}

/// What to type next, where that is known.
fn hint(error: &CliError) -> Option<String> {
    match error {
        CliError::App(error)
            if error.code == Code::ContainerNotFound
                && error.nearest.is_none()
                && let Some(user) = through_sudo() =>
        {
            Some(format!(
                "root's containers are others than those of '{user}': type it without sudo, or add --owner {user}"
            ))
        }
        _ => error.hint(),
    }
}

/// The ordinary user who typed sudo, if the command is about root's containers and that user has containers
/// too.
fn through_sudo() -> Option<String> {
    let uid: u32 = std::env::var("SUDO_UID").ok()?.parse().ok()?;
    let user = std::env::var("SUDO_USER").ok()?;
    let own = context::base_instance().ok()?.of_user(uid, &user);
    (context::wish().owner.is_none() && own.state_dir().exists()).then_some(user)
}

/// A panic is a bug: restores the terminal, and prints that it is a bug.
pub fn catch_panics() {
    std::panic::set_hook(Box::new(|panic| {
        terminal::restore();
        say(
            "error",
            Colour::Red,
            &format!("this is a bug of nagaya: {panic}"),
            Some("please report it, with what you typed and what 'nagaya doctor' says"),
        );
        // Nothing of a process in an unknown state is to run, no destructor and no exit handler.
        exit_now(BUG);
    }));
}

/// In one write, so that the lines of several processes do not mix.
fn say(word: &str, colour: Colour, text: &str, hint: Option<&str>) {
    let stderr = io::stderr();
    let message = message(word, colour, text, hint, coloured(&stderr));
    // If standard error is closed, there is nobody to tell.
    let _ = stderr.lock().write_all(message.as_bytes());
}

fn message(word: &str, colour: Colour, text: &str, hint: Option<&str>, colours: bool) -> String {
    let label = |word: &str, colour: Colour| {
        let label = format!("{word}:");
        if colours { colour.paint(&label) } else { label }
    };
    let mut message = format!("{} {}\n", label(word, colour), text::line(text));
    if let Some(hint) = hint {
        message.push_str(&format!("{} {}\n", label("hint", Colour::Blue), text::line(hint)));
    }
    message
}

/// A mistake in the command line that the parser would take for something else. Returns the exit code.
pub fn misused(text: &str, hint: &str) -> i32 {
    const USAGE: i32 = 2;
    say("error", Colour::Red, text, Some(hint));
    USAGE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_its_chain_and_a_hint() {
        let error = CliError::OpenArchive {
            path: "a\x1b[2J.tar".into(),
            source: io::Error::from_raw_os_error(libc::ENOENT),
        };
        let text = message("error", Colour::Red, &error_text(&error), Some("look\nhere"), false);
        assert_eq!(
            text,
            "error: cannot open 'a.tar': No such file or directory (os error 2)\nhint: look here\n"
        );
    }

    #[test]
    fn colours_only_where_wanted() {
        let text = message("error", Colour::Red, "x", None, true);
        assert_eq!(text, "\x1b[31merror:\x1b[0m x\n");
    }
}
