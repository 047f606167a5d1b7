use std::ffi::OsString;
use std::io::{Error, Write};
use std::path::Path;

use clap::Command;
use clap_complete::env::EnvCompleter;

/// bash splits words at '=' and ':', which the script undoes. It has no place for options beside names, so
/// options are offered once a '-' is typed.
#[derive(Debug)]
pub struct Bash;

const SCRIPT: &str = include_str!("nagaya.bash");
/// Which of the words is being typed.
const INDEX: &str = "_NAGAYA_INDEX";

impl EnvCompleter for Bash {
    fn name(&self) -> &'static str {
        "bash"
    }

    fn is(&self, name: &str) -> bool {
        name == "bash"
    }

    fn write_registration(
        &self,
        _var: &str,
        _name: &str,
        _bin: &str,
        _completer: &str,
        buf: &mut dyn Write,
    ) -> Result<(), Error> {
        buf.write_all(SCRIPT.as_bytes())
    }

    fn write_complete(
        &self,
        cmd: &mut Command,
        args: Vec<OsString>,
        current_dir: Option<&Path>,
        buf: &mut dyn Write,
    ) -> Result<(), Error> {
        let index = std::env::var(INDEX).ok().and_then(|index| index.parse().ok()).unwrap_or(0);
        let is_option = |word: &str| word.starts_with('-');
        let option_begun = args.get(index).is_some_and(|word| is_option(&word.to_string_lossy()));
        let found = clap_complete::engine::complete(cmd, args, index, current_dir)?;
        let words: Vec<String> =
            found.iter().map(|candidate| candidate.get_value().to_string_lossy().into_owned()).collect();
        let names = words.iter().any(|word| !is_option(word));
        for word in words.iter().filter(|word| option_begun || !names || !is_option(word)) {
            writeln!(buf, "{word}")?;
        }
        Ok(())
    }
}
