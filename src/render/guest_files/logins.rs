//! Logins that OpenRC and runit keep running as services, one for each terminal: links in a directory,
//! `agetty.tty1` or `agetty-tty1`. At a terminal that is not there each fails, again and again.

use super::inittab::is_terminal;

const PROGRAMS: [&str; 3] = ["agetty", "getty", "mingetty"];
const CONSOLE: &str = "console";

/// What to do with a directory's services.
#[derive(Debug, PartialEq, Eq)]
pub struct Logins<'a> {
    /// At terminals that no container has.
    pub out: Vec<&'a str>,
    /// The first of them.
    pub first: &'a str,
    /// The terminal of that.
    pub terminal: &'a str,
    /// What it is called at the console; none where there is a login already.
    pub at_console: Option<String>,
}

/// None where all of `services` can stay.
pub fn logins<'a>(services: &[&'a str]) -> Option<Logins<'a>> {
    let mut out: Vec<_> = services.iter().copied().filter(|name| terminal(name).is_some()).collect();
    out.sort_unstable();
    let first = *out.first()?;
    let terminal = terminal(first)?;
    let has_console = services.iter().any(|name| split(name).is_some_and(|(_, at)| at == CONSOLE));
    let at_console = (!has_console).then(|| first.replace(terminal, CONSOLE));
    Some(Logins { out, first, terminal, at_console })
}

/// A service's text, or where a link to it leads, as it is for the console.
pub fn for_console(text: &str, terminal: &str) -> String {
    let mut new = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(terminal) {
        let (before, behind) = (&rest[..at], &rest[at + terminal.len()..]);
        let is_part = before.ends_with(char::is_alphanumeric) || behind.starts_with(char::is_alphanumeric);
        new.push_str(before);
        new.push_str(if is_part { terminal } else { CONSOLE });
        rest = behind;
    }
    new + rest
}

fn terminal(service: &str) -> Option<&str> {
    split(service).map(|(_, terminal)| terminal).filter(|terminal| is_terminal(terminal))
}

/// A login's program and where it is.
fn split(service: &str) -> Option<(&str, &str)> {
    service.split_once(['.', '-']).filter(|(program, _)| PROGRAMS.contains(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_without_a_terminal_go_and_the_first_is_at_the_console() {
        let services = ["sshd", "agetty-tty2", "agetty-tty1", "agetty-ttyS0", "udevd", "agetty-generic"];
        let expected = Logins {
            out: vec!["agetty-tty1", "agetty-tty2", "agetty-ttyS0"],
            first: "agetty-tty1",
            terminal: "tty1",
            at_console: Some("agetty-console".to_owned()),
        };
        assert_eq!(logins(&services), Some(expected));
        let found = logins(&["agetty.tty1", "agetty.console"]).unwrap();
        assert_eq!((found.out, found.at_console), (vec!["agetty.tty1"], None));
        assert_eq!(logins(&["agetty.console", "net.eth0", "getty-tty", "stty-tty1", "tty1"]), None);
    }

    #[test]
    fn only_whole_words_are_the_terminal() {
        assert_eq!(for_console("../../sv/getty-tty1", "tty1"), "../../sv/getty-console");
        let text = "test -c /dev/tty1 || exit\nexec getty 38400 tty1 linux # tty10, xtty1\n";
        let expected = "test -c /dev/console || exit\nexec getty 38400 console linux # tty10, xtty1\n";
        assert_eq!(for_console(text, "tty1"), expected);
        assert_eq!(for_console("agetty", "tty1"), "agetty");
    }
}
