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

/// Order of the filters at a link's ingress. What the guest may not send is not counted as sent.
const GUARD_PRIORITY: u16 = 1;
const REDIRECT_PRIORITY: u16 = 2;

const CLSACT: &str = "clsact";
const TBF: &str = "tbf";
const BPF: &str = "bpf";

/// Modules that a kernel needs for each of these.
pub const GUARD_MODULES: &str = "sch_ingress and cls_bpf";
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

/// The place that filters of a link's ingress hang in.
pub fn clsact(link: u32) -> RouteNetlinkMessage {
    let mut message = about(link, TcHandle { major: TcHandle::CLSACT.major, minor: 0 }, TcHandle::CLSACT);
    message.attributes = vec![TcAttribute::Kind(CLSACT.to_owned())];
    RouteNetlinkMessage::NewQueueDiscipline(message)
}

/// A filter whose program says itself what becomes of a frame.
pub fn guard(link: u32, program: &[Instruction]) -> RouteNetlinkMessage {
    let mut options = operations(program);
    options.push(option(TCA_BPF_FLAGS, &TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes()));
    filter(link, GUARD_PRIORITY, options)
}

pub fn no_guard(link: u32) -> RouteNetlinkMessage {
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
    let rate = (bits / 8).max(1);
    let part = |ms: u64| rate.saturating_mul(ms) / 1000;
    let burst = part(BURST_MS).max(LEAST_BURST).max(u64::from(mtu) + 64);
    let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let mut message = about(link, TcHandle { major: 1, minor: 0 }, TcHandle::ROOT);
    message.attributes = vec![
        TcAttribute::Kind(TBF.to_owned()),
        TcAttribute::Options(vec![
            option(TCA_TBF_PARMS, &bucket_parms(narrow(rate), narrow(part(LATENCY_MS) + burst))),
            option(TCA_TBF_BURST, &narrow(burst).to_ne_bytes()),
            option(TCA_TBF_RATE64, &rate.to_ne_bytes()),
        ]),
    ];
    RouteNetlinkMessage::NewQueueDiscipline(message)
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

/// Whether what [`filters`] brought has exactly this program as its guard.
pub fn is_guarded(found: &[RouteNetlinkMessage], program: &[Instruction]) -> bool {
    let wanted = [operations(program), vec![option(TCA_BPF_FLAGS, &TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes())]];
    let wanted: Vec<(u16, Vec<u8>)> = wanted.concat().iter().map(raw).collect();
    found.iter().any(|message| {
        let RouteNetlinkMessage::NewTrafficFilter(message) = message else { return false };
        if message.header.info != info(GUARD_PRIORITY) {
            return false;
        }
        let options = message.attributes.iter().find_map(|attribute| match attribute {
            TcAttribute::Options(options) => Some(options.iter().map(raw).collect::<Vec<_>>()),
            _ => None,
        });
        options.is_some_and(|options| wanted.iter().all(|wanted| options.contains(wanted)))
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
