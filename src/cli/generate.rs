//! What packages carry besides the program: manual pages and completions, made from the very
//! definition of the command line.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use super::report::{CliError, CliResult, DONE};

const NAME: &str = "nagaya";

/// Write manual pages and shell completions into a directory
///
/// For who makes a package: pages go to DIR/man, completions to DIR/bash, DIR/zsh and DIR/fish,
/// under the names by which man and the shells look for them.
///
/// Examples:
///   nagaya generate target/generated
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct GenerateArgs {
    /// The directory, made where it is not there
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub fn run(args: &GenerateArgs) -> CliResult<i32> {
    write(&args.dir).map_err(|source| CliError::Generate { dir: args.dir.clone(), source })?;
    Ok(DONE)
}

fn write(dir: &Path) -> io::Result<()> {
    let man = fresh(dir, "man")?;
    clap_mangen::generate_to(Cli::command(), &man)?;
    let mut typed = shown(&Cli::command());
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let place = fresh(dir, &shell.to_string())?;
        let script = clap_complete::generate_to(shell, &mut typed, NAME, &place)?;
        if shell == Shell::Bash {
            // Where bash looks, a completion has the command's own name.
            fs::rename(script, place.join(NAME))?;
        }
    }
    Ok(())
}

/// The command without the verbs that nobody types: completions would offer hidden ones too.
fn shown(command: &Command) -> Command {
    Command::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .args(command.get_arguments().cloned())
        .subcommands(command.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned())
}

/// An empty directory: the page of a verb that is no more must not stay.
fn fresh(dir: &Path, name: &str) -> io::Result<PathBuf> {
    let path = dir.join(name);
    match fs::remove_dir_all(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    fs::create_dir_all(&path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::process::Command as Process;

    use super::*;

    fn page_of(command: &Command, prefix: &str, found: &mut Vec<String>) {
        let name =
            if prefix.is_empty() { NAME.to_owned() } else { format!("{prefix}-{}", command.get_name()) };
        found.push(format!("{name}.1"));
        for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            page_of(verb, &name, found);
        }
    }

    #[test]
    fn every_verb_that_is_shown_has_a_page_with_examples() {
        let dir = tempfile::tempdir().unwrap();
        let old = dir.path().join("man");
        fs::create_dir(&old).unwrap();
        fs::write(old.join("nagaya-forgotten.1"), "").unwrap();
        write(dir.path()).unwrap();
        let mut wanted = Vec::new();
        page_of(&Cli::command(), "", &mut wanted);
        let mut found: Vec<_> = fs::read_dir(&old)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        wanted.sort();
        found.sort();
        assert_eq!(found, wanted);
        assert!(found.contains(&"nagaya-template-build.1".to_owned()));
        for page in ["nagaya.1", "nagaya-exec.1", "nagaya-template-build.1"] {
            assert!(fs::read_to_string(old.join(page)).unwrap().contains("\nExamples:\n"), "{page}");
        }
    }

    #[test]
    fn bash_completes_verbs_but_no_hidden_one() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path()).unwrap();
        let script = r#"source "$1"; COMP_WORDS=(nagaya "$2"); COMP_CWORD=1
            _nagaya nagaya "$2" nagaya; echo "${COMPREPLY[*]}""#;
        let offered = |word: &str| {
            let place = dir.path().join("bash/nagaya");
            let output = Process::new("bash")
                .args(["--norc", "-c", script, "bash"])
                .arg(&place)
                .arg(word)
                .output()
                .expect("bash is needed (package 'bash')");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        assert_eq!(offered("laun"), "launch");
        assert_eq!(offered("gener"), "");
        for script in ["zsh/_nagaya", "fish/nagaya.fish"] {
            let text = fs::read_to_string(dir.path().join(script)).unwrap();
            assert!(text.contains("launch") && !text.contains("generate"), "{script}");
        }
    }
}
