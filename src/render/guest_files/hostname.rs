//! The files that say the guest's own name.

use std::net::IpAddr;

use super::subject::Subject;
use crate::model::guest_file::{GuestFile, When, guest_lines};

/// `is_set`: the operator has set the key `hostname`; otherwise it is the container's name.
pub fn hostname_file(hostname: &str, is_set: bool) -> GuestFile {
    let when = if is_set { When::Always } else { When::UnlessChanged };
    GuestFile { path: "/etc/hostname".to_owned(), content: format!("{hostname}\n"), mode: 0o644, when }
}

/// Puts the host name into /etc/hosts, whose content is `current`, unless a line of the guest's has it.
pub fn hosts_file(current: Option<&str>, subject: Subject<'_>) -> GuestFile {
    let names = names(subject);
    let is_said = current.is_some_and(|text| says(text, subject.hostname));
    let content = if is_said { String::new() } else { format!("127.0.1.1 {names}\n") };
    let rest = "127.0.0.1 localhost\n\
                ::1 localhost ip6-localhost ip6-loopback\n\
                ff02::1 ip6-allnodes\n\
                ff02::2 ip6-allrouters\n";
    let when = When::Block { rest: rest.to_owned(), replaces: false };
    GuestFile { path: "/etc/hosts".to_owned(), content, mode: 0o644, when }
}

/// Whether a line of /etc/hosts that is the guest's own names the host.
fn says(hosts: &str, hostname: &str) -> bool {
    let line_says = |line: &str| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        words.next().is_some_and(|word| word.parse::<IpAddr>().is_ok())
            && words.any(|name| name.eq_ignore_ascii_case(hostname))
    };
    guest_lines(hosts).any(line_says)
}

/// The full name first, which is what `hostname -f` prints.
fn names(subject: Subject<'_>) -> String {
    let hostname = subject.hostname;
    match (hostname.split_once('.'), subject.domain) {
        (Some((short, _)), _) => format!("{hostname} {short}"),
        (None, Some(domain)) => format!("{hostname}.{domain} {hostname}"),
        (None, None) => hostname.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::guest_file::{BEGIN, END};

    #[test]
    fn the_name_is_said_in_hosts_unless_the_guest_says_it() {
        let line = |current: &str, hostname: &'static str, domain| {
            hosts_file(Some(current), Subject { hostname, nics: &[], resolvers: &[], domain }).content
        };
        let plain = "127.0.0.1 localhost\n::1 localhost\n";
        assert_eq!(line(plain, "web01", None), "127.0.1.1 web01\n");
        assert_eq!(line(plain, "web01", Some("lan.example")), "127.0.1.1 web01.lan.example web01\n");
        let full = "mail.customer.example";
        assert_eq!(line(plain, full, Some("lan.example")), "127.0.1.1 mail.customer.example mail\n");
        assert_eq!(line(plain, "localhost", None), "");
        for said in ["127.0.1.1 web01", "192.0.2.9\tx.example Web01 # y", "::1 web01"] {
            assert_eq!(line(&format!("{plain}{said}\n"), "web01", None), "", "{said}");
        }
        for other in ["#127.0.1.1 web01", "web01", "127.0.1.1 web012", "127.0.1.1 x # web01"] {
            assert_eq!(line(&format!("{plain}{other}\n"), "web01", None), "127.0.1.1 web01\n", "{other}");
        }
        // What nagaya has said there before is no reason to be silent.
        let before = format!("{plain}{BEGIN}\n127.0.1.1 web01\n{END}\n");
        assert_eq!(line(&before, "web01", None), "127.0.1.1 web01\n");
    }
}
