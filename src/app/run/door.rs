//! What a request, whoever waits for it and the door between them are.

use std::cell::RefCell;

use crate::api::{Error, Event};
use crate::app::error::AppResult;
use crate::app::{App, Progress};

/// Whoever waits for a request, and hears meanwhile how it goes.
pub trait Listener {
    fn hear(&mut self, event: Event);

    /// Nobody listens any more. What only tells ends then; all else goes on.
    fn is_gone(&self) -> bool {
        false
    }
}

/// A request that knows how it is performed.
pub trait Perform {
    type Answer;

    fn perform(self, app: &mut App, listener: &mut dyn Listener) -> AppResult<Self::Answer>;
}

/// Performs `request`.
///
/// # Errors
/// As docs/errors.md lists them.
pub fn run<R: Perform>(app: &mut App, request: R, listener: &mut dyn Listener) -> Result<R::Answer, Error> {
    request.perform(app, listener).map_err(Error::from)
}

/// Progress as events.
pub struct Told<'a>(RefCell<&'a mut dyn Listener>);

impl<'a> Told<'a> {
    pub fn to(listener: &'a mut dyn Listener) -> Self {
        Self(RefCell::new(listener))
    }
}

impl Progress for Told<'_> {
    fn stage(&self, text: &str, percent: Option<u8>) {
        self.0.borrow_mut().hear(Event::Stage { text: text.to_owned(), percent });
    }

    fn bytes(&self, done: u64, total: Option<u64>) {
        self.0.borrow_mut().hear(Event::Bytes { done, total });
    }
}
