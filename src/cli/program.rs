//! A program in a container, and the exit code that comes of it.

use super::error::{CliError, CliResult, DONE};
use super::output::progress::Shown;
use super::request::ask_with;
use crate::api::programs::{Ended, Run};
use crate::app::Lazy;
use crate::model::byte_string::ByteString;

/// Has the program run, and returns its exit code.
pub fn run(lazy: Lazy, request: Run) -> CliResult<i32> {
    let (program, name) = (request.command.first().map(ByteString::to_string), request.name.clone());
    match ask_with(lazy, request, &mut Shown::default())? {
        Ended::Exited(code) => Ok(code),
        Ended::Runs => Ok(DONE),
        Ended::NotStarted { code, reason } => {
            // Nearly always a line for a shell, in quotes.
            let line = program.filter(|text| code == 127 && text.contains([' ', '|', ';', '&', '>', '$']));
            let hint = line.map(|text| {
                format!(
                    "for a line of a shell: nagaya exec {name} -- sh -c '{}'",
                    text.replace('\'', r"'\''")
                )
            });
            Err(CliError::NotStarted { code, reason, hint })
        }
    }
}
