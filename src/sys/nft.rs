//! nftables: whole tables through the `nft` program, and a question to the kernel itself that is
//! cheap enough for every launch. Single changes go to the kernel as batches of messages, for nft
//! reads all that there is before it changes anything: seconds where there are a thousand containers.

mod batch;
mod expression;
#[cfg(test)]
mod firewall_tests;
mod listing;
mod message;
mod watch;

use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nftables::schema::Nftables;
use nftables::types::NfFamily;

pub use batch::Batch;
pub use listing::{Count, Found, FoundRule, element, elements, generation, rules, sets};
pub use watch::Watch;

use crate::render::nft::{TableRules, removal};

/// What went wrong with a table.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    #[error("there is no nft program on this host (looked for {})", PROGRAMS.join(", "))]
    NoProgram,
    #[error("'{0}' cannot be a table: 1 to 255 of a-z, A-Z, 0-9, '-', '_'")]
    TableName(String),
    #[error("cannot run {program}")]
    Run { program: &'static str, source: io::Error },
    #[error("{action} failed ({status}): {message}")]
    Failed { action: String, status: ExitStatus, message: String },
    #[error("cannot write the rules of table '{table}' as JSON")]
    Encode { table: String, source: serde_json::Error },
    #[error("cannot read what nft lists of table '{table}'")]
    Decode { table: String, source: serde_json::Error },
    #[error("table '{0}' was applied but does not read back as it was written")]
    ReadBack(String),
    #[error("cannot ask the kernel for table '{table}'")]
    Ask { table: String, source: io::Error },
    /// `what` continues "cannot".
    #[error("cannot {what}")]
    Batch { what: String, source: io::Error },
    #[error("cannot ask the kernel for {what}")]
    List { what: String, source: io::Error },
}

impl NftError {
    /// What the kernel said, where it did.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Ask { source, .. } | Self::Batch { source, .. } | Self::List { source, .. } => {
                source.raw_os_error()
            }
            _ => None,
        }
    }

    /// The kernel's rules have changed since they were looked at.
    pub fn is_stale(&self) -> bool {
        self.errno() == Some(libc::ERESTART)
    }
}

/// Where distributions put it. Not looked for in PATH: the caller may be root with a user's
/// environment.
const PROGRAMS: [&str; 4] = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft", "/usr/local/sbin/nft"];

/// Puts the table in the place of any other of its name, in one transaction, and reads it back.
pub fn apply(rules: &TableRules) -> Result<(), NftError> {
    check_name(&rules.name)?;
    commit(&format!("applying table '{}'", rules.name), &rules.name, &rules.replacement())?;
    if is_in_place(rules)? { Ok(()) } else { Err(NftError::ReadBack(rules.name.clone())) }
}

/// Whether the kernel holds the table as it is written here. Starts `nft`.
pub fn is_in_place(rules: &TableRules) -> Result<bool, NftError> {
    let name = rules.name.as_str();
    if !table_exists(rules.family, name)? {
        return Ok(false);
    }
    let printed = run(
        &format!("listing table '{name}'"),
        &["-j", "list", "table", family_name(rules.family), name],
        &[],
    )?;
    let listed: Nftables<'_> = serde_json::from_slice(&printed)
        .map_err(|source| NftError::Decode { table: name.to_owned(), source })?;
    Ok(rules.is_listed_in(&listed))
}

/// Deletes a table; that there is none is fine.
pub fn delete_table(family: NfFamily, name: &str) -> Result<(), NftError> {
    if !table_exists(family, name)? {
        return Ok(());
    }
    commit(&format!("deleting table '{name}'"), name, &removal(family, name))
}

fn commit(action: &str, table: &str, batch: &Nftables<'_>) -> Result<(), NftError> {
    let json =
        serde_json::to_vec(batch).map_err(|source| NftError::Encode { table: table.to_owned(), source })?;
    run(action, &["-j", "-f", "-"], &json)?;
    tracing::debug!(action, "nft done");
    Ok(())
}

fn run(action: &str, args: &[&str], input: &[u8]) -> Result<Vec<u8>, NftError> {
    let program = *PROGRAMS.iter().find(|path| Path::new(path).exists()).ok_or(NftError::NoProgram)?;
    let failed = |source| NftError::Run { program, source };
    let mut child = Command::new(program)
        .args(args)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // One that ends before it has read everything says why on its standard error.
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input));
    let output = child.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(NftError::Failed { action: action.to_owned(), status: output.status, message });
    }
    written.map_err(failed)?;
    Ok(output.stdout)
}

/// Whether there is such a table, asked of the kernel without starting a program. It says
/// nothing of what the table holds.
pub fn table_exists(family: NfFamily, name: &str) -> Result<bool, NftError> {
    Ok(table_handle(family, name)?.is_some())
}

/// The number that the kernel gave the table when it was made: another one means that the table
/// was deleted and made again. None where there is no such table.
pub fn table_handle(family: NfFamily, name: &str) -> Result<Option<u64>, NftError> {
    check_name(name)?;
    let ask = || -> io::Result<Option<u64>> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        // Connected to the kernel, it takes messages from no one else.
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.send(&wire::get_table(family, name), 0)?;
        let mut answer = Vec::with_capacity(4096);
        socket.recv(&mut answer, 0)?;
        wire::table_handle(&answer)
    };
    ask().map_err(|source| NftError::Ask { table: name.to_owned(), source })
}

/// What nft takes without quoting, within NFT_NAME_MAXLEN less its NUL.
fn check_name(name: &str) -> Result<(), NftError> {
    let good = (1..=255).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if good { Ok(()) } else { Err(NftError::TableName(name.to_owned())) }
}

fn family_name(family: NfFamily) -> &'static str {
    match family {
        NfFamily::IP => "ip",
        NfFamily::IP6 => "ip6",
        NfFamily::INet => "inet",
        NfFamily::ARP => "arp",
        NfFamily::Bridge => "bridge",
        NfFamily::NetDev => "netdev",
    }
}

/// The bytes of one question and its answer, as linux/netfilter/nfnetlink.h and nf_tables.h
/// lay them out.
mod wire {
    use std::io;

    use nftables::types::NfFamily;

    const HEADER: usize = 16;
    /// Header of the message and of nfnetlink.
    const HEADERS: usize = HEADER + 4;
    const NLMSG_ERROR: u16 = 2;
    const SUBSYSTEM: u16 = 10 << 8;
    const NEW_TABLE: u16 = SUBSYSTEM;
    const GET_TABLE: u16 = SUBSYSTEM | 1;
    const REQUEST: u16 = 1;
    const TABLE_NAME: u16 = 1;
    const TABLE_HANDLE: u16 = 4;
    /// Without the bits that say "nested" and "network byte order".
    const TYPE_MASK: u16 = 0x3fff;

    /// NFT_MSG_GETTABLE. `name` is no longer than 255 bytes, so no length can overflow.
    pub fn get_table(family: NfFamily, name: &str) -> Vec<u8> {
        let attribute = 4 + name.len() + 1;
        let length = HEADERS + attribute.next_multiple_of(4);
        let mut bytes = Vec::with_capacity(length);
        bytes.extend((length as u32).to_ne_bytes());
        bytes.extend(GET_TABLE.to_ne_bytes());
        bytes.extend(REQUEST.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend([protocol(family), 0, 0, 0]);
        bytes.extend((attribute as u16).to_ne_bytes());
        bytes.extend(TABLE_NAME.to_ne_bytes());
        bytes.extend(name.as_bytes());
        bytes.resize(length, 0);
        bytes
    }

    /// Reads the answer: the table's handle, or none where the kernel says ENOENT.
    pub fn table_handle(answer: &[u8]) -> io::Result<Option<u64>> {
        let length = u32_at(answer, 0)? as usize;
        let message = answer.get(..length).ok_or_else(cut_short)?;
        match u16_at(message, 4)? {
            NLMSG_ERROR => match (u32_at(message, HEADER)? as i32).wrapping_neg() {
                libc::ENOENT => Ok(None),
                0 => Err(malformed("an acknowledgement in place of an answer")),
                errno => Err(io::Error::from_raw_os_error(errno)),
            },
            NEW_TABLE => {
                let mut rest = message.get(HEADERS..).ok_or_else(cut_short)?;
                while !rest.is_empty() {
                    let length = usize::from(u16_at(rest, 0)?);
                    let kind = u16_at(rest, 2)? & TYPE_MASK;
                    let value = rest.get(4..length).ok_or_else(cut_short)?;
                    if kind == TABLE_HANDLE {
                        let handle = value.try_into().map_err(|_| cut_short())?;
                        return Ok(Some(u64::from_be_bytes(handle)));
                    }
                    rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
                }
                Err(malformed("a table without a handle"))
            }
            _ => Err(malformed("an answer of an unknown type")),
        }
    }

    fn protocol(family: NfFamily) -> u8 {
        match family {
            NfFamily::INet => 1,
            NfFamily::IP => 2,
            NfFamily::ARP => 3,
            NfFamily::NetDev => 5,
            NfFamily::Bridge => 7,
            NfFamily::IP6 => 10,
        }
    }

    fn u16_at(bytes: &[u8], at: usize) -> io::Result<u16> {
        let two = bytes.get(at..at + 2).and_then(|two| two.try_into().ok());
        two.map(u16::from_ne_bytes).ok_or_else(cut_short)
    }

    fn u32_at(bytes: &[u8], at: usize) -> io::Result<u32> {
        let four = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
        four.map(u32::from_ne_bytes).ok_or_else(cut_short)
    }

    fn cut_short() -> io::Error {
        malformed("an answer that is cut short")
    }

    fn malformed(what: &'static str) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, what)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::model::lan::Network;
    use crate::render::nft::network_table;
    use crate::sys::guest_net;
    use crate::sys::netlink::Netlink;
    use crate::sys::netns_fixture::{Netns, in_new_netns, json, names, nic, pings, plug, run};
    use crate::sys::sysctl::enable_forwarding;

    fn network() -> Network {
        Network { bridge: "test0".into(), ipv4: "10.77.16.1/20".parse().unwrap() }
    }

    fn rules() -> TableRules {
        network_table("test", &network(), &["test-*".to_owned()])
    }

    fn exists() -> bool {
        table_exists(NfFamily::INet, "test").unwrap()
    }

    #[test]
    fn a_table_is_applied_again_and_again_and_deleted() {
        in_new_netns(|| {
            assert!(!exists());
            run("nft", "add table inet other");
            assert!(!exists());
            apply(&rules()).unwrap();
            assert!(exists());
            let once = json("nft", "-j list table inet test");
            let handle = table_handle(NfFamily::INet, "test").unwrap();
            apply(&rules()).unwrap();
            let count = |listed: &serde_json::Value| listed["nftables"].as_array().unwrap().len();
            assert_eq!(count(&json("nft", "-j list table inet test")), count(&once));
            assert_ne!(table_handle(NfFamily::INet, "test").unwrap(), handle);
            assert!(!table_exists(NfFamily::IP, "test").unwrap());
            delete_table(NfFamily::INet, "test").unwrap();
            assert!(!exists());
            delete_table(NfFamily::INet, "test").unwrap();
            assert_eq!(run("nft", "list tables").trim(), "table inet other");
        });
    }

    #[test]
    fn a_flushed_or_amended_table_is_noticed() {
        in_new_netns(|| {
            assert!(!is_in_place(&rules()).unwrap());
            apply(&rules()).unwrap();
            assert!(is_in_place(&rules()).unwrap());
            run("nft", "insert rule inet test forward drop");
            assert!(!is_in_place(&rules()).unwrap());
            apply(&rules()).unwrap();
            run("nft", "flush table inet test");
            assert!(exists() && !is_in_place(&rules()).unwrap());
        });
    }

    #[test]
    fn the_table_reads_as_it_should() {
        in_new_netns(|| {
            apply(&rules()).unwrap();
            let listed = run("nft", "list table inet test");
            for line in [
                "type filter hook forward priority filter; policy accept;",
                "iifname \"test0\" accept",
                "oifname \"test0\" accept",
                "type nat hook postrouting priority srcnat; policy accept;",
                "ip saddr 10.77.16.0/20 ip daddr != 10.77.16.0/20 masquerade",
            ] {
                assert!(listed.contains(line), "{line} in {listed}");
            }
        });
    }

    /// A guest behind the bridge and a machine beyond the host that has no route back: only
    /// translated packets are answered.
    #[test]
    fn guests_reach_beyond_the_host_through_translation_only() {
        in_new_netns(|| {
            let (guest, beyond) = (Netns::new(), Netns::new());
            let netlink = Netlink::open().unwrap();
            let bridge = netlink.ensure_bridge(&network().now(), "test").unwrap().index;
            let mut own = nic("eth0", 1);
            (own.ipv4, own.gateway4) = ("10.77.16.2/20".parse().ok(), Some(network().gateway()));
            netlink.plug(&plug(&own, &names(1), bridge, &guest)).unwrap();
            let mut outside = nic("eth0", 2);
            outside.settings.ipv4_filtering = false;
            netlink.plug(&plug(&outside, &names(2), bridge, &beyond)).unwrap();
            run("ip", "link set ng00000002 nomaster");
            run("ip", "addr add 192.0.2.1/24 dev ng00000002");
            beyond.run(|| {
                run("ip", "addr add 192.0.2.2/24 dev eth0");
                run("ip", "link set eth0 up");
            });
            enable_forwarding(false).unwrap();
            guest.run(|| {
                guest_net::configure(&[own]).unwrap();
                assert!(!pings("192.0.2.2"));
            });
            apply(&rules()).unwrap();
            assert!(guest.run(|| pings("192.0.2.2")));
        });
    }

    #[test]
    fn asking_is_cheap() {
        in_new_netns(|| {
            let start = Instant::now();
            apply(&rules()).unwrap();
            println!("apply and read back: {:?}", start.elapsed());
            let start = Instant::now();
            for _ in 0..1000 {
                assert!(exists());
            }
            let each = start.elapsed() / 1000;
            println!("table_exists: {each:?}");
            assert!(each < Duration::from_millis(1), "{each:?}: was a program started?");
        });
    }

    #[test]
    fn names_that_nft_would_read_as_something_else_are_refused() {
        let long = "x".repeat(256);
        for bad in ["", "a b", "a;b", "a\0", "{", long.as_str()] {
            assert!(matches!(table_exists(NfFamily::INet, bad), Err(NftError::TableName(_))), "{bad:?}");
        }
        in_new_netns(|| assert!(!table_exists(NfFamily::INet, &"x".repeat(255)).unwrap()));
    }

    #[test]
    fn damaged_answers_are_errors() {
        in_new_netns(|| {
            run("nft", "add table inet test");
            let question = wire::get_table(NfFamily::INet, "test");
            assert_eq!(question.len(), 32);
            for cut in 0..question.len() {
                assert!(wire::table_handle(&question[..cut]).is_err(), "{cut}");
            }
        });
        // A table whose one attribute claims more, or less, than there is.
        for length in [0u16, 3, 200] {
            let mut answer = Vec::new();
            answer.extend(28u32.to_ne_bytes());
            answer.extend((10u16 << 8).to_ne_bytes());
            answer.extend([0; 14]);
            answer.extend(length.to_ne_bytes());
            answer.extend(4u16.to_ne_bytes());
            answer.extend([0; 4]);
            assert!(wire::table_handle(&answer).is_err(), "{length}");
        }
    }
}
