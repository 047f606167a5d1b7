//! Steps that change links, and the errors if one fails.

use std::io;

use netlink_packet_route::RouteNetlinkMessage;

use super::channel::{Request, but, is};
use super::{Netlink, NetlinkError};
use crate::render::spoof::Instruction;
use crate::sys::net::tc;

/// What is done to a link once it is there, for the words of an error.
pub struct Step {
    pub what: &'static str,
    /// What the kernel lacks if it does not know what is meant.
    pub modules: &'static str,
    pub request: Request,
    /// Failures that are as good as success.
    pub fine: &'static [i32],
}

impl Step {
    pub fn new(what: &'static str, modules: &'static str, request: Request) -> Self {
        Self { what, modules, request, fine: &[] }
    }
}

impl Netlink {
    /// Takes all steps at once. The error is that of the first that failed.
    pub fn run(&self, name: &str, steps: Vec<Step>) -> Result<(), NetlinkError> {
        self.run_before(name, steps, None).map(drop)
    }

    /// The same, and makes sure that the link's filter is what it was set to.
    pub fn run_and_verify(
        &self,
        name: &str,
        steps: Vec<Step>,
        index: u32,
        program: &[Instruction],
    ) -> Result<(), NetlinkError> {
        let found = self.run_before(name, steps, Some(Request::list(tc::filters(index))))?;
        match tc::has_exact_spoof_filter(&found, program) {
            true => Ok(()),
            false => Err(NetlinkError::NoSpoofFilter(name.to_owned())),
        }
    }

    fn run_before(
        &self,
        name: &str,
        steps: Vec<Step>,
        last: Option<Request>,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        let words: Vec<_> = steps.iter().map(|step| (step.what, step.modules, step.fine)).collect();
        let requests = steps.into_iter().map(|step| step.request).chain(last).collect();
        let mut replies = self.ask(requests)?.into_iter();
        for ((what, modules, fine), reply) in words.into_iter().zip(&mut replies) {
            let name = || name.to_owned();
            but(reply, fine).map_err(|source| match is_unknown(&source) && !modules.is_empty() {
                true => NetlinkError::Lacks { name: name(), what, modules },
                false => NetlinkError::Configure { name: name(), what, source },
            })?;
        }
        let last = replies.next().unwrap_or_else(|| Ok(Vec::new()));
        last.map_err(|source| NetlinkError::List { what: "filters", source })
    }
}

/// How the kernel says that it does not know a kind of link, of queue or of filter.
pub fn is_unknown(error: &io::Error) -> bool {
    is(error, libc::ENOENT) || is(error, libc::EOPNOTSUPP)
}

pub fn clsact_step(index: u32) -> Step {
    let mut step = Step::new("filter", tc::SPOOF_FILTER_MODULES, Request::create(tc::clsact(index)));
    step.fine = &[libc::EEXIST];
    step
}

pub fn spoof_filter_step(index: u32, program: &[Instruction]) -> Step {
    Step::new("filter", tc::SPOOF_FILTER_MODULES, Request::put(tc::spoof_filter(index, program)))
}
