//! `console` and `logs`: what a guest prints, now and before.

use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::monitor::{self, Connection};
use crate::app::error::AppResult;
use crate::app::instance::App;
use crate::app::instance::layout;
use crate::model::name::Name;
use crate::runtime::protocol::{Request, WindowSize};
use crate::sys::{Context, SysError};

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
    let (stream, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .cannot(|| "make a socket pair")?;
    let connection = monitor::ask(app, &container, &Request::Console, &[theirs.as_fd()])?;
    Ok(Attached { connection, stream })
}

/// The console's history, oldest first, as the guest has printed it.
pub fn history(app: &mut App, name: &Name) -> AppResult<Vec<u8>> {
    let container = app.find(name)?;
    let parts = parts(&layout::console_logs(&app.instance, &container.id))?;
    Ok(parts.into_iter().flat_map(|part| part.text).collect())
}

/// One of the two files of a history.
struct Part {
    path: PathBuf,
    modified: SystemTime,
    text: Vec<u8>,
}

/// The files that exist, the one that was written last at the end.
fn parts(paths: &[PathBuf]) -> AppResult<Vec<Part>> {
    let mut parts = Vec::new();
    for path in paths {
        let read = || -> std::io::Result<Part> {
            let modified = std::fs::metadata(path)?.modified()?;
            Ok(Part { path: path.clone(), modified, text: std::fs::read(path)? })
        };
        match read() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            other => parts.push(other.cannot(|| format!("read {}", path.display()))?),
        }
    }
    parts.sort_by_key(|part| part.modified);
    Ok(parts)
}

/// A history that is followed, through starts and stops, until the container is deleted. It reads files
/// only: it asks no monitor, and needs none.
pub struct Followed {
    changes: Inotify,
    paths: [PathBuf; 2],
    /// The file that is being filled, and how far it was read.
    current: Option<(PathBuf, u64)>,
}

/// The history so far, and what comes.
pub fn follow(app: &mut App, name: &Name) -> AppResult<(Vec<u8>, Followed)> {
    let container = app.find(name)?;
    let paths = layout::console_logs(&app.instance, &container.id);
    let dir = layout::container_dir(&app.instance, &container.id);
    let what = || format!("watch {}", dir.display());
    let changes = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).cannot(what)?;
    let wanted = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_DELETE_SELF;
    changes.add_watch(&dir, wanted).cannot(what)?;
    // What the guest prints from here on is both read below and announced; the offset makes sure that it is
    // read once.
    let parts = parts(&paths)?;
    let current = parts.last().map(|part| (part.path.clone(), part.text.len() as u64));
    let history = parts.into_iter().flat_map(|part| part.text).collect();
    Ok((history, Followed { changes, paths, current }))
}

impl Followed {
    /// Readable when `news` has something.
    pub fn changes(&self) -> BorrowedFd<'_> {
        self.changes.as_fd()
    }

    /// What was printed since; none once the container is gone.
    pub fn news(&mut self) -> AppResult<Option<Vec<u8>>> {
        let mut text = Vec::new();
        let events = match self.changes.read_events() {
            Ok(events) => events,
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => return Ok(Some(text)),
            Err(e) => return Err(SysError::new("follow the console's history", e).into()),
        };
        for event in events {
            let over =
                AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_IGNORED;
            if event.mask.intersects(over) {
                return Ok(None);
            }
            let file = self.paths.iter().find(|path| path.file_name() == event.name.as_deref());
            if let Some(file) = file.cloned() {
                self.go_on(&file, &mut text).cannot(|| format!("read {}", file.display()))?;
            }
        }
        Ok(Some(text))
    }

    /// Reads what is new in `file`, which has changed. The monitor fills one file, then empties and fills
    /// the other. So a change of the other file means that nothing more comes to this one.
    fn go_on(&mut self, file: &Path, text: &mut Vec<u8>) -> std::io::Result<()> {
        match self.current.take() {
            Some((current, read)) if current == file => {
                self.current = Some((current, read));
            }
            Some((current, read)) => {
                let modified = |path: &Path| std::fs::metadata(path).and_then(|m| m.modified());
                if modified(file)? < modified(&current)? {
                    // News from before the history was read.
                    self.current = Some((current, read));
                    return Ok(());
                }
                read_on(&current, read, text)?;
                self.current = Some((file.to_owned(), 0));
            }
            None => self.current = Some((file.to_owned(), 0)),
        }
        if let Some((current, read)) = &mut self.current {
            *read = read_on(current, *read, text)?;
        }
        Ok(())
    }
}

/// Appends to `text` what `file` has from `from` on, or all if it has been emptied meanwhile. Returns
/// where it ends.
fn read_on(file: &Path, from: u64, text: &mut Vec<u8>) -> std::io::Result<u64> {
    let mut file = std::fs::File::open(file)?;
    let from = if file.metadata()?.len() < from { 0 } else { from };
    file.seek(SeekFrom::Start(from))?;
    Ok(from + file.read_to_end(text)? as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_are_read_once_and_from_both_files() {
        let dir = tempfile::tempdir().unwrap();
        let paths = [dir.path().join("console.0"), dir.path().join("console.1")];
        let changes = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
        changes.add_watch(dir.path(), AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_DELETE_SELF).unwrap();
        let mut followed = Followed { changes, paths: paths.clone(), current: None };
        let print = |n: usize, text: &str| {
            use std::io::Write;
            let mut file = std::fs::File::options().append(true).create(true).open(&paths[n]).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        let news = |followed: &mut Followed| {
            followed.news().unwrap().map(|text| String::from_utf8(text).unwrap()).unwrap()
        };
        print(0, "a");
        assert_eq!(news(&mut followed), "a");
        print(0, "b");
        print(1, "c");
        print(1, "d");
        assert_eq!(news(&mut followed), "bcd");
        assert_eq!(news(&mut followed), "");
        // The first file was full, and was begun again.
        std::fs::File::options().write(true).open(&paths[0]).unwrap().set_len(0).unwrap();
        print(0, "e");
        assert_eq!(news(&mut followed), "e");
        std::fs::remove_dir_all(dir.path()).unwrap();
        let mut end = Some(Vec::new());
        while end.is_some() {
            end = followed.news().unwrap();
        }
    }
}
