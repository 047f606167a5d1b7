use std::cell::Cell;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use nix::sys::signal::Signal;

use super::relay::{Direction, End, Filter, Flow, Relay};
use super::report::{CliError, CliResult, DONE, note};
use super::session;
use super::signals::{self, Signals};
use super::terminal::{self, Raw};
use super::text::Plain;
use crate::app::console::{self, Attached};
use crate::model::name::Name;
use crate::sys::clone::Exit;

/// Attach to a container's console
///
/// It shows what was printed last and then what comes, until the guest ends. Several may watch at
/// once. Ctrl-a q detaches, Ctrl-a Ctrl-a sends one Ctrl-a. Where its input is no terminal, it
/// only prints, without control sequences. 'nagaya logs' shows the console's history.
///
/// Examples:
///   nagaya console web01
///   nagaya console web01 < /dev/null | tee web01.log
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ConsoleArgs {
    /// The container
    name: String,
    /// Where it only prints: the bytes as the guest prints them
    #[arg(long)]
    raw: bool,
}

pub fn run(args: ConsoleArgs) -> CliResult<i32> {
    let name = super::name(&args.name)?;
    let mut app = super::open()?;
    let attached = console::attach(&mut app, &name)?;
    drop(app);
    rustix::io::ioctl_fionbio(attached.stream(), true).map_err(|e| CliError::Relay(e.into()))?;
    if io::stdin().is_terminal() { sit_at(&attached, &name) } else { watch(&attached, args.raw) }
}

/// Keys go to the guest, what it prints comes back as it is.
fn sit_at(attached: &Attached, name: &Name) -> CliResult<i32> {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    note(&format!("This is the console of {name}. Ctrl-a q leaves it."));
    let wanted = signals::PASSED_ON.into_iter().chain(signals::OF_TERMINAL);
    let signals = Signals::take(wanted).map_err(CliError::Terminal)?;
    let raw = Raw::enter()?;
    resize(attached);
    let left = Cell::new(false);
    let keys = Keys { after_escape: false, left: &left };
    let mut relay = Relay::default();
    let typed = Flow::new(Direction::ToGuest, End::lent(stdin.as_fd()), End::lent(attached.stream()));
    relay.add(typed.filtered(keys));
    relay.add(Flow::new(Direction::FromGuest, End::lent(attached.stream()), End::lent(stdout.as_fd())));
    // The guest has ended, or nobody sits here any more.
    while relay.has(Direction::FromGuest) && relay.has(Direction::ToGuest) {
        let step = relay.step(&[signals.as_fd()], None).map_err(CliError::Relay)?;
        if left.get() {
            drop(raw);
            note("");
            return Ok(DONE);
        }
        while let Some(signal) = step.watched[0].then(|| signals.next()).flatten() {
            match signal {
                Signal::SIGWINCH => resize(attached),
                Signal::SIGCONT => drop(raw.again()),
                signal if signals::ends(signal) => return Ok(Exit::Signal(signal as i32).code()),
                _ => {}
            }
        }
    }
    drop(raw);
    if let Some(failure) = relay.failure() {
        return Err(session::failed(failure));
    }
    note("The console is closed.");
    Ok(DONE)
}

fn resize(attached: &Attached) {
    if let Some(size) = terminal::size() {
        attached.resize(size);
    }
}

/// Only prints, and the text alone: a terminal is not the guest's, a journal shows nothing else.
fn watch(attached: &Attached, raw: bool) -> CliResult<i32> {
    let stdout = io::stdout();
    let printed = Flow::new(Direction::FromGuest, End::lent(attached.stream()), End::lent(stdout.as_fd()));
    let mut relay = Relay::default();
    relay.add(if raw { printed } else { printed.filtered(Text(Plain::default())) });
    while relay.has(Direction::FromGuest) {
        relay.step(&[], None).map_err(CliError::Relay)?;
    }
    relay.failure().map_or(Ok(DONE), |failure| Err(session::failed(failure)))
}

struct Text(Plain);

impl Filter for Text {
    fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.0.push(bytes).into_bytes()
    }
}

/// Ctrl-a, as screen(1), lxc-console(1) and LXD have it.
const ESCAPE: u8 = 1;

/// What is typed, without the keys that are for us.
struct Keys<'a> {
    after_escape: bool,
    left: &'a Cell<bool>,
}

impl Filter for Keys<'_> {
    fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + 1);
        for byte in bytes {
            match (std::mem::take(&mut self.after_escape), *byte) {
                (false, ESCAPE) => self.after_escape = true,
                (true, b'q') => {
                    self.left.set(true);
                    break;
                }
                (true, ESCAPE) => out.push(ESCAPE),
                (true, other) => out.extend([ESCAPE, other]),
                (false, other) => out.push(other),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let left = Cell::new(false);
        let mut keys = Keys { after_escape: false, left: &left };
        let out = pieces.iter().flat_map(|p| keys.pass(p)).collect();
        (out, left.get())
    }

    #[test]
    fn only_the_detach_keys_are_kept_back() {
        assert_eq!(typed(&[b"ls q\n"]), (b"ls q\n".to_vec(), false));
        assert_eq!(typed(&[b"a\x01qrest"]), (b"a".to_vec(), true));
        assert_eq!(typed(&[b"\x01", b"q"]), (Vec::new(), true));
        assert_eq!(typed(&[b"\x01\x01q"]), (b"\x01q".to_vec(), false));
        assert_eq!(typed(&[b"\x01x\x01"]), (b"\x01x".to_vec(), false));
    }
}
