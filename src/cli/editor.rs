//! A text that the user edits, with a program of the user's own. What was typed is never lost: a text that is not
//! taken is edited again, or kept.

use std::fs::OpenOptions;
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::{CliError, CliResult};
use super::report::report;
use crate::model::document::MAX_TEXT;
use crate::sys::kernel::random::random;
use crate::sys::process::fork::Fork;
use crate::sys::process::interrupt;
use crate::sys::process::program::Program;
use crate::sys::process::seccomp;
use crate::sys::programs::search;
use crate::sys::{Context, SysError};

/// What is done with a text, apart from what is done to it in between.
pub trait Editing {
    /// Lets the user edit the file.
    fn edit(&self, file: &Path) -> CliResult<()>;
    /// Whether the user wants to edit the text again that was not taken.
    fn wants_again(&self) -> bool;
}

/// Has `original` edited until `take` accepts it or the user gives up. `subject` is part of the file's name. Returns
/// whether anything was changed.
pub fn edit(
    editing: &dyn Editing,
    subject: &str,
    original: &str,
    mut take: impl FnMut(&str) -> CliResult<()>,
) -> CliResult<bool> {
    let file = write(subject, original)?;
    loop {
        let edited = editing.edit(&file).and_then(|()| read(&file));
        if edited.as_deref().is_ok_and(|text| text == original) {
            let _ = std::fs::remove_file(&file);
            return Ok(false);
        }
        let Err(error) = edited.and_then(|text| take(&text)) else {
            let _ = std::fs::remove_file(&file);
            return Ok(true);
        };
        report(&error, None);
        if !editing.wants_again() {
            return Err(CliError::Kept { file });
        }
    }
}

/// In a file that nobody else reads.
fn write(subject: &str, text: &str) -> CliResult<PathBuf> {
    let number = random().map_err(CliError::Editor)?;
    let path = std::env::temp_dir().join(format!("nagaya-{subject}-{number:016x}.toml"));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .cannot(|| format!("write {}", path.display()))
        .map_err(CliError::Editor)?;
    Ok(path)
}

fn read(path: &Path) -> CliResult<String> {
    let file = std::fs::File::open(path);
    let text = file.and_then(bounded);
    text.map_err(|source| CliError::OpenFile { path: path.to_owned(), source })
}

/// A text of `from`, no more of it than is taken at most and a little, so that a longer one is told.
pub fn bounded(from: impl Read) -> io::Result<String> {
    let mut text = String::new();
    from.take(MAX_TEXT as u64 + 8).read_to_string(&mut text)?;
    Ok(text)
}

/// The editor that the environment names, on the terminal.
pub struct OnTerminal;

/// Lets the user edit the file: as the caller or, where root calls and somebody else has a hand in the text, as this
/// user, who types nothing into the caller's terminal.
pub fn run_as(file: &Path, user: Option<(u32, u32)>) -> CliResult<()> {
    let editor = named().or_else(usual).ok_or(CliError::NoEditor)?;
    // What the environment names may have arguments, as for every program that calls an editor.
    let script = format!("{editor} \"$@\"");
    let shell = [script.as_ref(), "editor".as_ref(), file.as_os_str()];
    let arguments = ["-c".as_ref()].into_iter().chain(shell);
    let run = || -> Result<_, SysError> {
        let program = Program::at(Path::new("/bin/sh"), arguments)?;
        let program = program.in_caller_dir().with_caller_environment()?;
        let filter = seccomp::manager_filter()?;
        let mut fork = Fork::new("run the editor");
        if let Some((uid, gid)) = user {
            fork = fork.user(uid, gid).filter(&filter);
        }
        let child = fork.exec(&program)?;
        interrupt::left_to_another(|| child.wait())
    };
    let ended = run().map_err(CliError::Editor)?;
    if ended.is_success() { Ok(()) } else { Err(CliError::EditorFailed { editor, ended }) }
}

impl Editing for OnTerminal {
    fn edit(&self, file: &Path) -> CliResult<()> {
        run_as(file, None)
    }

    fn wants_again(&self) -> bool {
        eprint!("Edit it again? [Y/n] ");
        let mut answer = String::new();
        // Whoever hangs up does not.
        let heard = io::stdin().lock().read_line(&mut answer).unwrap_or_default() > 0;
        heard && matches!(answer.trim().to_ascii_lowercase().as_str(), "" | "y" | "yes")
    }
}

fn named() -> Option<String> {
    let set = |name| std::env::var(name).ok().filter(|editor| !editor.trim().is_empty());
    set("VISUAL").or_else(|| set("EDITOR"))
}

fn usual() -> Option<String> {
    let found = ["vi", "nano"].into_iter().find_map(search::find)?;
    found.to_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::cli::error::DONE;

    /// Writes one text after the other.
    struct Typist(RefCell<Vec<&'static str>>, bool);

    impl Editing for Typist {
        fn edit(&self, file: &Path) -> CliResult<()> {
            match self.0.borrow_mut().pop() {
                Some("fail") => Err(CliError::Ended(7)),
                Some(text) => std::fs::write(file, text).map_err(CliError::Output),
                None => Ok(()),
            }
        }

        fn wants_again(&self) -> bool {
            self.1
        }
    }

    fn typist(mut texts: Vec<&'static str>, wants_again: bool) -> Typist {
        texts.reverse();
        Typist(RefCell::new(texts), wants_again)
    }

    #[test]
    fn a_mistake_is_edited_until_it_is_none() {
        let mut seen = Vec::new();
        let done = edit(&typist(vec!["bad", "fail", "good"], true), "test", "old", |text| {
            seen.push(text.to_owned());
            if text == "good" { Ok(()) } else { Err(CliError::Ended(DONE + 1)) }
        });
        assert!(done.unwrap());
        assert_eq!(seen, ["bad", "good"]);
    }

    #[test]
    fn what_is_given_up_is_kept() {
        let given_up =
            edit(&typist(vec!["bad"], false), "test", "old", |_| Err(CliError::Ended(1))).unwrap_err();
        let CliError::Kept { file } = given_up else { panic!("{given_up}") };
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "bad");
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn what_is_left_as_it_was_is_not_taken() {
        assert!(!edit(&typist(vec![], false), "test", "old", |_| Err(CliError::Ended(1))).unwrap());
    }

    #[test]
    fn more_than_is_taken_is_not_read() {
        let read = bounded(io::repeat(b'x')).unwrap();
        assert_eq!(read.len(), MAX_TEXT + 8);
        assert!(bounded(&b"\xff"[..]).is_err());
    }
}
