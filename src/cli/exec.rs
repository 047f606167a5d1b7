use super::report::CliResult;
use super::{session, terminal};
use crate::runtime::protocol::ExecRequest;

/// Run a program in a container
///
/// The program gets this command's input, output and signals, and this command ends with its
/// exit code: 127 where the guest has no such program, 126 where it cannot be executed. It gets a
/// terminal of its own when this command's input and output both are one.
///
/// Examples:
///   nagaya exec web01 -- apt-get update
///   nagaya exec web01 --env LANG=C --cwd /srv --user www-data -- ls -l
///   mysqldump shop | nagaya exec db01 -- mysql shop
///   nagaya exec web01 -t -- top
#[derive(clap::Args)]
#[command(verbatim_doc_comment, override_usage = "nagaya exec [OPTIONS] <NAME> [--] <COMMAND>...")]
pub struct ExecArgs {
    /// The container
    name: String,
    /// Give the program a terminal, whatever this command's input and output are
    #[arg(short = 't', long, overrides_with = "no_tty")]
    tty: bool,
    /// No terminal
    #[arg(short = 'T', long, overrides_with = "tty")]
    no_tty: bool,
    /// Set a variable of its environment
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Its working directory in the guest [default: the user's home]
    #[arg(long, value_name = "DIR", value_parser = absolute)]
    cwd: Option<String>,
    /// User to run as: a name or number of the guest, or USER:GROUP
    #[arg(long, default_value = "root")]
    user: String,
    /// The program and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, required = true)]
    command: Vec<String>,
}

pub fn run(args: ExecArgs) -> CliResult<i32> {
    let name = super::name(&args.name)?;
    let tty = args.tty || (!args.no_tty && terminal::is_interactive());
    session::run(&name, request(args.command, args.env, args.cwd, args.user, tty))
}

/// With the user's kind of terminal, unless `env` names another.
pub fn request(
    argv: Vec<String>,
    mut env: Vec<(String, String)>,
    cwd: Option<String>,
    user: String,
    tty: bool,
) -> ExecRequest {
    if tty
        && !env.iter().any(|(key, _)| key == "TERM")
        && let Some(kind) = terminal::kind()
    {
        env.push(("TERM".to_owned(), kind));
    }
    let tty = tty.then(|| terminal::size().unwrap_or(terminal::USUAL));
    ExecRequest { argv, env, cwd, user, tty, detach: false }
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("it must have the form NAME=VALUE".to_owned()),
    }
}

fn absolute(text: &str) -> Result<String, String> {
    if text.starts_with('/') { Ok(text.to_owned()) } else { Err("it must begin with '/'".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_names_and_values() {
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(variable("A="), Ok(("A".into(), String::new())));
        assert!(variable("A").is_err() && variable("=x").is_err());
    }

    #[test]
    fn a_terminal_of_ones_own_choice_stands() {
        let env = vec![("TERM".to_owned(), "dumb".to_owned())];
        let made = request(vec!["ls".into()], env.clone(), None, "root".into(), true);
        assert_eq!(made.env, env);
        assert!(made.tty.is_some());
        assert_eq!(request(Vec::new(), Vec::new(), None, "root".into(), false).env, []);
    }
}
