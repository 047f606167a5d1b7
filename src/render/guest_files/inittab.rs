//! /etc/inittab, which sysvinit and busybox's init read alike: `id:levels:action:program`. Images of
//! machines have logins at terminals that no container has: each fails, again and again.

use crate::model::guest_file::{BEGIN, END};

/// What stands before a line that was taken out.
const OUT: &str = "#nagaya# ";

/// The text as a container needs it: no program at a terminal that is not there, and the first login of
/// those at the console unless there is one. None where it is so already.
pub fn inittab(text: &str) -> Option<String> {
    let out: Vec<Line<'_>> = text.lines().filter_map(Line::of).filter(|l| l.terminal().is_some()).collect();
    let first = out.iter().find(|line| line.program.contains("getty")).or(out.first())?;
    let mut new = String::new();
    for line in text.lines() {
        let is_out = Line::of(line).is_some_and(|line| line.terminal().is_some());
        new.push_str(if is_out { OUT } else { "" });
        new.push_str(line);
        new.push('\n');
    }
    let has_console = text.lines().filter_map(Line::of).any(|line| line.is_at_console());
    if !has_console {
        new.push_str(&format!("{BEGIN}\n{}\n{END}\n", first.at_console()));
    }
    Some(new)
}

/// Whether this is the name of a terminal that machines have and no container has.
pub(super) fn is_terminal(name: &str) -> bool {
    ["tty", "ttyS", "ttyAMA", "hvc", "vc/"].iter().any(|kind| {
        let number = name.strip_prefix(kind).unwrap_or_default();
        !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
    })
}

struct Line<'a> {
    id: &'a str,
    levels: &'a str,
    action: &'a str,
    program: &'a str,
}

impl<'a> Line<'a> {
    /// One that keeps a program running.
    fn of(line: &'a str) -> Option<Self> {
        let mut fields = line.trim().splitn(4, ':');
        let (id, levels, action, program) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let keeps = matches!(action, "respawn" | "askfirst");
        (!id.starts_with('#') && keeps).then_some(Self { id, levels, action, program })
    }

    /// The terminal that it is at and that no container has; busybox has it in place of the id.
    fn terminal(&self) -> Option<&'a str> {
        let mut words = self.program.split_ascii_whitespace().chain([self.id]);
        words.find(|word| is_terminal(word.strip_prefix("/dev/").unwrap_or(word)))
    }

    fn is_at_console(&self) -> bool {
        let mut words = self.program.split_ascii_whitespace().chain([self.id]);
        words.any(|word| matches!(word, "console" | "/dev/console"))
    }

    fn at_console(&self) -> String {
        let terminal = self.terminal().unwrap_or_default();
        let place = if terminal.starts_with("/dev/") { "/dev/console" } else { "console" };
        let words = self.program.split_ascii_whitespace();
        let program: Vec<_> = words.map(|word| if word == terminal { place } else { word }).collect();
        // An id of sysvinit's is any four characters that no other line has.
        let id = if self.id == terminal { "console" } else { "ngco" };
        format!("{id}:{}:{}:{}", self.levels, self.action, program.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_move_to_the_console() {
        let sysvinit = "id:2:initdefault:\n\
                        si::sysinit:/etc/init.d/rcS\n\
                        1:2345:respawn:/sbin/getty --noclear 38400 tty1\n\
                        2:23:respawn:/sbin/getty 38400 tty2\n\
                        #T0:23:respawn:/sbin/getty -L ttyS0 9600 vt100\n";
        let expected = "id:2:initdefault:\n\
                        si::sysinit:/etc/init.d/rcS\n\
                        #nagaya# 1:2345:respawn:/sbin/getty --noclear 38400 tty1\n\
                        #nagaya# 2:23:respawn:/sbin/getty 38400 tty2\n\
                        #T0:23:respawn:/sbin/getty -L ttyS0 9600 vt100\n\
                        # --- BEGIN nagaya ---\n\
                        ngco:2345:respawn:/sbin/getty --noclear 38400 console\n\
                        # --- END nagaya ---\n";
        assert_eq!(inittab(sysvinit).as_deref(), Some(expected));
        assert_eq!(inittab(expected), None);
        let busybox = "::sysinit:/sbin/openrc sysinit\n\
                       tty1::respawn:/sbin/getty 38400 tty1\n\
                       ttyS0::respawn:/sbin/getty -L 115200 ttyS0 vt100\n\
                       ::ctrlaltdel:/sbin/reboot\n";
        let text = inittab(busybox).unwrap();
        assert!(text.contains("\nconsole::respawn:/sbin/getty 38400 console\n"), "{text}");
        assert_eq!(text.matches("#nagaya# tty").count(), 2, "{text}");
    }

    #[test]
    fn a_login_at_the_console_is_kept_as_it_is() {
        let text = "console::respawn:/sbin/getty 38400 console\n";
        assert_eq!(inittab(text), None);
        let both = inittab(&format!("{text}tty1::askfirst:-/bin/sh\n")).unwrap();
        assert_eq!(both, format!("{text}#nagaya# tty1::askfirst:-/bin/sh\n"));
        // busybox without a terminal's name is at the console anyhow.
        for other in ["", "::askfirst:-/bin/sh\n", "x\n::::\n", "1:2:respawn:/usr/bin/agent --tty\n"] {
            assert_eq!(inittab(other), None, "{other}");
        }
        let shell = inittab("tty2::askfirst:-/bin/sh\n").unwrap();
        assert!(shell.contains("\nconsole::askfirst:-/bin/sh\n"), "{shell}");
    }
}
