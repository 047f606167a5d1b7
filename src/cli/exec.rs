use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::report::CliResult;
use super::{session, several, terminal};
use crate::runtime::byte_string::ByteString;
use crate::runtime::protocol::ExecRequest;

/// Run a program in a container
///
/// The program gets this command's input, output and signals, and this command ends with its
/// exit code: 127 where the guest has no such program, 126 where it cannot be executed. It gets a
/// terminal of its own when this command's input and output both are one.
///
/// Several containers are named with commas, or by a pattern with '*' and '?'. The program runs
/// in all of them at once, without input; each line that it prints begins with the container's
/// name, and the highest exit code is this command's.
///
/// With --detach this command ends with 0 as soon as the program runs. The program has the guest's
/// /dev/null as its input and output, and goes on until it ends or the guest does.
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
    /// Pass on this command's input, as is done anyway
    #[arg(short = 'i', long)]
    interactive: bool,
    /// Start the program and leave it running: without input, output or terminal of this command
    #[arg(short = 'd', long, conflicts_with_all = ["tty", "interactive"])]
    detach: bool,
    /// Set a variable of its environment
    #[arg(short = 'e', long, value_name = "NAME=VALUE", value_parser = variable())]
    env: Vec<(ByteString, ByteString)>,
    /// Its working directory in the guest [default: the user's home]
    #[arg(short = 'w', long, visible_alias = "workdir", value_name = "DIR", value_parser = absolute())]
    cwd: Option<ByteString>,
    /// User to run as: a name or number of the guest, or USER:GROUP
    #[arg(short = 'u', long, default_value = "root")]
    user: String,
    /// The program and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, required = true)]
    command: Vec<OsString>,
}

pub fn run(args: ExecArgs) -> CliResult<i32> {
    let argv: Vec<ByteString> = args.command.iter().map(|word| ByteString::from(word.as_os_str())).collect();
    if args.name.contains(',') || crate::model::pattern::is_pattern(&args.name) {
        let request = request(argv, args.env, args.cwd, args.user, false);
        let request = ExecRequest { detach: args.detach, ..request };
        return several::run(&args.name, &request);
    }
    let name = super::name(&args.name)?;
    let tty = args.tty || (!args.no_tty && !args.detach && terminal::is_interactive());
    let request = request(argv, args.env, args.cwd, args.user, tty);
    session::run(&name, ExecRequest { detach: args.detach, ..request })
}

/// With the user's kind of terminal, unless `env` names another.
pub fn request(
    argv: Vec<ByteString>,
    mut env: Vec<(ByteString, ByteString)>,
    cwd: Option<ByteString>,
    user: String,
    tty: bool,
) -> ExecRequest {
    if tty
        && !env.iter().any(|(key, _)| key.as_bytes() == b"TERM")
        && let Some(kind) = terminal::kind()
    {
        env.push(("TERM".into(), (&*kind).into()));
    }
    let tty = tty.then(|| terminal::size().unwrap_or(terminal::USUAL));
    ExecRequest { argv, env, cwd, user, tty, null: [false; 3], detach: false }
}

/// What the operator types is passed on as it is, UTF-8 or not.
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
        let made = request(vec!["ls".into()], env.clone(), None, "root".into(), true);
        assert_eq!(made.env, env);
        assert!(made.tty.is_some());
        assert_eq!(request(Vec::new(), Vec::new(), None, "root".into(), false).env, []);
    }
}
