//! What packages contain besides the program: manual pages and completions, made from the definition of the
//! command line.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Command;

use crate::cli::arguments::complete;
use crate::cli::arguments::man;
use crate::cli::error::{CliError, CliResult, DONE};

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

/// `whole` is the command line as it is defined.
pub fn run(args: &GenerateArgs, whole: &Command) -> CliResult<i32> {
    write(&args.dir, whole).map_err(|source| CliError::Generate { dir: args.dir.clone(), source })?;
    Ok(DONE)
}

fn write(dir: &Path, whole: &Command) -> io::Result<()> {
    let man = fresh(dir, "man")?;
    for (name, text) in man::pages(whole)? {
        fs::write(man.join(name), text)?;
    }
    for (shell, file, text) in complete::scripts()? {
        fs::write(fresh(dir, shell)?.join(file), text)?;
    }
    Ok(())
}

/// An empty directory, so that no page stays of a verb that no longer exists.
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
    use clap::CommandFactory;

    use super::*;
    use crate::cli::command::Cli;

    fn page_of(command: &Command, prefix: &str, found: &mut Vec<String>) {
        let name =
            if prefix.is_empty() { "nagaya".to_owned() } else { format!("{prefix}-{}", command.get_name()) };
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
        write(dir.path(), &Cli::command()).unwrap();
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
            assert!(fs::read_to_string(old.join(page)).unwrap().contains("\n.SH EXAMPLES\n"), "{page}");
        }
    }
}
