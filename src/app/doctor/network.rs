//! What guests' traffic needs, and what blocks it.

use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use crate::host::broker::coexist;
use crate::host::broker::coexist::{Finding, Who};
use crate::model::instance::Instance;
use crate::sys::kernel::probe;
use crate::sys::net::host_resolvers;
use crate::sys::process::fork::Fork;
use crate::sys::process::program::{Output, Program};
use crate::sys::programs::{dnsmasq, search};
use crate::sys::{Context, SysResult, error_text};

use super::check::{Check, Packages, Tried, chain, read, sysctl};

const AREA: &str = "network";

/// The kinds of rule that nagaya's tables are made of.
const RULES: &str = "\
table inet ngprobe {
  map ways { type ipv4_addr : verdict; }
  chain post { type nat hook postrouting priority 100; ip saddr 10.0.0.0/8 ip daddr != 10.0.0.0/8 masquerade; }
  chain forward { type filter hook forward priority 0; ct state established,related accept; ip daddr vmap @ways; }
}
table bridge ngprobe {
  chain port { ether saddr 02:00:00:00:00:01 accept; }
  chain pre { type filter hook prerouting priority -300; iifname vmap { \"ngprobe1\" : jump port }; }
}
";

pub fn checks(instance: &Instance, packages: Packages, root: bool) -> Vec<Check> {
    let nft = if root { nft_in_namespace() } else { Tried::NotRoot };
    let links = if root { Tried::of(probe::bridge_and_veth()) } else { Tried::NotRoot };
    let bridge = instance.bridge();
    let has_network = nix::net::if_::if_nametoindex(bridge.as_str()).is_ok();
    let firewalls = if root { firewalls(instance, has_network.then_some(&bridge)) } else { Ok(Vec::new()) };
    let foreign = match &firewalls {
        Ok(found) => foreign_firewall(found, &bridge, has_network),
        Err(why) => Check::degraded(AREA, FIREWALLS, why, "nft list chains"),
    };
    let found = firewalls.unwrap_or_default();
    vec![
        nft.judge(
            AREA,
            "nftables",
            "NAT, maps and bridge filters work",
            packages.install("nftables", "nftables"),
        ),
        links.judge(AREA, "bridge and veth", "work", "modprobe bridge && modprobe veth"),
        forwarding(read("/proc/sys/net/ipv4/ip_forward").as_deref(), instance.state_dir().exists()),
        resolvers(&host_resolvers::usable(), instance.is_daemonless(), dnsmasq::find().is_ok(), packages),
        foreign,
        bridge_netfilter(
            read("/proc/sys/net/bridge/bridge-nf-call-iptables").as_deref(),
            &found,
            has_network,
        ),
        tun(tun_mode()),
    ]
}

fn nft_in_namespace() -> Tried {
    match probe::in_network_namespace(|| run_nft(&["-f", "-"], RULES)) {
        Ok(Ok(_)) => Tried::Worked,
        Ok(Err(said)) => Tried::Failed(said),
        Err(error) => Tried::of::<(), _>(Err(error)),
    }
}

/// What nft writes, or what it complains of.
fn run_nft(arguments: &[&str], input: &str) -> Result<String, String> {
    let output = || -> SysResult<Output> {
        let path = search::NFT.find().map_err(std::io::Error::other).cannot(|| "run nft")?;
        Fork::new("try nft").output(&Program::at(&path, arguments)?.env("LC_ALL", "C")?, input)
    };
    let output = output().map_err(|error| error_text(&error))?;
    if output.exit.is_success() {
        return Ok(output.stdout);
    }
    Err(format!("nft: {}", output.stderr.trim().lines().next().unwrap_or("failed without a word")))
}

/// It is off on a new host, where the first launch switches it on.
fn forwarding(value: Option<&str>, is_set_up: bool) -> Check {
    const NAME: &str = "IPv4 forwarding";
    match value {
        Some("1") => Check::ok(AREA, NAME, "on"),
        Some("0") if !is_set_up => Check::later(AREA, NAME, "off: the first launch switches it on"),
        Some("0") => Check::degraded(
            AREA,
            NAME,
            "off: guests reach the host and nothing beyond it",
            sysctl("net.ipv4.ip_forward", 1),
        ),
        _ => Check::missing(AREA, NAME, "this kernel has no IPv4", "ls /proc/sys/net"),
    }
}

/// Which resolvers guests are told.
fn resolvers(usable: &[IpAddr], daemonless: bool, dnsmasq: bool, packages: Packages) -> Check {
    const NAME: &str = "resolvers";
    if usable.is_empty() && daemonless {
        return Check::ok(AREA, NAME, "those on the host's loopback, through pasta");
    }
    if usable.is_empty() && dnsmasq {
        return Check::ok(AREA, NAME, "those on the host's loopback, which a dnsmasq of each network asks");
    }
    if usable.is_empty() {
        let detail = "none but on the host's loopback: guests look up no names, for want of dnsmasq";
        return Check::degraded(AREA, NAME, detail, packages.install_program(&search::DNSMASQ));
    }
    let list: Vec<_> = usable.iter().map(IpAddr::to_string).collect();
    Check::ok(AREA, NAME, list.join(", "))
}

const FIREWALLS: &str = "other firewalls";

/// Firewalls of others that drop forwarded traffic; a drop wins over every accept in other tables.
fn firewalls(instance: &Instance, bridge: Option<&String>) -> Result<Vec<Finding>, String> {
    let names: Vec<String> = bridge.cloned().into_iter().collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot look at other firewalls: {error}"))?;
    runtime.block_on(coexist::look(instance, &names)).map_err(|error| chain(&error))
}

fn of_whom(finding: &Finding) -> String {
    let place = &finding.place;
    match finding.who {
        Who::Docker => format!("Docker ({place})"),
        Who::Ufw => format!("ufw ({place})"),
        Who::Firewalld => format!("firewalld ({place})"),
        Who::Iptables => format!("a rule of iptables ({place})"),
        Who::Unknown => format!("chain '{place}'"),
    }
}

fn foreign_firewall(found: &[Finding], bridge: &str, has_network: bool) -> Check {
    if let Some(finding) = found.iter().find(|finding| finding.who == Who::Unknown) {
        let place = &finding.place;
        let fix = format!(
            "nft insert rule {place} iifname {bridge} accept && nft insert rule {place} oifname {bridge} accept"
        );
        let detail = format!("{} drops what is forwarded, guests' traffic too", of_whom(finding));
        return Check::degraded(AREA, FIREWALLS, detail, fix);
    }
    let whom = |handled: bool| {
        let of_kind = found.iter().filter(|finding| finding.is_handled == handled);
        of_kind.map(of_whom).collect::<Vec<_>>().join(", ")
    };
    match (whom(true), whom(false)) {
        (done, left) if done.is_empty() && left.is_empty() => {
            Check::ok(AREA, FIREWALLS, "none drops forwarded traffic")
        }
        (done, left) if left.is_empty() => {
            Check::ok(AREA, FIREWALLS, format!("{done}: guests' traffic is let through there"))
        }
        (_, left) if has_network => {
            let detail = format!("{left}: drops guests' traffic");
            Check::degraded(AREA, FIREWALLS, detail, "nagaya network repair")
        }
        (_, left) => {
            let detail = format!("{left}: guests' traffic is let through there once there is a network");
            Check::ok(AREA, FIREWALLS, detail)
        }
    }
}

/// With br_netfilter, frames between two guests of one bridge pass the host's forward chains.
fn bridge_netfilter(value: Option<&str>, found: &[Finding], has_network: bool) -> Check {
    const NAME: &str = "br_netfilter";
    let dropping = found.iter().find(|finding| !finding.is_handled);
    match (value, dropping.filter(|finding| has_network || finding.who == Who::Unknown)) {
        (Some("1"), Some(finding)) => Check::degraded(
            AREA,
            NAME,
            format!("on, and {} drops: guests of one bridge do not reach each other", of_whom(finding)),
            sysctl("net.bridge.bridge-nf-call-iptables", 0),
        ),
        (Some("1"), None) => {
            Check::ok(AREA, NAME, "on: frames between guests pass the host's forward chains")
        }
        (Some(_), _) => Check::ok(AREA, NAME, "loaded, off"),
        (None, _) => Check::ok(AREA, NAME, "not loaded"),
    }
}

/// Device number and permissions of /dev/net/tun, where it is a character device.
fn tun_mode() -> Option<(u64, u32)> {
    let data = std::fs::metadata("/dev/net/tun").ok()?;
    data.file_type().is_char_device().then(|| (data.rdev(), data.mode() & 0o777))
}

fn tun(found: Option<(u64, u32)>) -> Check {
    const NAME: &str = "/dev/net/tun";
    match found {
        Some((device, mode)) if device == rustix::fs::makedev(10, 200) => {
            if mode & 0o006 == 0o006 {
                return Check::ok(AREA, NAME, "open to all");
            }
            let detail = format!("mode {mode:04o}: ordinary users' containers have no uplink");
            Check::degraded(AREA, NAME, detail, "chmod 0666 /dev/net/tun")
        }
        _ => Check::degraded(
            AREA,
            NAME,
            "not there: no VPN in guests, no uplink for ordinary users' containers",
            "modprobe tun",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    fn line(found: &[(Who, &str, bool)], has_network: bool) -> String {
        let found: Vec<Finding> = found
            .iter()
            .map(|(who, place, is_handled)| Finding {
                who: *who,
                place: (*place).to_owned(),
                is_handled: *is_handled,
            })
            .collect();
        let checks = [
            foreign_firewall(&found, "nagaya0", has_network),
            bridge_netfilter(Some("1"), &found, has_network),
        ];
        let text = |check: &Check| {
            let fix = check.fix.as_ref().map(|fix| format!("\n    {fix}")).unwrap_or_default();
            format!("{:?} {}: {}{fix}\n", check.status, check.name, check.detail)
        };
        checks.iter().map(text).collect()
    }

    #[test]
    fn firewalls_are_told_as_the_golden_lines() {
        let docker = [(Who::Docker, "ip filter FORWARD", true), (Who::Docker, "ip6 filter FORWARD", true)];
        let undone = [(Who::Ufw, "ip filter FORWARD", false), (Who::Firewalld, "zone nagaya", true)];
        let unknown =
            [(Who::Docker, "ip filter FORWARD", true), (Who::Unknown, "inet filter forward", false)];
        let legacy = [(Who::Iptables, "legacy ip filter FORWARD", false)];
        let text = [
            line(&[], true),
            line(&docker, true),
            line(&undone, true),
            line(&undone, false),
            line(&unknown, true),
            line(&legacy, true),
        ]
        .join("\n");
        snapbox::assert_data_eq!(text, snapbox::file!["../../../tests/golden/doctor-firewalls.txt"].raw());
    }

    #[test]
    fn br_netfilter_that_is_off_does_no_harm() {
        let found = [Finding { who: Who::Unknown, place: "ip x y".into(), is_handled: false }];
        assert_eq!(bridge_netfilter(Some("0"), &found, true).status, Status::Ok);
        assert_eq!(bridge_netfilter(None, &found, true).status, Status::Ok);
    }

    #[test]
    fn forwarding_off_is_named() {
        assert_eq!(forwarding(Some("1"), true).status, Status::Ok);
        assert!(forwarding(Some("0"), true).fix.unwrap().contains("net.ipv4.ip_forward = 1"));
        assert_eq!(forwarding(Some("0"), false).status, Status::Later);
        assert_eq!(forwarding(None, true).status, Status::Missing);
    }

    #[test]
    fn a_host_that_keeps_its_resolvers_to_itself_is_named() {
        let found =
            |usable: &[IpAddr], daemonless, dnsmasq| resolvers(usable, daemonless, dnsmasq, Packages::Apt);
        assert_eq!(found(&["192.0.2.1".parse().unwrap()], false, false).detail, "192.0.2.1");
        assert_eq!(found(&[], true, false).status, Status::Ok);
        assert_eq!(found(&[], false, true).status, Status::Ok);
        assert_eq!(found(&[], false, false).fix.as_deref(), Some("apt-get install dnsmasq-base"));
    }

    #[test]
    fn tun_is_the_right_device_and_open() {
        let device = rustix::fs::makedev(10, 200);
        assert_eq!(tun(Some((device, 0o666))).status, Status::Ok);
        assert_eq!(tun(Some((device, 0o600))).fix.as_deref(), Some("chmod 0666 /dev/net/tun"));
        assert_eq!(tun(Some((device + 1, 0o666))).fix.as_deref(), Some("modprobe tun"));
        assert_eq!(tun(None).status, Status::Degraded);
    }

    #[test]
    fn rules_that_the_kernel_refuses_are_a_failed_trial() {
        assert_eq!(nft_in_namespace(), Tried::Worked);
        let refused = run_nft(&["-c", "-f", "-"], "table inet x { chain y { nonsense } }").unwrap_err();
        assert!(refused.starts_with("nft: ") && refused.contains("error"), "{refused}");
    }
}
