//! Requests that work on descriptors of whoever asks, which come beside them.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::door::Listener;
use crate::api::Error;
use crate::app::Lazy;
use crate::app::error::{AppError, AppResult};

/// Descriptors of whoever asks, by the numbers that requests have for them.
pub struct Passed<'a>(BTreeMap<i32, BorrowedFd<'a>>);

impl<'a> Passed<'a> {
    /// Under the numbers that they have.
    pub fn of(fds: impl IntoIterator<Item = BorrowedFd<'a>>) -> Self {
        Self(fds.into_iter().map(|fd| (fd.as_raw_fd(), fd)).collect())
    }

    /// The one of that number.
    ///
    /// # Errors
    /// Where none of that number is passed, open or not.
    pub fn get(&self, number: i32) -> AppResult<BorrowedFd<'a>> {
        self.0.get(&number).copied().ok_or(AppError::NotPassed(number))
    }
}

/// A request that works on passed descriptors. It may take days, so it closes of the instance what it needs no more.
pub trait PerformWith {
    type Answer;

    fn perform(self, lazy: Lazy, passed: &Passed<'_>, listener: &mut dyn Listener)
    -> AppResult<Self::Answer>;
}

/// Performs `request` with what is passed for it.
///
/// # Errors
/// As docs/errors.md lists them.
pub fn run_with<R: PerformWith>(
    instance: impl Into<Lazy>,
    request: R,
    passed: &Passed<'_>,
    listener: &mut dyn Listener,
) -> Result<R::Answer, Error> {
    request.perform(instance.into(), passed, listener).map_err(Error::from)
}
