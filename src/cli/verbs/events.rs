use crate::api::Event;
use crate::api::containers::{Happened, Watch};
use crate::app::run::{Listener, run as perform};
use crate::cli::error::{CliError, CliResult, DONE};
use crate::cli::output::print;
use crate::sys::fs::pipe;

/// Print what happens to containers, as it happens
///
/// Prints one JSON object a line, with 'time', 'event', 'container' and 'id'; 'renamed' also has
/// 'from', and 'stopped' has 'reason' if that is known. Events: created, started, ready, rebooted,
/// frozen, unfrozen, stopped, renamed, deleted. nagaya looks at the containers four times a second,
/// so it misses what begins and ends between two looks. The command runs until you interrupt it.
///
/// Examples:
///   nagaya events
///   nagaya events | jq -r 'select(.event == "stopped") | .container'
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct EventsArgs {}

/// Prints each event; keeps why it could not.
#[derive(Default)]
struct Printer(Option<CliError>);

impl Listener for Printer {
    fn hear(&mut self, event: Event) {
        if let Event::Container(happened) = event {
            self.0 = self.0.take().or_else(|| line(&happened).and_then(|line| print(&line)).err());
        }
    }

    fn is_gone(&self) -> bool {
        self.0.is_some() || pipe::is_unread(std::io::stdout())
    }
}

pub fn run(_: EventsArgs) -> CliResult<i32> {
    let mut printer = Printer::default();
    perform(&mut crate::cli::open()?, Watch {}, &mut printer)?;
    printer.0.map_or(Ok(DONE), Err)
}

fn line(happened: &Happened) -> CliResult<String> {
    let text = serde_json::to_string(happened).map_err(|e| CliError::Output(e.into()))?;
    Ok(format!("{text}\n"))
}
