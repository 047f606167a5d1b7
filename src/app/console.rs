//! `console` and `logs`: what a guest prints, now and before.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::context::App;
use super::error::AppResult;
use super::layout;
use super::monitor::{self, Connection};
use crate::model::name::Name;
use crate::runtime::protocol::{Request, WindowSize};
use crate::sys::Context;

/// A console that is followed.
pub struct Attached {
    connection: Connection,
    stream: OwnedFd,
}

impl Attached {
    /// What the guest prints, its latest history first, and what is typed.
    pub fn stream(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    pub fn resize(&self, size: WindowSize) {
        let _ = self.connection.send(&Request::Resize(size), &[]);
    }
}

pub fn attach(app: &mut App, name: &Name) -> AppResult<Attached> {
    let container = app.find(name)?;
    let connection = monitor::connect(app, &container)?;
    let (stream, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .cannot(|| "make a socket pair")?;
    connection.ask(&Request::Console, &[theirs.as_fd()])?;
    Ok(Attached { connection, stream })
}

/// The console's history, oldest first, as the guest has printed it.
pub fn history(app: &mut App, name: &Name) -> AppResult<Vec<u8>> {
    let container = app.find(name)?;
    let mut parts = Vec::new();
    for path in layout::console_logs(&app.instance, &container.id) {
        let read = || -> std::io::Result<(std::time::SystemTime, Vec<u8>)> {
            Ok((std::fs::metadata(&path)?.modified()?, std::fs::read(&path)?))
        };
        match read() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            other => parts.push(other.cannot(|| format!("read {}", path.display()))?),
        }
    }
    parts.sort_by_key(|(modified, _)| *modified);
    Ok(parts.into_iter().flat_map(|(_, text)| text).collect())
}
