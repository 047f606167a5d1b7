use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::api::programs::Run;
use crate::cli::error::CliResult;
use crate::cli::program;
use crate::cli::request::{STDERR, STDIN, STDOUT};
use crate::cli::several;
use crate::cli::terminal;
use crate::model::byte_string::ByteString;
use crate::model::name::Name;

/// Run a program in a container
///
/// The program gets this command's input, output and signals. It gets a terminal of its own if this
/// command's input and output are both a terminal. This command ends with the program's exit code:
/// 127 if the guest has no such program, 126 if the program cannot be executed.
///
/// To name several containers, separate them with commas, or use a pattern with '*' and '?'. The
/// program runs in all of them at once, without input. Each line of output begins with the
/// container's name, and this command ends with the highest exit code.
///
/// With --detach this command ends with 0 as soon as the program runs. The program's input and output
/// are the guest's /dev/null, and it runs until it ends or the guest does.
///
/// Examples:
///   nagaya exec web01 -- apt-get update
///   nagaya exec web01 -e LANG=C -w /srv -u www-data -- ls -l
///   nagaya exec -it web01 bash
///   mysqldump shop | nagaya exec db01 -- mysql shop
///   nagaya exec web01,web02 -- uptime
///   nagaya exec 'web*' -- systemctl is-active nginx
///   nagaya exec -d web01 -- sh -c 'make -C /srv > /var/log/make.log 2>&1'
#[derive(clap::Args)]
#[command(verbatim_doc_comment, override_usage = "nagaya exec [OPTIONS] <NAME> [--] <COMMAND>...")]
pub struct ExecArgs {
    /// The container, or several: names and patterns, separated by commas
    name: String,
    /// Give the program a terminal, whatever this command's input and output are
    #[arg(short = 't', long, overrides_with = "no_tty")]
    tty: bool,
    /// No terminal
    #[arg(short = 'T', long, overrides_with = "tty")]
    no_tty: bool,
    /// Pass on this command's input, which is the default
    #[arg(short = 'i', long)]
    interactive: bool,
    /// Start the program and leave it running, without this command's input, output and terminal
    #[arg(short = 'd', long, conflicts_with_all = ["tty", "interactive"])]
    detach: bool,
    /// Set a variable of the program's environment
    #[arg(short = 'e', long, value_name = "NAME=VALUE", value_parser = variable())]
    env: Vec<(ByteString, ByteString)>,
    /// The program's working directory in the guest [default: the user's home]
    #[arg(short = 'w', long, visible_alias = "workdir", value_name = "DIR", value_parser = absolute())]
    cwd: Option<ByteString>,
    /// The user to run as: a name or number of the guest, or USER:GROUP
    #[arg(short = 'u', long, default_value = "root")]
    user: String,
    /// The program and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, required = true)]
    command: Vec<OsString>,
}

pub fn run(args: ExecArgs) -> CliResult<i32> {
    let command: Vec<_> = args.command.iter().map(|word| ByteString::from(word.as_os_str())).collect();
    let made = |name: Name, tty: bool| {
        let request = request(name, command.clone(), args.env.clone(), args.user.clone(), tty);
        Run { directory: args.cwd.clone(), detach: args.detach, ..request }
    };
    if args.name.contains(',') || crate::model::pattern::is_pattern(&args.name) {
        return several::exec::run(&args.name, |name| made(name, false));
    }
    let tty = args.tty || (!args.no_tty && !args.detach && terminal::is_interactive());
    let request = made(crate::cli::name(&args.name)?, tty);
    program::run(crate::cli::open_lazily()?, request)
}

/// The request, with the user's `TERM` unless the environment names another.
pub fn request(
    name: Name,
    command: Vec<ByteString>,
    mut environment: Vec<(ByteString, ByteString)>,
    user: String,
    tty: bool,
) -> Run {
    if tty
        && !environment.iter().any(|(key, _)| key.as_bytes() == b"TERM")
        && let Some(kind) = terminal::kind()
    {
        environment.push(("TERM".into(), (&*kind).into()));
    }
    let size = || terminal::size().unwrap_or(terminal::USUAL);
    Run {
        name,
        command,
        environment,
        directory: None,
        user,
        terminal: tty.then(size),
        detach: false,
        labelled: false,
        stdin: Some(STDIN),
        stdout: Some(STDOUT),
        stderr: Some(STDERR),
    }
}

/// What the operator types is passed on unchanged, UTF-8 or not.
fn variable() -> impl clap::builder::TypedValueParser<Value = (ByteString, ByteString)> {
    use clap::builder::{OsStringValueParser, TypedValueParser};
    OsStringValueParser::new().try_map(|text| split(&text))
}

fn split(text: &OsStr) -> Result<(ByteString, ByteString), &'static str> {
    let bytes = text.as_bytes();
    match bytes.iter().position(|b| *b == b'=') {
        Some(end) if end > 0 => Ok((bytes[..end].to_vec().into(), bytes[end + 1..].to_vec().into())),
        _ => Err("it must have the form NAME=VALUE"),
    }
}

fn absolute() -> impl clap::builder::TypedValueParser<Value = ByteString> {
    use clap::builder::{OsStringValueParser, TypedValueParser};
    OsStringValueParser::new().try_map(|text| match text.as_bytes() {
        [b'/', ..] => Ok(ByteString::from(text.as_os_str())),
        _ => Err("it must begin with '/'"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_names_and_values() {
        let pair = |a: &[u8], b: &[u8]| Ok((a.to_vec().into(), b.to_vec().into()));
        assert_eq!(split(OsStr::new("A=b=c")), pair(b"A", b"b=c"));
        assert_eq!(split(OsStr::new("A=")), pair(b"A", b""));
        assert_eq!(split(OsStr::from_bytes(b"A=\xe4")), pair(b"A", b"\xe4"));
        assert!(split(OsStr::new("A")).is_err() && split(OsStr::new("=x")).is_err());
    }

    #[test]
    fn a_terminal_of_ones_own_choice_stands() {
        let env: Vec<(ByteString, ByteString)> = vec![("TERM".into(), "dumb".into())];
        let name = || Name::new("web01").unwrap();
        let made = request(name(), vec!["ls".into()], env.clone(), "root".into(), true);
        assert_eq!(made.environment, env);
        assert!(made.terminal.is_some());
        assert_eq!(request(name(), Vec::new(), Vec::new(), "root".into(), false).environment, []);
    }
}
