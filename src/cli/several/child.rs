//! Asking a child process for something that takes giving up root to find out.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cli::error::{CliError, CliResult};
use crate::cli::report::report;
use crate::sys::process::fork::Fork;

/// Runs `body` in a child and returns its answer; `what` continues the sentence "cannot …". A child that
/// fails prints why, and its exit code becomes the caller's.
pub fn in_child<T: Serialize + DeserializeOwned>(
    what: &'static str,
    body: impl FnOnce() -> CliResult<T>,
) -> CliResult<T> {
    let answer: Result<T, i32> =
        Fork::new(what).run(|| body().map_err(|error| report(&error, None))).map_err(CliError::Fork)?;
    answer.map_err(CliError::Reported)
}
