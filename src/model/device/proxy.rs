//! The keys of a `proxy` device, which is a forward of the firewall's under LXD's words.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::model::config::value::boolean;
use crate::model::firewall::policy::{Forward, Proto};
use crate::model::keys::{Absent, BOOL, Key, KeyError, Kind, Live, Subject, Table, Words};

/// What the keys say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxy {
    listen: Option<End>,
    connect: Option<End>,
}

/// `tcp:127.0.0.1:80`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct End {
    proto: Proto,
    address: IpAddr,
    ports: String,
}

impl End {
    fn parse(text: &str) -> Option<Self> {
        let (proto, rest) = text.split_once(':')?;
        let proto = match proto {
            "tcp" => Proto::Tcp,
            "udp" => Proto::Udp,
            _ => return None,
        };
        let (address, ports) = rest.rsplit_once(':')?;
        let address = match address.strip_prefix('[') {
            Some(rest) => IpAddr::V6(rest.strip_suffix(']')?.parse().ok()?),
            None => IpAddr::V4(address.parse().ok()?),
        };
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0 && !text.starts_with('+'));
        (port(first)? <= port(last)?).then(|| Self { proto, address, ports: ports.to_owned() })
    }
}

/// What a profile says of a proxy. Which container's it is, and so where it leads, the container says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyEnds {
    pub listen: String,
    pub connect: String,
}

impl ProxyEnds {
    /// From its keys, in the form in which they are read back.
    ///
    /// # Errors
    /// The key that cannot be so, and what it must be.
    pub fn of<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, KeyError> {
        let pairs = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        // A profile is not one container's: there is no address that it could name.
        let mut config = config(&forward("", &[], "", &pairs)?);
        let mut taken = |key: &str| config.remove(key).unwrap_or_default();
        Ok(Self { listen: taken("listen"), connect: taken("connect") })
    }

    pub fn check(&self) -> Result<(), KeyError> {
        let pairs = self.config();
        Self::of(pairs.iter().map(|(key, value)| (*key, value.as_str()))).map(drop)
    }

    pub fn config(&self) -> [(&'static str, String); 2] {
        [("connect", self.connect.clone()), ("listen", self.listen.clone())]
    }

    /// The forward that it is, of this container.
    pub fn forward(&self, container: &str, device: &str) -> Result<Forward, KeyError> {
        let pairs = self.config().map(|(key, value)| (key.to_owned(), value)).into();
        Ok(Forward { by_profile: true, ..forward(container, &[], device, &pairs)? })
    }
}

/// How a key is set, by a value of its kind.
#[derive(Clone, Copy)]
pub struct Field(fn(&mut Proxy, &str) -> Option<()>);

impl Subject for Proxy {
    type Draft = Self;
    type Sets = Field;
    const EMPTY_RESETS: bool = false;

    fn put(key: &Key<Self>, proxy: &mut Self, name: &str, value: &str) -> Result<(), KeyError> {
        (key.sets.0)(proxy, value).ok_or_else(|| KeyError::wrong(name, value, key.kind.rule))
    }
}

/// The forward that the keys of device `device` describe, of a container with these addresses.
///
/// # Errors
/// The key that cannot be so, and what it must be.
pub fn forward(
    container: &str,
    addresses: &[IpAddr],
    device: &str,
    pairs: &BTreeMap<String, String>,
) -> Result<Forward, KeyError> {
    let mut proxy = Proxy::default();
    for (key, value) in pairs {
        PROXY_KEYS.set(&mut proxy, key, value)?;
    }
    let needs = |key: &str, example: &str| {
        KeyError::needs("a proxy", &format!("{key}={example}")).listed_by(PROXY_KEYS.listed_by)
    };
    let listen = proxy.listen.ok_or_else(|| needs("listen", "tcp:0.0.0.0:8080"))?;
    let connect = proxy.connect.ok_or_else(|| needs("connect", "tcp:127.0.0.1:80"))?;
    let wrong = |rule: &str| {
        let value = pairs.get("connect").map(String::as_str).unwrap_or_default();
        Err(KeyError::wrong("connect", value, rule).listed_by(PROXY_KEYS.listed_by))
    };
    if connect.proto != listen.proto {
        return wrong("of the same protocol as listen");
    }
    let is_own = |ip: &IpAddr| ip.is_loopback() || ip.is_unspecified() || addresses.contains(ip);
    if !is_own(&connect.address) {
        return wrong("at 127.0.0.1, [::1] or an address of the container's");
    }
    let any = listen.address.is_unspecified();
    Ok(Forward {
        container: container.to_owned(),
        proto: listen.proto,
        address: if any { String::new() } else { listen.address.to_string() },
        to: if connect.ports == listen.ports { String::new() } else { connect.ports },
        listen: listen.ports,
        device: device.to_owned(),
        by_profile: false,
    })
}

/// The keys that describe a forward.
pub fn config(forward: &Forward) -> BTreeMap<String, String> {
    let proto = forward.proto.as_str();
    let to = if forward.to.is_empty() { &forward.listen } else { &forward.to };
    let (at, from) = match forward.address.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) => (format!("[{ip}]"), "[::1]"),
        Ok(IpAddr::V4(ip)) => (ip.to_string(), "127.0.0.1"),
        Err(_) => ("0.0.0.0".to_owned(), "127.0.0.1"),
    };
    let pairs =
        [("listen", format!("{proto}:{at}:{}", forward.listen)), ("connect", format!("{proto}:{from}:{to}"))];
    pairs.map(|(key, value)| (key.to_owned(), value)).into()
}

const END: Kind = Kind {
    name: "endpoint",
    words: Words::NONE,
    rule: "tcp or udp, an address and a port or a range of them, such as tcp:0.0.0.0:80 or udp:[::]:5000-5010; \
           sockets of files would need a program between host and guest",
    check: |text| End::parse(text).is_some(),
};

const BIND: Kind = Kind {
    name: "side",
    words: Words::These(&["host"]),
    rule: "host: what guests reach of the host is the firewall's to say",
    check: |text| text == "host",
};

pub const PROXY_KEYS: Table<Proxy> =
    Table { what: "proxy", listed_by: "nagaya device keys proxy", keys: KEYS, absent: ABSENT };

/// Names are LXD's.
const KEYS: &[Key<Proxy>] = &[
    Key::new(
        "listen",
        END,
        "",
        Live::Now,
        "Where the host takes connections, such as tcp:0.0.0.0:8080",
        Field(|proxy, text| {
            proxy.listen = Some(End::parse(text)?);
            Some(())
        }),
    ),
    Key::new(
        "connect",
        END,
        "",
        Live::Now,
        "Where they come out in the guest, such as tcp:127.0.0.1:80",
        Field(|proxy, text| {
            proxy.connect = Some(End::parse(text)?);
            Some(())
        }),
    )
    .differs("the guest's program listens on its address"),
    Key::new("bind", BIND, "host", Live::Now, "On which side it listens", Field(|_, _| Some(()))),
    Key::new(
        "nat",
        BOOL,
        "true",
        Live::None,
        "Packets are translated anyway; no program stands between",
        Field(|_, text| boolean(text).map(drop)),
    )
    .differs("default false"),
];

/// Keys that LXD's proxies have, and what to use instead.
const ABSENT: &[Absent] = &[
    Absent::instead("gid", "there are no sockets of files"),
    Absent::instead("mode", "there are no sockets of files"),
    Absent::instead("proxy_protocol", "the guest sees the client's own address"),
    Absent::instead("security.gid", "no program stands between host and guest"),
    Absent::instead("security.uid", "no program stands between host and guest"),
    Absent::instead("uid", "there are no sockets of files"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Forward, String> {
        let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        forward("web01", &["10.9.0.2".parse().unwrap()], "http", &pairs).map_err(|e| e.to_string())
    }

    #[test]
    fn lxds_words_are_a_forward_and_are_read_back() {
        let one =
            of(&[("listen", "tcp:0.0.0.0:8080"), ("connect", "tcp:127.0.0.1:80"), ("nat", "true")]).unwrap();
        assert_eq!(one.to_string(), "tcp 8080:80 to web01");
        assert_eq!(config(&one)["listen"], "tcp:0.0.0.0:8080");
        let at =
            of(&[("listen", "udp:203.0.113.9:5000-5010"), ("connect", "udp:10.9.0.2:5000-5010")]).unwrap();
        assert_eq!(at.to_string(), "udp 5000-5010:5000-5010 to web01 at 203.0.113.9");
        assert_eq!(config(&at)["connect"], "udp:127.0.0.1:5000-5010");
        let six = of(&[("listen", "tcp:[2001:db8::1]:80"), ("connect", "tcp:[::1]:80")]).unwrap();
        assert_eq!(
            (six.address.as_str(), config(&six)["listen"].as_str()),
            ("2001:db8::1", "tcp:[2001:db8::1]:80")
        );
    }

    #[test]
    fn a_profile_says_it_of_every_container() {
        let of = |pairs: &[(&'static str, &'static str)]| ProxyEnds::of(pairs.iter().copied());
        let http =
            of(&[("listen", "tcp:[::]:8080"), ("connect", "tcp:0.0.0.0:80"), ("nat", "true")]).unwrap();
        let ends = (http.listen.as_str(), http.connect.as_str());
        assert_eq!(ends, ("tcp:0.0.0.0:8080", "tcp:127.0.0.1:80"));
        http.check().unwrap();
        let web = http.forward("web01", "http").unwrap();
        assert_eq!((web.to_string().as_str(), web.by_profile), ("tcp 8080:80 to web01", true));
        let named = of(&[("listen", "tcp:0.0.0.0:80"), ("connect", "tcp:10.9.0.2:80")]).unwrap_err();
        assert!(named.to_string().contains("at 127.0.0.1"), "{named}");
        assert!(ProxyEnds { listen: "x".to_owned(), ..http }.check().is_err());
    }

    #[test]
    fn what_cannot_be_forwarded_is_told() {
        let listen = ("listen", "tcp:0.0.0.0:80");
        for (pairs, said) in [
            (&[listen][..], "a proxy needs connect"),
            (&[("connect", "tcp:127.0.0.1:80")], "a proxy needs listen"),
            (&[listen, ("connect", "udp:127.0.0.1:80")], "the same protocol"),
            (&[listen, ("connect", "tcp:192.0.2.1:80")], "an address of the container's"),
            (&[listen, ("connect", "unix:/run/x")], "sockets of files"),
            (&[("listen", "tcp:0.0.0.0:0")], "listen cannot be"),
            (&[("listen", "tcp:0.0.0.0:90-80")], "listen cannot be"),
            (&[listen, ("bind", "guest")], "the firewall's to say"),
            (&[("proxy_protocol", "true")], "a key of LXD's"),
        ] {
            let err = of(pairs).unwrap_err();
            assert!(err.contains(said), "{err}");
        }
    }
}
