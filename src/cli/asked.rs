//! Asking a child process for something that only a process can find out which gives up root for it.

use std::io::Read;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::report::{CliError, CliResult, report};
use crate::sys::clone::{self, CloneSpec, Exit};
use crate::sys::{Context, SysError};

/// What `body` answers in a child; `what` continues the sentence "cannot …". A child that fails says why
/// by itself, and its exit code becomes the caller's.
pub fn in_child<T: Serialize + DeserializeOwned>(
    what: &'static str,
    body: impl FnOnce() -> CliResult<T>,
) -> CliResult<T> {
    let (mut reader, writer) = std::io::pipe().cannot(|| "make a pipe").map_err(CliError::Fork)?;
    let child = clone::fork(&CloneSpec::default(), || match body() {
        Ok(found) => i32::from(serde_json::to_writer(&writer, &found).is_err()),
        Err(error) => report(&error, None),
    })
    .map_err(CliError::Fork)?;
    drop(writer);
    let mut text = Vec::new();
    let read = reader.read_to_end(&mut text);
    match child.wait().map_err(CliError::Fork)? {
        Exit::Code(0) => {}
        exit => return Err(CliError::Reported(exit.code())),
    }
    let failed = |e: std::io::Error| CliError::Fork(SysError::new(what, e));
    read.map_err(failed)?;
    serde_json::from_slice(&text).map_err(|e| failed(e.into()))
}
