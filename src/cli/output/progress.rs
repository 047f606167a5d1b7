//! Progress of slow work on standard error: a bar on a terminal, a line for each stage in a log.

use std::cell::RefCell;
use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::text;
use crate::app::Progress;

/// Made when the first stage begins, so that quick work costs nothing. There is no thread behind
/// it: the work forks.
#[derive(Default)]
pub struct Shown {
    bar: RefCell<Option<Bar>>,
}

struct Bar {
    bar: ProgressBar,
    template: &'static str,
}

const STAGE: &str = "{spinner} {wide_msg}";
const PERCENT: &str = "{msg} [{wide_bar}] {percent:>3}%";
const BYTES: &str = "{spinner} {msg}: {binary_bytes} so far, {binary_bytes_per_sec}";
const BYTES_OF: &str = "{msg} [{wide_bar}] {binary_bytes} of {binary_total_bytes}, {eta} left";

impl Progress for Shown {
    fn stage(&self, stage: &str, percent: Option<u8>) {
        let stage = text::line(stage);
        if !std::io::stderr().is_terminal() {
            let _ = std::io::stderr().lock().write_all(format!("{stage}\n").as_bytes());
            return;
        }
        let mut slot = self.bar.borrow_mut();
        let bar = slot.get_or_insert_with(Bar::new);
        match percent {
            Some(percent) => bar.show(PERCENT, percent.into(), Some(100)),
            None => bar.show(STAGE, 0, None),
        }
        bar.bar.set_message(stage);
    }

    fn bytes(&self, done: u64, total: Option<u64>) {
        if let Some(bar) = self.bar.borrow_mut().as_mut() {
            bar.show(if total.is_some() { BYTES_OF } else { BYTES }, done, total);
        }
    }
}

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        Self { bar, template: "" }
    }

    /// The numbers come first: a new template must not be drawn with the old ones.
    fn show(&mut self, template: &'static str, position: u64, length: Option<u64>) {
        self.bar.set_position(position);
        match length {
            Some(length) => self.bar.set_length(length),
            None => self.bar.unset_length(),
        }
        if self.template != template
            && let Ok(style) = ProgressStyle::with_template(template)
        {
            self.template = template;
            self.bar.set_style(style.progress_chars("=> "));
            self.bar.reset_eta();
        }
        self.bar.tick();
    }
}

impl Drop for Shown {
    /// Before anything else is printed.
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_sound() {
        for template in [STAGE, PERCENT, BYTES, BYTES_OF] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
