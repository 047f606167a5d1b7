//! Requests that commands make, and what is shown while one is worked on.

use std::io;
use std::os::fd::AsFd;

use super::context;
use super::error::CliResult;
use super::output::progress::Shown;
use crate::api::Event;
use crate::app::run::{self, Listener, Passed, Perform, PerformOnHost, PerformWith};
use crate::app::{App, Lazy, Progress};

/// Has `request` performed. Slow work is shown on standard error.
pub fn ask<R: Perform>(app: &mut App, request: R) -> CliResult<R::Answer> {
    Ok(run::run(app, request, &mut Shown::default())?)
}

/// Standard input, output and error, as requests name them.
pub const STDIN: i32 = 0;
pub const STDOUT: i32 = 1;
pub const STDERR: i32 = 2;

/// Has `request` performed with this process's standard input, output and error.
pub fn ask_with<R: PerformWith>(
    instance: impl Into<Lazy>,
    request: R,
    listener: &mut dyn Listener,
) -> CliResult<R::Answer> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let passed = Passed::of([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]);
    Ok(run::run_with(instance, request, &passed, listener)?)
}

/// Has a request about the host performed, which works before an instance is opened.
pub fn ask_host<R: PerformOnHost>(request: R) -> CliResult<R::Answer> {
    Ok(run::on_host(&context::place()?, request)?)
}

impl Listener for Shown {
    fn hear(&mut self, event: Event) {
        match event {
            Event::Stage { text, percent } => self.stage(&text, percent),
            Event::Bytes { done, total } => self.bytes(done, total),
            // What an opened instance has to say is told at once, and events only to whom watches.
            Event::Note { .. } | Event::Attached | Event::Container(_) => {}
        }
    }
}
