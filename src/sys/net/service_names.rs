//! Names of services, as services(5) has them.

/// Longest file that is read, in bytes.
const MOST: u64 = 1 << 20;

/// Those that one speaks of most, for hosts without the file.
const USUAL: &[(&str, u16)] = &[
    ("ssh", 22),
    ("smtp", 25),
    ("domain", 53),
    ("dns", 53),
    ("http", 80),
    ("pop3", 110),
    ("ntp", 123),
    ("imap", 143),
    ("imap2", 143),
    ("snmp", 161),
    ("ldap", 389),
    ("https", 443),
    ("submissions", 465),
    ("submission", 587),
    ("ldaps", 636),
    ("imaps", 993),
    ("pop3s", 995),
    ("mysql", 3306),
    ("postgresql", 5432),
];

/// The port of a service over `proto`, `tcp` for example.
pub fn port(name: &str, proto: &str) -> Option<u16> {
    use std::io::Read;
    let mut text = String::new();
    if let Ok(file) = std::fs::File::open("/etc/services") {
        // What cannot be read is as good as not there.
        let _ = file.take(MOST).read_to_string(&mut text);
    }
    let usual = || USUAL.iter().find(|(usual, _)| *usual == name).map(|(_, port)| *port);
    listed(&text, name, proto).or_else(usual)
}

/// A line has a name, port and protocol, and other names.
fn listed(text: &str, name: &str, proto: &str) -> Option<u16> {
    text.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let (first, place) = (words.next()?, words.next()?);
        let (port, over) = place.split_once('/')?;
        let is_it = over == proto && (first == name || words.any(|alias| alias == name));
        port.parse().ok().filter(|port| is_it && *port > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_found_by_all_their_names() {
        let text = "# http 1/tcp\nhttp\t80/tcp\twww # WorldWideWeb\nsyslog 514/udp\nbad x/tcp\n";
        assert_eq!((listed(text, "http", "tcp"), listed(text, "www", "tcp")), (Some(80), Some(80)));
        assert_eq!((listed(text, "syslog", "tcp"), listed(text, "syslog", "udp")), (None, Some(514)));
        assert_eq!((listed(text, "bad", "tcp"), listed(text, "WorldWideWeb", "tcp")), (None, None));
        assert_eq!((port("https", "tcp"), port("no-such-service", "tcp")), (Some(443), None));
    }
}
