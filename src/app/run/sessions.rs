//! Requests about what passes between a guest and descriptors of whoever asks.

use std::os::fd::AsFd;

use super::door::Listener;
use super::passed::{Passed, PerformWith};
use crate::api::Event;
use crate::api::consoles::{Attach, End, ShowLog};
use crate::api::programs::{Ended, Run};
use crate::app::Lazy;
use crate::app::error::AppResult;
use crate::app::session::{console, log, program};
use crate::runtime::protocol::{ExecRequest, WindowSize};
use crate::sys::process::descriptors;

impl PerformWith for Run {
    type Answer = Ended;

    fn perform(self, lazy: Lazy, passed: &Passed<'_>, _: &mut dyn Listener) -> AppResult<Ended> {
        // Where one is not said, there is nothing to read and nobody to print for.
        let null = descriptors::null()?;
        let place = |number: Option<i32>| number.map_or(Ok(null.as_fd()), |number| passed.get(number));
        let ours = [place(self.stdin)?, place(self.stdout)?, place(self.stderr)?];
        let label = self.labelled.then(|| self.name.clone());
        let request = ExecRequest {
            argv: self.command,
            env: self.environment,
            cwd: self.directory,
            user: self.user,
            tty: self.terminal.map(|size| WindowSize { rows: size.rows, cols: size.columns }),
            null: [false; 3],
            detach: self.detach,
        };
        program::run(lazy, &self.name, request, ours, label.as_ref())
    }
}

impl PerformWith for ShowLog {
    type Answer = ();

    fn perform(self, lazy: Lazy, passed: &Passed<'_>, _: &mut dyn Listener) -> AppResult<()> {
        let wanted = log::Wanted { lines: self.lines, follow: self.follow, plain: self.plain };
        log::show(lazy.into_app()?, &self.name, wanted, passed.get(self.output)?)
    }
}

impl PerformWith for Attach {
    type Answer = End;

    fn perform(self, lazy: Lazy, passed: &Passed<'_>, listener: &mut dyn Listener) -> AppResult<End> {
        let side = console::Side {
            input: self.input.map(|number| passed.get(number)).transpose()?,
            output: passed.get(self.output)?,
            keys: self.keys,
            plain: self.plain,
        };
        console::attach(lazy.into_app()?, &self.name, &side, || listener.hear(Event::Attached))
    }
}
