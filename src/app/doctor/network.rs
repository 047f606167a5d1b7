//! What guests' traffic needs, and what gets in its way.

use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::{Command, Stdio};

use crate::model::instance::Instance;
use crate::sys::probe;

use super::check::{Check, Packages, Tried, read, sysctl};

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
    let chains =
        if root { run_nft(&["-j", "list", "chains"], "").unwrap_or_default() } else { String::new() };
    let drops = forward_drops(&chains, &instance.nft_table());
    vec![
        nft.judge(
            AREA,
            "nftables",
            "NAT, maps and bridge filters work",
            packages.install("nftables", "nftables"),
        ),
        links.judge(AREA, "bridge and veth", "work", "modprobe bridge && modprobe veth"),
        forwarding(read("/proc/sys/net/ipv4/ip_forward").as_deref()),
        foreign_firewall(&drops),
        bridge_netfilter(read("/proc/sys/net/bridge/bridge-nf-call-iptables").as_deref(), &drops),
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
    let mut child = Command::new("nft")
        .args(arguments)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run nft: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early says itself why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| format!("cannot hear nft: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("nft: {}", said.trim().lines().next().unwrap_or("failed without a word")))
}

fn forwarding(value: Option<&str>) -> Check {
    const NAME: &str = "IPv4 forwarding";
    match value {
        Some("1") => Check::ok(AREA, NAME, "on"),
        Some("0") => Check::degraded(
            AREA,
            NAME,
            "off: guests reach the host and nothing beyond it",
            sysctl("net.ipv4.ip_forward", 1),
        ),
        _ => Check::missing(AREA, NAME, "this kernel has no IPv4", "ls /proc/sys/net"),
    }
}

/// Chains of others that drop what is forwarded unless a rule of theirs lets it pass, as `family
/// table chain`. `chains` is the output of `nft -j list chains`. A drop wins over every accept in
/// other tables.
fn forward_drops(chains: &str, own_table: &str) -> Vec<String> {
    let Ok(listed) = serde_json::from_str::<serde_json::Value>(chains) else { return Vec::new() };
    let objects = listed["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
    objects
        .iter()
        .map(|object| &object["chain"])
        .filter(|chain| chain["hook"] == "forward" && chain["policy"] == "drop")
        .filter(|chain| ["ip", "inet"].iter().any(|family| chain["family"] == *family))
        .filter(|chain| chain["table"] != own_table)
        .map(|chain| {
            let word = |key: &str| chain[key].as_str().unwrap_or_default();
            format!("{} {} {}", word("family"), word("table"), word("name"))
        })
        .collect()
}

fn foreign_firewall(drops: &[String]) -> Check {
    const NAME: &str = "other firewalls";
    match drops.first() {
        None => Check::ok(AREA, NAME, "none drops forwarded traffic"),
        Some(chain) => Check::degraded(
            AREA,
            NAME,
            format!("chain '{}' drops what is forwarded, guests' traffic too", drops.join("', '")),
            format!("nft list chain {chain}"),
        ),
    }
}

/// With br_netfilter, frames between two guests of one bridge pass the host's forward chains.
fn bridge_netfilter(value: Option<&str>, drops: &[String]) -> Check {
    const NAME: &str = "br_netfilter";
    match (value, drops.first()) {
        (Some("1"), Some(chain)) => Check::degraded(
            AREA,
            NAME,
            format!("on, and chain '{chain}' drops: guests of one bridge do not reach each other"),
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
            let detail = format!("mode {mode:04o}: ordinary users' containers have no way out");
            Check::degraded(AREA, NAME, detail, "chmod 0666 /dev/net/tun")
        }
        _ => Check::degraded(
            AREA,
            NAME,
            "not there: no VPN in guests, no way out for ordinary users' containers",
            "modprobe tun",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    const DOCKER: &str = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}},
        {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "type": "filter", "hook": "forward", "policy": "drop"}},
        {"chain": {"family": "ip", "table": "filter", "name": "INPUT", "type": "filter", "hook": "input", "policy": "drop"}},
        {"chain": {"family": "ip", "table": "filter", "name": "DOCKER"}},
        {"chain": {"family": "ip6", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"}},
        {"chain": {"family": "inet", "table": "nagaya", "name": "forward", "hook": "forward", "policy": "drop"}}]}"#;

    #[test]
    fn dockers_drop_is_seen_and_our_own_is_not() {
        let drops = forward_drops(DOCKER, "nagaya");
        assert_eq!(drops, ["ip filter FORWARD"]);
        let check = foreign_firewall(&drops);
        assert_eq!(check.status, Status::Degraded);
        assert_eq!(check.fix.as_deref(), Some("nft list chain ip filter FORWARD"));
        assert_eq!(bridge_netfilter(Some("1"), &drops).status, Status::Degraded);
        assert_eq!(bridge_netfilter(Some("0"), &drops).status, Status::Ok);
        for text in ["", "{}", "{\"nftables\": [1, {\"chain\": 2}]}"] {
            assert_eq!(forward_drops(text, "nagaya"), Vec::<String>::new());
        }
    }

    #[test]
    fn forwarding_off_is_named() {
        assert_eq!(forwarding(Some("1")).status, Status::Ok);
        assert!(forwarding(Some("0")).fix.unwrap().contains("net.ipv4.ip_forward = 1"));
        assert_eq!(forwarding(None).status, Status::Missing);
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
