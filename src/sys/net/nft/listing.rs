//! What the kernel's tables hold, asked by messages.

use std::io;

use super::NftError;
use super::batch::{family, open};
use super::message::{
    Attributes, Buffer, DUMP, INTERRUPTED, NLMSG_DONE, NLMSG_ERROR, Received, SUBSYSTEM, malformed, read_all,
};
use super::uapi::*;
use crate::render::nft::table::TableName;

/// Packets and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub packets: u64,
    pub bytes: u64,
}

/// An element of a set as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub key: Vec<u8>,
    pub count: Option<Count>,
    /// The chain that it leads to.
    pub chain: Option<String>,
    /// What it leads to otherwise.
    pub value: Option<Vec<u8>>,
    /// Milliseconds that are left to it.
    pub expires: Option<u64>,
}

/// A set as the kernel has it, without what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundSet {
    pub name: String,
    /// How many elements, among them some that have just expired. Linux 6.16 reports it.
    held: Option<usize>,
}

impl FoundSet {
    /// How many elements it holds. Where the kernel does not say, they are counted, which takes long
    /// where there are many: it begins from the start for each part of its answer.
    pub fn held(&self, table: &TableName) -> Result<usize, NftError> {
        match self.held {
            Some(held) => Ok(held),
            None => Ok(elements(table, &self.name)?.map_or(0, |found| found.len())),
        }
    }

    /// The same of one whose elements are ranges: a kernel that says how many counts each once, and
    /// lists its first key and the one behind its last.
    pub fn ranges(&self, table: &TableName) -> Result<usize, NftError> {
        Ok(if self.held.is_some() { self.held(table)? } else { self.held(table)?.div_ceil(2) })
    }
}

/// A rule as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRule {
    pub chain: String,
    pub comment: Option<String>,
    /// Of its counter, if it has one.
    pub count: Option<Count>,
}

/// The number of the kernel's present rules, which every change raises.
pub fn generation() -> Result<u32, NftError> {
    let mut found = None;
    ask(
        NFT_MSG_GETGEN,
        0,
        0,
        |_| {},
        |attributes| {
            found = attributes.number(NFTA_GEN_ID)?;
            Ok(())
        },
    )
    .and_then(|()| found.and_then(|n| u32::try_from(n).ok()).ok_or_else(|| malformed("no generation")))
    .map_err(|source| NftError::List { what: "the generation of its rules".to_owned(), source })
}

/// Whether there is such a table. It says nothing of what the table holds.
pub fn has_table(table: &TableName) -> Result<bool, NftError> {
    let body = |m: &mut Buffer| m.string(NFTA_TABLE_NAME, &table.name);
    let asked = ask(NFT_MSG_GETTABLE, 0, family(table.family), body, |_| Ok(()));
    unless_missing(asked, || format!("table '{table}'"))
}

/// The sets of a table; none where there is no such table.
pub fn sets(table: &TableName) -> Result<Vec<FoundSet>, NftError> {
    let mut found = Vec::new();
    let body = |m: &mut Buffer| m.string(NFTA_SET_TABLE, &table.name);
    let each = |attributes: Attributes<'_>| {
        if attributes.text(NFTA_SET_TABLE)?.as_deref() == Some(table.name.as_str()) {
            let name = attributes.text(NFTA_SET_NAME)?.unwrap_or_default();
            let held = attributes.number(NFTA_SET_COUNT)?.and_then(|n| usize::try_from(n).ok());
            found.push(FoundSet { name, held });
        }
        Ok(())
    };
    let asked = ask(NFT_MSG_GETSET, DUMP, family(table.family), body, each);
    unless_missing(asked, || format!("the sets of table '{table}'"))?;
    Ok(found)
}

/// What a set holds; None where there is no such set.
pub fn elements(table: &TableName, set: &str) -> Result<Option<Vec<Found>>, NftError> {
    let mut found = Vec::new();
    let body = |m: &mut Buffer| {
        m.string(NFTA_SET_ELEM_LIST_TABLE, &table.name);
        m.string(NFTA_SET_ELEM_LIST_SET, set);
    };
    let each = |attributes: Attributes<'_>| {
        for element in attributes.within(NFTA_SET_ELEM_LIST_ELEMENTS)?.into_iter().flatten() {
            found.push(element_of(Attributes(element?.1))?);
        }
        Ok(())
    };
    let asked = ask(NFT_MSG_GETSETELEM, DUMP, family(table.family), body, each);
    let is_there = unless_missing(asked, || format!("set '{set}' of table '{table}'"))?;
    Ok(is_there.then_some(found))
}

/// The rules of a table, chain by chain in their order.
pub fn rules(table: &TableName) -> Result<Vec<FoundRule>, NftError> {
    let mut found = Vec::new();
    let body = |m: &mut Buffer| m.string(NFTA_RULE_TABLE, &table.name);
    let each = |attributes: Attributes<'_>| {
        if attributes.text(NFTA_RULE_TABLE)?.as_deref() == Some(table.name.as_str()) {
            found.push(rule_of(attributes)?);
        }
        Ok(())
    };
    let asked = ask(NFT_MSG_GETRULE, DUMP, family(table.family), body, each);
    unless_missing(asked, || format!("the rules of table '{table}'"))?;
    Ok(found)
}

/// How many rules a chain has: 0 also where there is no such chain.
pub fn rule_count(table: &TableName, chain: &str) -> Result<usize, NftError> {
    let mut count = 0;
    let body = |m: &mut Buffer| {
        m.string(NFTA_RULE_TABLE, &table.name);
        m.string(NFTA_RULE_CHAIN, chain);
    };
    let each = |attributes: Attributes<'_>| {
        let is_own = attributes.text(NFTA_RULE_TABLE)?.as_deref() == Some(table.name.as_str())
            && attributes.text(NFTA_RULE_CHAIN)?.as_deref() == Some(chain);
        count += usize::from(is_own);
        Ok(())
    };
    let asked = ask(NFT_MSG_GETRULE, DUMP, family(table.family), body, each);
    unless_missing(asked, || format!("chain '{chain}' of table '{table}'"))?;
    Ok(count)
}

/// Whether there is what was asked for; `what` is its name for an error.
fn unless_missing(asked: io::Result<()>, what: impl FnOnce() -> String) -> Result<bool, NftError> {
    match asked {
        Ok(()) => Ok(true),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(source) => Err(NftError::List { what: what(), source }),
    }
}

fn rule_of(attributes: Attributes<'_>) -> io::Result<FoundRule> {
    let chain = attributes.text(NFTA_RULE_CHAIN)?.ok_or_else(|| malformed("a rule without a chain"))?;
    let mut count = None;
    for expression in attributes.within(NFTA_RULE_EXPRESSIONS)?.into_iter().flatten() {
        count = count.or(count_of(Attributes(expression?.1))?);
    }
    // Kind, length, text and its NUL.
    let comment = attributes.find(NFTA_RULE_USERDATA)?.and_then(|data| {
        let (kind, length) = (*data.first()?, usize::from(*data.get(1)?));
        let text = data.get(2..2 + length.checked_sub(1)?)?;
        (kind == NFTNL_UDATA_RULE_COMMENT).then(|| String::from_utf8_lossy(text).into_owned())
    });
    Ok(FoundRule { chain, comment, count })
}

pub fn element_of(attributes: Attributes<'_>) -> io::Result<Found> {
    let key = attributes
        .within(NFTA_SET_ELEM_KEY)?
        .map(|key| key.find(NFTA_DATA_VALUE))
        .transpose()?
        .flatten()
        .unwrap_or_default();
    let data = attributes.within(NFTA_SET_ELEM_DATA)?;
    let verdict = data.map(|data| data.within(NFTA_DATA_VERDICT)).transpose()?.flatten();
    let value = data.map(|data| data.find(NFTA_DATA_VALUE)).transpose()?.flatten().map(<[u8]>::to_vec);
    let chain = verdict.map(|verdict| verdict.text(NFTA_VERDICT_CHAIN)).transpose()?.flatten();
    let mut count = attributes.within(NFTA_SET_ELEM_EXPR)?.map(count_of).transpose()?.flatten();
    for expression in attributes.within(NFTA_SET_ELEM_EXPRESSIONS)?.into_iter().flatten() {
        count = count.or(count_of(Attributes(expression?.1))?);
    }
    Ok(Found {
        key: key.to_vec(),
        count,
        chain,
        value,
        expires: attributes.number(NFTA_SET_ELEM_EXPIRATION)?,
    })
}

fn count_of(expression: Attributes<'_>) -> io::Result<Option<Count>> {
    if expression.text(NFTA_EXPR_NAME)?.as_deref() != Some("counter") {
        return Ok(None);
    }
    let Some(data) = expression.within(NFTA_EXPR_DATA)? else { return Ok(None) };
    let (bytes, packets) = (data.number(NFTA_COUNTER_BYTES)?, data.number(NFTA_COUNTER_PACKETS)?);
    Ok(Some(Count { packets: packets.unwrap_or_default(), bytes: bytes.unwrap_or_default() }))
}

/// How often a dump is begun again because some owner's rules changed meanwhile. After that it is used as
/// it is: one owner who changes rules all the time must not keep the others from looking at theirs. A
/// change that depends on the dump is made only at that generation.
const TRIES: usize = 5;

/// Asks one question and hands every answer's attributes to `each`. `family` 0 is all of them.
fn ask(
    kind: u16,
    flags: u16,
    family: u8,
    body: impl Fn(&mut Buffer),
    mut each: impl FnMut(Attributes<'_>) -> io::Result<()>,
) -> io::Result<()> {
    ask_all(kind, flags, family, body, |_, attributes| each(attributes))
}

/// The same, with the number of each answer's family.
pub fn ask_all(
    kind: u16,
    flags: u16,
    family: u8,
    body: impl Fn(&mut Buffer),
    mut each: impl FnMut(u8, Attributes<'_>) -> io::Result<()>,
) -> io::Result<()> {
    for tries in 1.. {
        // Complete before anything is handed on, or a dump that is begun again would count twice.
        let (answers, is_whole) = collect(kind, flags, family, &body)?;
        if is_whole || tries >= TRIES {
            return answers.iter().try_for_each(|(family, bytes)| each(*family, Attributes(bytes)));
        }
    }
    Ok(())
}

/// The family's number and the attributes.
type Answer = (u8, Vec<u8>);

/// Also whether nothing changed while the kernel answered.
fn collect(kind: u16, flags: u16, family: u8, body: impl Fn(&mut Buffer)) -> io::Result<(Vec<Answer>, bool)> {
    let socket = open()?;
    let mut question = Buffer::default();
    question.message(SUBSYSTEM | kind, flags, 1, family, 0, |m| body(m));
    socket.send(&question.bytes, 0)?;
    let (mut answers, mut interrupted) = (Vec::new(), false);
    let mut bytes = Vec::with_capacity(1 << 17);
    loop {
        bytes.clear();
        socket.recv(&mut bytes, 0)?;
        let done = read_all(&bytes, |message: Received<'_>| {
            interrupted |= message.flags & INTERRUPTED != 0;
            match message.kind {
                NLMSG_DONE => Ok(true),
                NLMSG_ERROR => match message.errno()? {
                    0 => Ok(true),
                    libc::EINTR => {
                        interrupted = true;
                        Ok(true)
                    }
                    errno => Err(io::Error::from_raw_os_error(errno)),
                },
                _ => {
                    answers.push((message.family()?, message.attributes()?.0.to_vec()));
                    Ok(flags & DUMP == 0)
                }
            }
        })?;
        if done {
            return Ok((answers, !interrupted));
        }
    }
}
