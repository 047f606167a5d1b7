//! The links between the bridge and the containers.

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::{Netlink, NetlinkError, into_io};
use crate::model::instance::is_host_link;
use crate::model::mac::Mac;

/// A pair of link ends: one on the host's bridge, the other in a container.
pub struct Veth<'a> {
    /// `ContainerId::host_link` of the container.
    pub host_name: &'a str,
    pub host_mac: Mac,
    /// Index of the bridge that the host's end becomes a port of.
    pub bridge: u32,
    pub guest_name: &'a str,
    pub guest_mac: Mac,
    /// The container's network namespace.
    pub netns: BorrowedFd<'a>,
}

impl Netlink {
    /// Makes both ends in one request: the guest's is never seen on the host, under any name, and
    /// has its final name and address from the start.
    pub async fn create_veth(&self, veth: &Veth<'_>) -> Result<(), NetlinkError> {
        check_name(veth.host_name)?;
        let peer = LinkMessageBuilder::<LinkUnspec>::default()
            .name(veth.guest_name)
            .address(veth.guest_mac.0.to_vec())
            .setns_by_fd(veth.netns.as_raw_fd())
            .build();
        let message = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(veth.host_name)
            .address(veth.host_mac.0.to_vec())
            .controller(veth.bridge)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .up()
            .build();
        self.handle.link().add(message).execute().await.map_err(|error| NetlinkError::CreateVeth {
            name: veth.host_name.to_owned(),
            bridge: veth.bridge,
            source: into_io(error),
        })
    }

    /// Deletes a container's link, both ends of it. No such link is fine: it goes by itself when
    /// the container's network namespace does, at some moment after the last process.
    pub async fn delete_link(&self, name: &str) -> Result<(), NetlinkError> {
        check_name(name)?;
        match self.link(name).await? {
            None => Ok(()),
            Some(link) if link.kind == Some(InfoKind::Veth) => self.delete_index(name, link.index).await,
            Some(_) => Err(NetlinkError::NotAVeth(name.to_owned())),
        }
    }
}

fn check_name(name: &str) -> Result<(), NetlinkError> {
    if is_host_link(name) { Ok(()) } else { Err(NetlinkError::LinkName(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::time::Instant;

    use super::*;
    use crate::model::lan::Network;
    use crate::sys::guest_net;
    use crate::sys::netns_fixture::{Netns, block_on, in_new_netns, json, pings, run};

    fn network() -> Network {
        Network { bridge: "test0".into(), ipv4: "10.77.16.1/20".parse().unwrap() }
    }

    fn mac() -> Mac {
        Mac::guest([1, 2, 3, 4, 5])
    }

    async fn attach(netlink: &Netlink, bridge: u32, name: &str, guest: &Netns) -> Result<(), NetlinkError> {
        let veth = Veth {
            host_name: name,
            host_mac: mac().host_end(),
            bridge,
            guest_name: "eth0",
            guest_mac: mac(),
            netns: guest.as_fd(),
        };
        netlink.create_veth(&veth).await
    }

    fn attached(guest: &Netns) {
        block_on(async {
            let netlink = Netlink::open().unwrap();
            let bridge = netlink.ensure_bridge(&network()).await.unwrap();
            attach(&netlink, bridge, "ng0123abcd", guest).await.unwrap();
        });
    }

    #[test]
    fn one_request_makes_both_ends_whole() {
        in_new_netns(|| {
            let guest = Netns::new();
            attached(&guest);
            let host_end = json("ip", "-j -d link show ng0123abcd");
            assert_eq!(host_end[0]["address"], "fe:01:02:03:04:05");
            assert_eq!(host_end[0]["master"], "test0");
            assert!(host_end[0]["flags"].as_array().unwrap().iter().any(|flag| flag == "UP"));
            let guest_end = guest.run(|| json("ip", "-j -d link show eth0"));
            assert_eq!(guest_end[0]["address"], "02:01:02:03:04:05");
            assert_eq!(guest_end[0]["linkinfo"]["info_kind"], "veth");
        });
    }

    #[test]
    fn host_and_guest_reach_each_other_also_after_a_reboot() {
        in_new_netns(|| {
            let first = Netns::new();
            attached(&first);
            let configure =
                || guest_net::configure("eth0", "10.77.16.2/20".parse().unwrap(), network().gateway());
            first.run(|| {
                configure().unwrap();
                assert!(pings("10.77.16.1"));
            });
            assert!(pings("10.77.16.2"));
            let second = Netns::new();
            first.run(|| guest_net::move_link_to_netns("eth0", second.as_fd()).unwrap());
            assert!(!pings("10.77.16.2"));
            second.run(|| {
                configure().unwrap();
                assert!(pings("10.77.16.1"));
            });
            assert_eq!(json("ip", "-j link show ng0123abcd")[0]["master"], "test0");
        });
    }

    #[test]
    fn only_our_links_are_deleted() {
        in_new_netns(|| {
            let guest = Netns::new();
            attached(&guest);
            run("ip", "link add ng00000001 type bridge");
            run("ip", "link add veth0 type veth peer name veth1");
            block_on(async {
                let netlink = Netlink::open().unwrap();
                netlink.delete_link("ng0123abcd").await.unwrap();
                netlink.delete_link("ng0123abcd").await.unwrap();
                let kind = netlink.delete_link("ng00000001").await;
                assert!(matches!(kind, Err(NetlinkError::NotAVeth(_))));
                for name in ["veth0", "test0", "ng0123abc", "ng0123abcde", "ng0123ABCD", "ng"] {
                    let refused = netlink.delete_link(name).await;
                    assert!(matches!(refused, Err(NetlinkError::LinkName(_))), "{name}");
                }
            });
            assert!(guest.run(|| !run("ip", "-br link").contains("eth0")));
            assert!(run("ip", "-br link").contains("veth0"));
        });
    }

    #[test]
    fn a_hundred_links_stand_on_one_bridge() {
        in_new_netns(|| {
            let guests: Vec<Netns> = (0..100).map(|_| Netns::new()).collect();
            block_on(async {
                let netlink = Netlink::open().unwrap();
                let bridge = netlink.ensure_bridge(&network()).await.unwrap();
                let start = Instant::now();
                for _ in 0..1000 {
                    netlink.ensure_bridge(&network()).await.unwrap();
                }
                println!("ensure_bridge, nothing to do: {:?}", start.elapsed() / 1000);
                let start = Instant::now();
                for (n, guest) in guests.iter().enumerate() {
                    attach(&netlink, bridge, &format!("ng{n:08x}"), guest).await.unwrap();
                }
                println!("create_veth: {:?}", start.elapsed() / 100);
            });
            let mut configuring = std::time::Duration::ZERO;
            for (n, guest) in guests.iter().enumerate() {
                let address = format!("10.77.17.{}/20", n + 1).parse().unwrap();
                configuring += guest.run(|| {
                    let start = Instant::now();
                    guest_net::configure("eth0", address, network().gateway()).unwrap();
                    start.elapsed()
                });
            }
            println!("configure: {:?}", configuring / 100);
            let ports = json("ip", "-j link show master test0");
            assert_eq!(ports.as_array().unwrap().len(), 100);
            assert!(pings("10.77.17.1") && pings("10.77.17.100"));
            block_on(async {
                let netlink = Netlink::open().unwrap();
                let start = Instant::now();
                for n in 0..100 {
                    netlink.delete_link(&format!("ng{n:08x}")).await.unwrap();
                }
                println!("delete_link: {:?}", start.elapsed() / 100);
                netlink.delete_bridge(&network()).await.unwrap();
            });
        });
    }
}
