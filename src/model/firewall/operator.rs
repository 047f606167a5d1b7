//! Whether a change would shut out the operator who makes it over ssh.

use std::net::IpAddr;

use super::block::Block;
use super::plan::Plan;
use super::policy::{Action, Direction, Policy, Proto};
use super::trace::{self, Packet};

/// The connection by which the operator works on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SshConnection {
    /// Where the operator sits.
    pub client: IpAddr,
    /// The host's address that the operator is connected to.
    pub server: IpAddr,
    /// The host's port that the operator is connected to.
    pub port: u16,
}

impl SshConnection {
    /// From sshd's SSH_CONNECTION: the client's address and port, the server's address and port.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let client = address(words.next()?)?;
        words.next()?;
        let server = address(words.next()?)?;
        let port = words.next()?.parse().ok()?;
        words.next().is_none().then_some(Self { client, server, port })
    }
}

/// A link-local address comes with its interface; sshd shows IPv4 over an IPv6 socket as it is.
fn address(text: &str) -> Option<IpAddr> {
    let ip: IpAddr = text.split('%').next()?.parse().ok()?;
    Some(ip.to_canonical())
}

/// Why the connection, or the next one like it, would no longer come through; None: it would.
pub fn shut_out(ssh: &SshConnection, plan: &Plan, policy: &Policy, blocks: &[Block]) -> Option<String> {
    taken_over(ssh, plan).or_else(|| denied(ssh, plan, policy, blocks))
}

fn taken_over(ssh: &SshConnection, plan: &Plan) -> Option<String> {
    let takes = plan.forwards.iter().find(|forward| {
        let here = match forward.listen {
            Some(listen) => listen == ssh.server,
            None => forward.to.is_ipv4() == ssh.server.is_ipv4(),
        };
        forward.proto == Proto::Tcp && forward.port == ssh.port && here
    })?;
    Some(format!(
        "port {} of {}, by which you are logged in, would lead to {}",
        ssh.port, ssh.server, takes.to
    ))
}

/// The operator sits in a guest and works on the host, or on the host's side of a guest.
fn denied(ssh: &SshConnection, plan: &Plan, policy: &Policy, blocks: &[Block]) -> Option<String> {
    let (guest, direction, peer) = match (plan.owner_of(ssh.client), plan.owner_of(ssh.server)) {
        (Some(guest), _) => (guest, Direction::Out, ssh.server),
        (None, Some(guest)) => (guest, Direction::In, ssh.client),
        (None, None) => return None,
    };
    let packet = Packet {
        container: guest.name.as_str(),
        direction,
        proto: Proto::Tcp,
        peer,
        port: Some(ssh.port),
        forwarded: direction == Direction::In,
    };
    let decision = trace::trace(plan, policy, blocks, &packet).ok()?;
    let way = format!("your own connection from {} to port {} of {}", ssh.client, ssh.port, ssh.server);
    (decision.action != Action::Allow).then(|| format!("{way} would be {}", decision.why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::firewall::fixture::{plan, policy};

    fn shut(connection: &str, text: &str, blocked: Option<&str>) -> Option<String> {
        let block = |address: &str| Block {
            address: address.parse().unwrap(),
            container: None,
            until: None,
            reason: None,
            created_at: 0,
        };
        let blocks: Vec<_> = blocked.into_iter().map(block).collect();
        shut_out(&SshConnection::parse(connection).unwrap(), &plan(text), &policy(text), &blocks)
    }

    #[test]
    fn the_way_in_is_read() {
        let ssh = SshConnection::parse("192.0.2.9 51234 198.51.100.1 22").unwrap();
        assert_eq!((ssh.client.to_string(), ssh.port), ("192.0.2.9".into(), 22));
        assert!(SshConnection::parse("fe80::1%eth0 1 ::ffff:1.2.3.4 22").unwrap().server.is_ipv4());
        for bad in ["", "192.0.2.9", "192.0.2.9 1 198.51.100.1", "a b c d", "1.1.1.1 1 2.2.2.2 22 x"] {
            assert_eq!(SshConnection::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_forward_of_the_hosts_own_port_is_noticed() {
        let forward = |listen: &str, address: &str| {
            format!(
                "[[forwards]]\ncontainer = \"web01\"\nproto = \"tcp\"\nlisten = \"{listen}\"\naddress = \"{address}\""
            )
        };
        let from = "192.0.2.9 51234 198.51.100.1 22";
        assert!(shut(from, &forward("22", ""), None).unwrap().contains("10.7.0.2"));
        assert!(shut(from, &forward("20-30", "198.51.100.1"), None).is_some());
        assert!(shut(from, &forward("22", "198.51.100.2"), None).is_none());
        assert!(shut(from, &forward("2222", ""), None).is_none());
    }

    #[test]
    fn an_operator_in_a_guest_keeps_the_way_to_the_host() {
        let from = "10.7.0.2 51234 10.7.0.1 22";
        assert!(shut(from, "", None).is_none());
        assert!(
            shut(from, "[networks.lan]\ndefault-out = \"deny\"", None)
                .unwrap()
                .contains("default of network")
        );
        let open = "[networks.lan]\ndefault-out = \"deny\"\nout = [{ action = \"allow\", proto = \"tcp\", ports = \"22\" }]";
        assert!(shut(from, open, None).is_none());
        assert!(
            shut("192.0.2.9 1 198.51.100.1 22", "[networks.lan]\ndefault-out = \"deny\"", None).is_none()
        );
    }

    #[test]
    fn an_operator_who_is_forwarded_to_a_guest_is_not_blocked_unawares() {
        let to = "192.0.2.9 51234 10.7.0.2 22";
        assert!(shut(to, "", Some("192.0.2.0/24")).unwrap().contains("block of 192.0.2.0/24"));
        assert!(shut(to, "", Some("192.0.3.0/24")).is_none());
    }
}
