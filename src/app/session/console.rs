//! A container's console, seen from the user's side.

use std::cell::Cell;
use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::Signal;

use super::program::failed;
use super::relay;
use super::relay::{Direction, Filter, Flow, Relay};
use crate::api::consoles::End;
use crate::app::App;
use crate::app::containers::console::{self, Attached};
use crate::app::error::{AppError, AppResult};
use crate::model::name::Name;
use crate::model::text::Plain;
use crate::runtime::protocol::WindowSize;
use crate::sys::process::signals::{self, Signals};
use crate::sys::terminal::{self, Raw};

/// The user's side of a console.
pub struct Side<'a> {
    /// Where what is typed comes from; none for one who only looks on.
    pub input: Option<BorrowedFd<'a>>,
    pub output: BorrowedFd<'a>,
    /// The input has keys that are for nagaya.
    pub keys: bool,
    /// Without control sequences.
    pub plain: bool,
}

/// Passes on what the guest prints, its latest history first, and what is typed. `attached` is called once both
/// can begin.
pub fn attach(mut app: App, name: &Name, side: &Side<'_>, attached: impl FnOnce()) -> AppResult<End> {
    let console = console::attach(&mut app, name)?;
    drop(app);
    rustix::io::ioctl_fionbio(console.stream(), true).map_err(|e| AppError::Relay(e.into()))?;
    attached();
    match side.input {
        Some(input) => sit_at(&console, input, side),
        None => watch(&console, side),
    }
}

/// Keys go to the guest, and what it prints comes back.
fn sit_at(console: &Attached, input: BorrowedFd<'_>, side: &Side<'_>) -> AppResult<End> {
    let wanted = signals::PASSED_ON.into_iter().chain(signals::OF_TERMINAL);
    let signals = Signals::take(wanted).map_err(AppError::Terminal)?;
    let raw = input.is_terminal().then(|| Raw::enter(input).map_err(AppError::Terminal)).transpose()?;
    let users = [side.output, input];
    resize(console, users);
    let left = Cell::new(false);
    let mut relay = Relay::default();
    let ends = (relay::End::borrowed(input), relay::End::borrowed(console.stream()));
    let typed = Flow::new(Direction::ToGuest, ends.0, ends.1);
    relay.add(match side.keys {
        true => typed.filtered(Keys { after_escape: false, left: &left }),
        false => typed,
    });
    relay.add(printed(console, side));
    // The guest has ended, or the user's terminal has.
    while relay.has(Direction::FromGuest) && relay.has(Direction::ToGuest) {
        let step = relay.step(&[signals.as_fd()], None).map_err(AppError::Relay)?;
        if left.get() {
            return Ok(End::Left);
        }
        while let Some(signal) = step.watched[0].then(|| signals.next()).flatten() {
            match signal {
                Signal::SIGWINCH => resize(console, users),
                Signal::SIGCONT => raw.iter().for_each(|raw| drop(raw.again())),
                signal if signals::ends(signal) => return Ok(End::Signal(signal as i32)),
                _ => {}
            }
        }
    }
    ended(&relay)
}

/// Only shows what the guest prints.
fn watch(console: &Attached, side: &Side<'_>) -> AppResult<End> {
    let mut relay = Relay::default();
    relay.add(printed(console, side));
    while relay.has(Direction::FromGuest) {
        relay.step(&[], None).map_err(AppError::Relay)?;
    }
    ended(&relay)
}

fn printed<'a>(console: &'a Attached, side: &Side<'a>) -> Flow<'a> {
    let ends = (relay::End::borrowed(console.stream()), relay::End::borrowed(side.output));
    let printed = Flow::new(Direction::FromGuest, ends.0, ends.1);
    if side.plain { printed.filtered(Text(Plain::default())) } else { printed }
}

fn ended(relay: &Relay<'_>) -> AppResult<End> {
    relay.failure().map_or(Ok(End::Closed), |failure| Err(failed(failure)))
}

fn resize(console: &Attached, users: [BorrowedFd<'_>; 2]) {
    if let Some(size) = terminal::size(users) {
        console.resize(WindowSize { rows: size.ws_row, cols: size.ws_col });
    }
}

struct Text(Plain);

impl Filter for Text {
    fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.0.push(bytes).into_bytes()
    }
}

/// Ctrl-a, as screen(1), lxc-console(1) and LXD have it.
const ESCAPE: u8 = 1;

/// Filters what is typed: takes out the keys that are for nagaya.
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
