//! Errors as the user sees them: the only place that prints one, and the one that picks the exit
//! code.

use std::io::{self, Write};
use std::path::PathBuf;

use super::output::{Colour, coloured};
use super::text;
use crate::app::{AppError, Kind};
use crate::model::instance::InstanceError;
use crate::model::name::{Name, NameError};
use crate::sys::SysError;
use crate::sys::clone::Exit;
use crate::sys::error_text;

/// Done.
pub const DONE: i32 = 0;
/// The user's mistake, or a refusal. 2 is clap's: wrong usage.
const REFUSED: i32 = 1;
/// The host lacks something.
pub const LACKING: i32 = 3;
/// A fault of ours (EX_SOFTWARE of sysexits.h).
const BUG: i32 = 70;
const INTERRUPTED: i32 = 130;

#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error(transparent)]
    App(#[from] AppError),
    #[error("not a container's name")]
    Name(#[from] NameError),
    #[error("cannot use NAGAYA_INSTANCE")]
    Instance(#[from] InstanceError),
    #[error("cannot open '{}'", path.display())]
    OpenArchive {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read '{}'", path.display())]
    OpenFile {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("'{}' is not a policy", path.display())]
    Policy {
        path: PathBuf,
        #[source]
        source: Box<toml::de::Error>,
    },
    #[error("'{}' is not an archive but {what}", path.display())]
    NoArchive { path: PathBuf, what: &'static str },
    #[error("cannot prepare the terminal")]
    Terminal(#[source] io::Error),
    #[error("cannot pass data on between here and the guest")]
    Relay(#[source] io::Error),
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    #[error("cannot read standard input")]
    Input(#[source] io::Error),
    #[error("cannot pass on what was printed in the guest")]
    Printed(#[source] io::Error),
    #[error("cannot write what packages carry into '{}'", dir.display())]
    Generate {
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Nothing to complain of: the reader has what it wanted.
    #[error("standard output is closed")]
    ReaderGone,
    #[error("cannot work on several containers at once")]
    Fork(#[source] SysError),
    #[error("the process that worked on it was ended by signal {0}")]
    Killed(i32),
    /// By the child process that failed, with its exit code.
    #[error("a child process has failed")]
    Reported(i32),
    /// A program that could not be started in a guest, with the code that a shell would give.
    #[error("{reason}")]
    NotStarted { code: i32, reason: String, hint: Option<String> },
    /// One of several programs.
    #[error("the program has ended with code {0}")]
    Ended(i32),
}

pub type CliResult<T> = Result<T, CliError>;

impl CliError {
    pub fn code(&self) -> i32 {
        match self {
            Self::App(error) => match error.kind() {
                Kind::User => REFUSED,
                Kind::Host => LACKING,
                Kind::Bug => BUG,
                Kind::Interrupted => INTERRUPTED,
            },
            Self::ReaderGone => DONE,
            Self::Reported(code) => *code,
            Self::Fork(_) => LACKING,
            Self::Relay(_) => BUG,
            Self::Killed(signal) => Exit::Signal(*signal).code(),
            Self::NotStarted { code, .. } | Self::Ended(code) => *code,
            Self::Name(_)
            | Self::Instance(_)
            | Self::OpenArchive { .. }
            | Self::OpenFile { .. }
            | Self::Policy { .. }
            | Self::NoArchive { .. }
            | Self::Generate { .. }
            | Self::Terminal(_)
            | Self::Input(_)
            | Self::Printed(_)
            | Self::Output(_) => REFUSED,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::App(AppError::NoContainer { nearest: None, .. }) if let Some(user) = through_sudo() => {
                return Some(format!(
                    "root's containers are others than those of '{user}': type it without sudo, or add --owner {user}"
                ));
            }
            Self::App(error) => return error.hint(),
            Self::NotStarted { hint, .. } => return hint.clone(),
            Self::Name(_) => {
                "a name is a host name's label (RFC 1123): 1 to 63 of a-z, 0-9 and '-', no '-' first or \
                 last, not digits only"
            }
            Self::Instance(_) => "unset NAGAYA_INSTANCE to use the instance 'nagaya'",
            Self::Policy { .. } => "see how one is written: nagaya firewall export",
            Self::NoArchive { .. } => "give a tar archive: nagaya template import rootfs.tar.gz --name NAME",
            Self::Terminal(_) => "try without a terminal: nagaya exec -T NAME -- COMMAND",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// The ordinary user who has typed sudo, where the command is about root's containers and that user has
/// some too.
fn through_sudo() -> Option<String> {
    let uid: u32 = std::env::var("SUDO_UID").ok()?.parse().ok()?;
    let user = std::env::var("SUDO_USER").ok()?;
    let own = super::base_instance().ok()?.of_user(uid, &user);
    (super::wish().owner.is_none() && own.state_dir().exists()).then_some(user)
}

/// Prints `error` and what to do about it; of several containers, on which one it befell. Returns
/// the exit code.
pub fn report(error: &CliError, subject: Option<&Name>) -> i32 {
    if !matches!(error, CliError::ReaderGone | CliError::Reported(_)) {
        let subject = subject.map(|name| format!("{name}: ")).unwrap_or_default();
        say("error", Colour::Red, &format!("{subject}{}", error_text(error)), error.hint().as_deref());
    }
    error.code()
}

/// A panic is a bug: the terminal is put right first, and what is printed says so.
pub fn catch_panics() {
    std::panic::set_hook(Box::new(|panic| {
        super::terminal::restore();
        say(
            "error",
            Colour::Red,
            &format!("this is a bug of nagaya: {panic}"),
            Some("please report it, with what you typed and what 'nagaya doctor' says"),
        );
        // Nothing of a process in an unknown state is to run, no destructor and no exit handler.
        crate::sys::clone::exit_now(BUG);
    }));
}

/// In one write, so that the lines of several processes do not mix.
fn say(word: &str, colour: Colour, text: &str, hint: Option<&str>) {
    let stderr = io::stderr();
    let message = message(word, colour, text, hint, coloured(&stderr));
    // Whoever does not listen is not to be told either.
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

/// Tells something that is no error, on standard error.
pub fn note(text: &str) {
    let _ = io::stderr().lock().write_all(format!("{}\n", text::line(text)).as_bytes());
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

    #[test]
    fn codes_tell_whose_fault_it_is() {
        let name = Name::new("A").unwrap_err();
        assert_eq!(CliError::Name(name).code(), 1);
        assert_eq!(CliError::NotStarted { code: 127, reason: String::new(), hint: None }.code(), 127);
        assert_eq!(CliError::Killed(2).code(), 130);
        assert_eq!(CliError::ReaderGone.code(), 0);
    }
}
