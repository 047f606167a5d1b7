use std::io::{self, IsTerminal};

use crate::api::Event;
use crate::api::consoles::{Attach, End};
use crate::app::run::Listener;
use crate::cli::error::{CliResult, DONE};
use crate::cli::output::note;
use crate::cli::request::{STDIN, STDOUT, ask_with};
use crate::model::name::Name;
use crate::sys::process::child::Exit;

/// Attach to a container's console
///
/// Shows what the console printed last and then what it prints, until the guest ends. Several users
/// can watch at once. Ctrl-a q detaches, Ctrl-a Ctrl-a sends one Ctrl-a. If the command's input is no
/// terminal, it only prints, without control sequences. 'nagaya logs' shows the console's history.
///
/// Examples:
///   nagaya console web01
///   nagaya console web01 < /dev/null | tee web01.log
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ConsoleArgs {
    /// The container
    name: String,
    /// If the command only prints: print the bytes as the guest prints them
    #[arg(long)]
    raw: bool,
}

pub fn run(args: ConsoleArgs) -> CliResult<i32> {
    let name = crate::cli::name(&args.name)?;
    let sits = io::stdin().is_terminal();
    let request = Attach {
        name,
        input: sits.then_some(STDIN),
        output: STDOUT,
        keys: sits,
        // The terminal is not the guest's, and a journal does not show control sequences.
        plain: !sits && !args.raw,
    };
    let mut told = Told { name: sits.then(|| request.name.clone()) };
    let end = ask_with(crate::cli::open()?, request, &mut told)?;
    match end {
        End::Signal(number) => return Ok(Exit::Signal(number).code()),
        End::Left => note(""),
        End::Closed if sits => note("The console is closed."),
        End::Closed => {}
    }
    Ok(DONE)
}

/// Tells who sits at it how to leave.
struct Told {
    name: Option<Name>,
}

impl Listener for Told {
    fn hear(&mut self, event: Event) {
        if let (Event::Attached, Some(name)) = (event, &self.name) {
            note(&format!("This is the console of {name}. Ctrl-a q leaves it."));
        }
    }
}
