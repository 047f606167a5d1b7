//! Things looked up by their names, many with one system call. Each costs the same however much the tables
//! hold.

use std::io;

use super::NftError;
use super::batch::{family, open};
use super::listing::{Found, element_of};
use super::message::{ACK, Attributes, Buffer, NLMSG_ERROR, Received, SUBSYSTEM, malformed, read_all};
use super::uapi::*;
use crate::render::nft::table::TableName;

/// Questions to a system call: their answers wait in the socket's buffer (208 KiB unless the host was told
/// otherwise), where each takes some 4 KiB.
const MOST_AT_ONCE: usize = 16;

/// The name of an element: its table, its set and its key.
pub type ElementName = (TableName, String, Vec<u8>);

/// How many references each of these chains has: for a base chain, to which none can jump, that is its number
/// of rules. None where there is no such chain, or no such table.
pub fn chain_uses(chains: &[(&TableName, &str)]) -> Result<Vec<Option<usize>>, NftError> {
    let question = |out: &mut Buffer, flags, sequence, (table, chain): &(&TableName, &str)| {
        out.message(SUBSYSTEM | NFT_MSG_GETCHAIN, flags, sequence, family(table.family), 0, |m| {
            m.string(NFTA_CHAIN_TABLE, &table.name);
            m.string(NFTA_CHAIN_NAME, chain);
        });
    };
    let read = |chain: Attributes<'_>| {
        let uses = chain.number(NFTA_CHAIN_USE)?.and_then(|n| usize::try_from(n).ok());
        uses.map(Some).ok_or_else(|| malformed("a chain without its number of uses"))
    };
    look_up(chains, question, read)
        .map_err(|source| NftError::List { what: "chains of the firewall".to_owned(), source })
}

/// Each of these elements; None where the set does not hold the key, or there is no such set.
pub fn elements_named(names: &[ElementName]) -> Result<Vec<Option<Found>>, NftError> {
    let question = |out: &mut Buffer, flags, sequence, (table, set, key): &ElementName| {
        out.message(SUBSYSTEM | NFT_MSG_GETSETELEM, flags, sequence, family(table.family), 0, |m| {
            m.string(NFTA_SET_ELEM_LIST_TABLE, &table.name);
            m.string(NFTA_SET_ELEM_LIST_SET, set);
            m.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
                list.nest(NFTA_LIST_ELEM, |e| {
                    e.nest(NFTA_SET_ELEM_KEY, |k| k.attribute(NFTA_DATA_VALUE, key));
                });
            });
        });
    };
    let read = |answer: Attributes<'_>| {
        let mut elements = answer.within(NFTA_SET_ELEM_LIST_ELEMENTS)?.into_iter().flatten();
        elements.next().map(|element| element_of(Attributes(element?.1))).transpose()
    };
    look_up(names, question, read)
        .map_err(|source| NftError::List { what: "elements of the firewall's sets".to_owned(), source })
}

/// Asks for each of `wanted` and reads each answer; there is none for what does not exist.
fn look_up<W, T>(
    wanted: &[W],
    question: impl Fn(&mut Buffer, u16, u32, &W),
    read: impl Fn(Attributes<'_>) -> io::Result<Option<T>>,
) -> io::Result<Vec<Option<T>>> {
    let mut found: Vec<Option<T>> = Vec::with_capacity(wanted.len());
    if wanted.is_empty() {
        return Ok(found);
    }
    let socket = open()?;
    let mut bytes = Vec::with_capacity(1 << 16);
    for part in wanted.chunks(MOST_AT_ONCE) {
        let first = found.len();
        found.resize_with(first + part.len(), || None);
        let mut questions = Buffer::default();
        for (n, one) in part.iter().enumerate() {
            // The kernel answers in order, so the report about the last one ends the answers.
            let flags = if n + 1 == part.len() { ACK } else { 0 };
            question(&mut questions, flags, (first + n) as u32, one);
        }
        if questions.overflown {
            return Err(malformed("a name is too long"));
        }
        socket.send(&questions.bytes, 0)?;
        let end = (found.len() - 1) as u32;
        let mut is_done = false;
        while !is_done {
            bytes.clear();
            socket.recv(&mut bytes, 0)?;
            is_done = read_all(&bytes, |message: Received<'_>| {
                let place = found.get_mut(message.sequence as usize);
                let place = place.ok_or_else(|| malformed("an answer to no question"))?;
                if message.kind != NLMSG_ERROR {
                    *place = read(message.attributes()?)?;
                    return Ok(false);
                }
                match message.errno()? {
                    0 | libc::ENOENT => Ok(message.sequence == end),
                    errno => Err(io::Error::from_raw_os_error(errno)),
                }
            })?;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::nft::table::link_bytes;
    use crate::sys::net::netns_fixture::{in_new_netns, run};

    #[test]
    fn each_gets_its_own_answer() {
        in_new_netns(|| {
            run("nft", "add table inet mine");
            run("nft", "add chain inet mine in { type filter hook input priority 0 ; }");
            run("nft", "add rule inet mine in counter");
            run("nft", "add rule inet mine in counter");
            run("nft", "add chain inet mine none { type filter hook input priority 1 ; }");
            run("nft", "add set inet mine links { type ifname ; }");
            let (mine, other) = (TableName::inet("mine"), TableName::bridge("mine"));
            let asked = [(&mine, "in"), (&mine, "no"), (&mine, "none"), (&other, "in"), (&mine, "in")];
            assert_eq!(chain_uses(&asked).unwrap(), [Some(2), None, Some(0), None, Some(2)]);
            assert_eq!(chain_uses(&asked[..2]).unwrap(), [Some(2), None]);
            assert_eq!(chain_uses(&[]).unwrap(), []);
            // More than the socket's buffer holds the answers to.
            let names: Vec<String> = (0..200).map(|n| format!("link{n}")).collect();
            let even = names.iter().step_by(2).map(String::as_str).collect::<Vec<_>>().join(", ");
            run("nft", &format!("add element inet mine links {{ {even} }}"));
            let asked: Vec<ElementName> =
                names.iter().map(|name| (mine.clone(), "links".to_owned(), link_bytes(name))).collect();
            for (n, found) in elements_named(&asked).unwrap().into_iter().enumerate() {
                assert_eq!(found.map(|found| found.key), (n % 2 == 0).then(|| asked[n].2.clone()), "{n}");
            }
            let nowhere =
                [(mine.clone(), "no".to_owned(), link_bytes("a")), (other, "no".to_owned(), vec![0; 16])];
            assert_eq!(elements_named(&nowhere).unwrap(), [None, None]);
        });
    }
}
