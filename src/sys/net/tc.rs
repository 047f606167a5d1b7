//! Traffic control of links: the filter at a link's ingress, and rate limits both ways. Nothing here
//! talks to the kernel; these are the requests that `netlink` sends.

use netlink_packet_core::DefaultNla;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};

use crate::render::spoof::Instruction;

/// Bytes that a rate limit lets pass at once, at least: a segment that the sender's kernel has not cut
/// up is as large as this or larger, and cutting it costs time.
const LEAST_BURST: u64 = 32 << 10;
/// What a burst is at higher rates, and how long a packet may wait.
const BURST_MS: u64 = 10;
const LATENCY_MS: u64 = 50;

/// The order of the filters at a link's ingress: what the guest may not send is not counted as sent.
const GUARD_PRIORITY: u16 = 1;
const REDIRECT_PRIORITY: u16 = 2;

const CLSACT: &str = "clsact";
const TBF: &str = "tbf";
const BPF: &str = "bpf";

/// Modules that a kernel needs for each of these.
pub const SPOOF_FILTER_MODULES: &str = "sch_ingress and cls_bpf";
pub const INGRESS_MODULES: &str = "sch_tbf";
pub const EGRESS_MODULES: &str = "sch_tbf, sch_ingress, cls_bpf, act_mirred and ifb";

/// Attributes and values of <linux/pkt_sched.h>, <linux/pkt_cls.h> and <linux/tc_act/tc_mirred.h>.
mod uapi {
    pub const TCA_BPF_ACT: u16 = 1;
    pub const TCA_BPF_OPS_LEN: u16 = 4;
    pub const TCA_BPF_OPS: u16 = 5;
    pub const TCA_BPF_FLAGS: u16 = 8;
    pub const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;
    pub const TCA_ACT_KIND: u16 = 1;
    pub const TCA_ACT_OPTIONS: u16 = 2;
    pub const TCA_MIRRED_PARMS: u16 = 2;
    pub const TCA_EGRESS_REDIR: u32 = 1;
    pub const TC_ACT_STOLEN: u32 = 4;
    pub const TCA_TBF_PARMS: u16 = 1;
    pub const TCA_TBF_RATE64: u16 = 4;
    pub const TCA_TBF_BURST: u16 = 6;
    pub const TC_LINKLAYER_ETHERNET: u8 = 1;
    pub const ETH_P_ALL: u16 = 3;
}
use uapi::*;

/// The queue that holds the filters of a link's ingress.
pub fn clsact(link: u32) -> RouteNetlinkMessage {
    let mut message = about(link, TcHandle { major: TcHandle::CLSACT.major, minor: 0 }, TcHandle::CLSACT);
    message.attributes = vec![TcAttribute::Kind(CLSACT.to_owned())];
    RouteNetlinkMessage::NewQueueDiscipline(message)
}

/// A filter whose program decides itself about a frame.
pub fn spoof_filter(link: u32, program: &[Instruction]) -> RouteNetlinkMessage {
    let mut options = operations(program);
    options.push(option(TCA_BPF_FLAGS, &TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes()));
    filter(link, GUARD_PRIORITY, options)
}

pub fn no_spoof_filter(link: u32) -> RouteNetlinkMessage {
    no_filter(link, GUARD_PRIORITY)
}

/// Lets all that comes in wait in the device `to` before it comes in.
pub fn redirect(link: u32, to: u32) -> RouteNetlinkMessage {
    const RETURN: u16 = 6;
    let mut options = operations(&[Instruction { code: RETURN, jt: 0, jf: 0, k: u32::MAX }]);
    // index, capab, action, refcnt, bindcnt, eaction, ifindex
    let parms = [0, 0, TC_ACT_STOLEN, 0, 0, TCA_EGRESS_REDIR, to].map(u32::to_ne_bytes).concat();
    let action = [
        attribute(TCA_ACT_KIND, b"mirred\0"),
        attribute(TCA_ACT_OPTIONS, &attribute(TCA_MIRRED_PARMS, &parms)),
    ];
    options.push(option(TCA_BPF_ACT, &attribute(1, &action.concat())));
    filter(link, REDIRECT_PRIORITY, options)
}

pub fn no_redirect(link: u32) -> RouteNetlinkMessage {
    no_filter(link, REDIRECT_PRIORITY)
}

/// A token bucket that sends `bits` in a second over `link`, whose packets have at most `mtu` bytes.
pub fn bucket(link: u32, bits: u64, mtu: u32) -> RouteNetlinkMessage {
    let (rate, limit, burst) = bucket_of(bits, mtu);
    let mut message = about(link, TcHandle { major: 1, minor: 0 }, TcHandle::ROOT);
    message.attributes = vec![
        TcAttribute::Kind(TBF.to_owned()),
        TcAttribute::Options(vec![
            option(TCA_TBF_PARMS, &bucket_parms(narrow(rate), limit)),
            option(TCA_TBF_BURST, &burst.to_ne_bytes()),
            option(TCA_TBF_RATE64, &rate.to_ne_bytes()),
        ]),
    ];
    RouteNetlinkMessage::NewQueueDiscipline(message)
}

/// Bytes in a second, bytes that may wait, and bytes that may pass at once.
fn bucket_of(bits: u64, mtu: u32) -> (u64, u32, u32) {
    let rate = (bits / 8).max(1);
    let part = |ms: u64| rate.saturating_mul(ms) / 1000;
    let burst = part(BURST_MS).max(LEAST_BURST).max(u64::from(mtu) + 64);
    (rate, narrow(part(LATENCY_MS) + burst), narrow(burst))
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// `struct tc_tbf_qopt`: rate, no peak rate, bytes that may wait; burst and rate beyond 32 bits stand
/// beside it.
fn bucket_parms(rate: u32, limit: u32) -> Vec<u8> {
    let mut parms = vec![0; 36];
    parms[1] = TC_LINKLAYER_ETHERNET;
    parms[8..12].copy_from_slice(&rate.to_ne_bytes());
    parms[24..28].copy_from_slice(&limit.to_ne_bytes());
    parms
}

pub fn no_bucket(link: u32) -> RouteNetlinkMessage {
    RouteNetlinkMessage::DelQueueDiscipline(about(link, TcHandle { major: 1, minor: 0 }, TcHandle::ROOT))
}

/// Asks for all filters of a link's ingress.
pub fn filters(link: u32) -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetTrafficFilter(about(link, TcHandle::UNSPEC, ingress()))
}

/// Asks for the queue of packets that leave by a link.
pub fn queue(link: u32) -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetQueueDiscipline(about(link, TcHandle::UNSPEC, TcHandle::ROOT))
}

/// Whether what [`queue`] brought is the bucket that [`bucket`] makes. Of its parameters the kernel tells
/// those that do not depend on its clock: rate and bytes that may wait.
pub fn is_bucket(found: &[RouteNetlinkMessage], bits: u64, mtu: u32) -> bool {
    let (rate, limit, _) = bucket_of(bits, mtu);
    found.iter().any(|message| {
        let RouteNetlinkMessage::NewQueueDiscipline(message) = message else { return false };
        let is_tbf = message.attributes.contains(&TcAttribute::Kind(TBF.to_owned()));
        // Options of a kind of queue that the library does not know are one attribute of theirs.
        let options = options_of(message).into_iter().next().map(|(_, value)| value).unwrap_or_default();
        let find = |kind| inner(&options, kind);
        let Some(parms) = find(TCA_TBF_PARMS).filter(|_| is_tbf) else { return false };
        let wanted = bucket_parms(narrow(rate), limit);
        let same = |bytes: std::ops::Range<usize>| parms.get(bytes.clone()) == wanted.get(bytes);
        same(8..12) && same(24..28) && find(TCA_TBF_RATE64).is_none_or(|wide| wide == rate.to_ne_bytes())
    })
}

/// Whether what [`filters`] brought sends all that comes in to the device `to`.
pub fn is_redirected(found: &[RouteNetlinkMessage], to: u32) -> bool {
    let wanted = [TC_ACT_STOLEN, TCA_EGRESS_REDIR, to].map(u32::to_ne_bytes);
    found.iter().any(|message| {
        let RouteNetlinkMessage::NewTrafficFilter(message) = message else { return false };
        let options = options_of(message);
        let actions = options.iter().filter(|(kind, _)| *kind == TCA_BPF_ACT).map(|(_, value)| value);
        message.header.info == info(REDIRECT_PRIORITY)
            && actions.flat_map(|value| inner(value, 1)).any(|action| {
                let parms =
                    inner(action, TCA_ACT_OPTIONS).and_then(|options| inner(options, TCA_MIRRED_PARMS));
                let word = |n: usize| parms.and_then(|parms| parms.get(4 * n..4 * n + 4));
                [word(2), word(5), word(6)] == wanted.each_ref().map(|word| Some(&word[..]))
            })
    })
}

/// The value of the attribute `kind` among those in `bytes`.
fn inner(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    const FLAGS: u16 = 0xc000;
    let mut rest = bytes;
    while let [a, b, c, d, ..] = rest {
        let length = usize::from(u16::from_ne_bytes([*a, *b]));
        let value = rest.get(4..length)?;
        if u16::from_ne_bytes([*c, *d]) & !FLAGS == kind {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

fn options_of(message: &TcMessage) -> Vec<(u16, Vec<u8>)> {
    let options = message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Options(options) => Some(options.iter().map(raw).collect()),
        _ => None,
    });
    options.unwrap_or_default()
}

/// Whether there is any filter of [`spoof_filter`].
pub fn has_spoof_filter(found: &[RouteNetlinkMessage]) -> bool {
    found.iter().any(|message| match message {
        RouteNetlinkMessage::NewTrafficFilter(message) => message.header.info == info(GUARD_PRIORITY),
        _ => false,
    })
}

/// Whether what [`filters`] brought has exactly this program as its guard.
pub fn has_exact_spoof_filter(found: &[RouteNetlinkMessage], program: &[Instruction]) -> bool {
    let wanted = [operations(program), vec![option(TCA_BPF_FLAGS, &TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes())]];
    let wanted: Vec<(u16, Vec<u8>)> = wanted.concat().iter().map(raw).collect();
    found.iter().any(|message| {
        let RouteNetlinkMessage::NewTrafficFilter(message) = message else { return false };
        if message.header.info != info(GUARD_PRIORITY) {
            return false;
        }
        let options = options_of(message);
        wanted.iter().all(|wanted| options.contains(wanted))
    })
}

fn raw(option: &TcOption) -> (u16, Vec<u8>) {
    use netlink_packet_core::Nla;
    let mut value = vec![0; option.value_len()];
    option.emit_value(&mut value);
    (option.kind(), value)
}

fn about(link: u32, handle: TcHandle, parent: TcHandle) -> TcMessage {
    let mut message = TcMessage::with_index(link as i32);
    message.header.handle = handle;
    message.header.parent = parent;
    message
}

fn ingress() -> TcHandle {
    TcHandle { major: TcHandle::CLSACT.major, minor: TcHandle::MIN_INGRESS }
}

/// Priority and protocol of a filter: all frames.
fn info(priority: u16) -> u32 {
    u32::from(priority) << 16 | u32::from(ETH_P_ALL.to_be())
}

fn filter(link: u32, priority: u16, options: Vec<TcOption>) -> RouteNetlinkMessage {
    let mut message = about(link, TcHandle { major: 0, minor: 1 }, ingress());
    message.header.info = info(priority);
    message.attributes = vec![TcAttribute::Kind(BPF.to_owned()), TcAttribute::Options(options)];
    RouteNetlinkMessage::NewTrafficFilter(message)
}

fn no_filter(link: u32, priority: u16) -> RouteNetlinkMessage {
    let mut message = about(link, TcHandle::UNSPEC, ingress());
    message.header.info = info(priority);
    RouteNetlinkMessage::DelTrafficFilter(message)
}

fn operations(program: &[Instruction]) -> Vec<TcOption> {
    let mut bytes = Vec::with_capacity(8 * program.len());
    for instruction in program {
        bytes.extend(instruction.code.to_ne_bytes());
        bytes.extend([instruction.jt, instruction.jf]);
        bytes.extend(instruction.k.to_ne_bytes());
    }
    let length = program.len() as u16;
    vec![option(TCA_BPF_OPS_LEN, &length.to_ne_bytes()), option(TCA_BPF_OPS, &bytes)]
}

fn option(kind: u16, value: &[u8]) -> TcOption {
    TcOption::Other(DefaultNla::new(kind, value.to_vec()))
}

/// One attribute as it is on the wire.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
