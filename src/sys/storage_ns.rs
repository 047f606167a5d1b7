//! File work as the storage slice: in a forked child that is uid 0 of a user namespace over that
//! slice, so it can touch the slice's files and nothing else of the host.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use rustix::thread::LinkNameSpaceType;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::clone::{self, CloneSpec, Exit};
use super::{Context, SysError, SysResult, userns};

/// Runs `body` in the storage slice behind `namespace` and hands back what it returns. The caller
/// has a single thread. A child that dies in between is an error.
pub fn run<T, E, F>(namespace: &OwnedFd, body: F) -> SysResult<Result<T, E>>
where
    T: Serialize + DeserializeOwned,
    E: Serialize + DeserializeOwned,
    F: FnOnce() -> Result<T, E>,
{
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).cannot(|| "make a pipe")?;
    let child = clone::fork(&CloneSpec::default(), || {
        let entered = enter(namespace).map_err(|e| error_text(&e));
        let outcome: Result<Result<T, E>, String> = entered.map(|()| body());
        let text = serde_json::to_vec(&outcome).unwrap_or_default();
        i32::from(std::fs::File::from(write).write_all(&text).is_err())
    })?;
    // Ours must go, or the end of the child's would never be seen.
    let mut text = Vec::new();
    let got = {
        let mut read = std::fs::File::from(read);
        read.read_to_end(&mut text)
    };
    let exit = child.wait()?;
    got.cannot(|| "hear from the file worker")?;
    let outcome: Result<Result<T, E>, String> = serde_json::from_slice(&text).map_err(|_| died(exit))?;
    outcome.map_err(|e| SysError::new("become the storage slice", std::io::Error::other(e)))
}

fn died(exit: Exit) -> SysError {
    let how = match exit {
        Exit::Code(code) => format!("it ended with code {code}"),
        Exit::Signal(signal) => format!("it was killed by signal {signal}"),
    };
    SysError::new("finish the file work", std::io::Error::other(how))
}

/// Makes this process uid 0 of the storage slice, with every capability there and none elsewhere.
pub fn enter(namespace: &OwnedFd) -> SysResult<()> {
    userns::enter(namespace, LinkNameSpaceType::User, "storage slice's user")?;
    userns::become_root_inside()?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    Ok(())
}

/// An error with its whole chain of causes on one line.
pub fn error_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text.push_str(": ");
        text.push_str(&e.to_string());
        cause = e.source();
    }
    text
}
