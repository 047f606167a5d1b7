use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use super::exec;
use crate::cli::error::CliResult;
use crate::cli::program;
use crate::cli::terminal;
use crate::model::byte_string::ByteString;

/// Open a login shell in a container
///
/// Opens the shell that the guest has for the user. If input and output are no terminal, the shell
/// reads commands from its input. COMMAND or LINE runs with the settings of the user's profile, as in
/// a login shell; 'nagaya exec' runs a program without any shell.
///
/// Examples:
///   nagaya shell web01
///   nagaya shell web01 -u deploy
///   nagaya shell web01 -- bundle exec rails console
///   nagaya shell web01 -c 'cd /srv && ls | wc -l'
///   nagaya shell web01 < commands.sh
#[derive(clap::Args)]
#[command(verbatim_doc_comment, override_usage = "nagaya shell [OPTIONS] <NAME> [-- <COMMAND>...]")]
pub struct ShellArgs {
    /// The container
    name: String,
    /// The user: a name or number of the guest
    #[arg(short = 'u', long, default_value = "root")]
    user: String,
    /// Run this line of the shell's language
    #[arg(short = 'c', value_name = "LINE", conflicts_with = "command")]
    line: Option<OsString>,
    /// Run this program with these arguments
    #[arg(value_name = "COMMAND", last = true)]
    command: Vec<OsString>,
}

pub fn run(args: ShellArgs) -> CliResult<i32> {
    let name = crate::cli::name(&args.name)?;
    let line = match (args.line, args.command) {
        (Some(line), _) => Some(line.as_bytes().to_vec()),
        (None, words) if words.is_empty() => None,
        (None, words) => Some(words.iter().map(|w| quoted(w.as_bytes())).collect::<Vec<_>>().join(&b' ')),
    };
    let argv = line.map_or_else(Vec::new, through_shell);
    let request = exec::request(name, argv, Vec::new(), args.user, terminal::is_interactive());
    program::run(crate::cli::open_lazily()?, request)
}

/// Which shell it is only the guest knows.
fn through_shell(line: Vec<u8>) -> Vec<ByteString> {
    let own = r#"exec "$SHELL" -l -c "$0""#;
    vec!["/bin/sh".into(), "-c".into(), own.into(), line.into()]
}

/// One word of a shell.
fn quoted(word: &[u8]) -> Vec<u8> {
    let mut out = vec![b'\''];
    for byte in word {
        match byte {
            b'\'' => out.extend(br"'\''"),
            other => out.push(*other),
        }
    }
    out.push(b'\'');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_words() {
        for (word, text) in [("a b", "'a b'"), ("it's", r"'it'\''s'"), ("", "''"), ("$x`", "'$x`'")] {
            assert_eq!(quoted(word.as_bytes()), text.as_bytes());
        }
    }
}
