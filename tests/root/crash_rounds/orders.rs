//! Which commands there are to be killed.

use super::super::crash::Random;
use super::site::Site;

/// A command, and whether it is fed something.
pub struct Order {
    /// What it is called where it is said how long it takes.
    pub verb: &'static str,
    pub words: Vec<String>,
    pub input: bool,
}

/// About a container that there is.
const ABOUT: [&str; 46] = [
    "start NAME",
    "start NAME",
    "start NAME",
    "stop --timeout 5 NAME",
    "stop --force NAME",
    "restart --force NAME",
    "restart --timeout 5 NAME",
    "delete NAME",
    "delete --force NAME",
    "delete --force NAME",
    "launch tiny NAME",
    "exec NAME -- true",
    "exec NAME -- sleep 0.01",
    "exec -t NAME -- true",
    "snapshot create NAME",
    "snapshot create NAME",
    "snapshot create NAME sN",
    "snapshot create NAME sN",
    "snapshot restore NAME sN",
    "snapshot restore NAME sN --force",
    "snapshot delete NAME sN",
    "snapshot rename NAME sN tN",
    "copy NAME OTHER",
    "copy NAME OTHER --snapshots",
    "copy NAME/sN OTHER",
    "copy NAME OTHER --refresh",
    "rebuild NAME tiny --force",
    "storage optimize NAME",
    "rename NAME OTHER",
    "config set NAME limits.memory=64MiB user.note=N",
    "config set NAME limits.processes=100 boot.autostart=true",
    "config unset NAME limits.memory",
    "device add NAME eth1 nic network=LAN",
    "device remove NAME eth1",
    "device set NAME eth0 limits.ingress=10Mbit limits.egress=10Mbit",
    "device unset NAME eth0 limits.ingress limits.egress",
    "forward add NAME tcp 80N:80",
    "forward remove NAME tcp 80N",
    "firewall allow NAME tcp 22 --from set:office",
    "firewall remove NAME in 1",
    "firewall group join web NAME",
    "storage volume attach default volN NAME /mnt/N",
    "storage volume detach default volN NAME",
    "pause NAME",
    "resume NAME",
    "info NAME",
];

const WITH_INPUT: &str = "exec NAME -- sh -c cat>/tmp/x";

/// About none.
const OTHERS: [&str; 25] = [
    "launch tiny",
    "storage volume create default volN",
    "storage volume create default volN",
    "storage volume delete default volN",
    "storage volume list",
    "network create LAN",
    "network create LAN ipv4.dhcp=true",
    "network delete LAN",
    "network set LAN dns.domain=test.example",
    "network repair",
    "network repair",
    "repair",
    "setup",
    "list",
    "template import ARCHIVE --name spare",
    "template import ARCHIVE --name spare",
    "template delete spare",
    "publish NAME --as spare --replace",
    "launch spare NAME",
    "firewall set create office 198.51.100.0/24",
    "firewall set delete office",
    "firewall block 203.0.113.N --for 1d",
    "firewall group create web",
    "firewall group delete web",
    "autostart",
];

/// Some command about container `name`, or about what is around it.
pub fn order(random: &mut Random, name: &str, exists: bool, site: &Site<'_>) -> Order {
    let some =
        |random: &mut Random, all: &'static [&'static str]| all[random.below(all.len() as u64) as usize];
    let verb = match random.below(20) {
        0..4 => some(random, &OTHERS),
        4 if exists => WITH_INPUT,
        _ if exists => some(random, &ABOUT),
        n if n % 4 == 0 => "create tiny NAME",
        _ => "launch tiny NAME",
    };
    let (other, lan, number) = (random.below(super::NAMES), random.below(2), random.below(10));
    let fill = |word: &str| match word {
        "NAME" => name.to_owned(),
        "OTHER" => format!("c{other}"),
        "ARCHIVE" => site.archive().to_owned(),
        _ => word.replace("LAN", &format!("lan{lan}")).replace('N', &number.to_string()),
    };
    let words = verb.split(' ').map(fill).collect();
    Order { verb, words, input: verb == WITH_INPUT }
}
