//! Writes one file after the other and records what it wrote: a file that the guest has changed since is
//! the guest's.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::model::guest_file::{self, GuestFile, IGNORE, Merged, RECORD, When};
use crate::sys::fs::atomic_file;
use crate::sys::fs::mount::open_in_root;
use crate::sys::{Context, SysError, SysResult, error_text};

/// A longer file of the guest's is not changed.
const MAX_READ: u64 = 1 << 20;

/// Writes files below one root.
pub struct Writer<'a> {
    root: &'a OwnedFd,
    /// Path and what was last written there.
    record: BTreeMap<String, String>,
    is_changed: bool,
    notes: Vec<String>,
}

/// Where a file is to be, and what is there now.
struct Place<'a> {
    parent: OwnedFd,
    name: &'a str,
    kind: Option<FileType>,
    mode: u32,
}

impl<'a> Writer<'a> {
    pub fn new(root: &'a OwnedFd) -> Self {
        let mut writer = Self { root, record: BTreeMap::new(), is_changed: false, notes: Vec::new() };
        let record = writer.read(RECORD).and_then(|text| serde_json::from_str(&text).ok());
        writer.record = record.unwrap_or_default();
        writer
    }

    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// The text of a regular file of the guest's, not through a link; none otherwise.
    pub fn read(&self, path: &str) -> Option<String> {
        let (dir, name) = split(path);
        let parent = open_in_root(self.root.as_fd(), dir, OFlags::PATH | OFlags::DIRECTORY).ok()?;
        String::from_utf8(read_regular(&parent, name, MAX_READ)?).ok()
    }

    /// Writes `file`, unless the guest has changed it. A file that would not change is not written, because
    /// that would copy it up.
    pub fn put(&mut self, file: &GuestFile) {
        if let Err(e) = self.try_put(file) {
            self.note(error_text(&e));
        }
    }

    fn try_put(&mut self, file: &GuestFile) -> SysResult<()> {
        let what = || format!("write the guest's {}", file.path);
        let place = self.place_of(&file.path).map_err(|(step, e)| match step {
            Some(step) => SysError::new(step, e),
            None => SysError::new(what(), e),
        })?;
        let ignore = format!("{IGNORE}{}", place.name);
        if rustix::fs::statat(&place.parent, &*ignore, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Ok(());
        }
        if place.kind == Some(FileType::Directory) {
            return Err(SysError::new(what(), std::io::ErrorKind::IsADirectory));
        }
        let last = self.record.get(&file.path).map(String::as_str);
        let current = match place.kind {
            Some(FileType::RegularFile) => read_regular(&place.parent, place.name, MAX_READ)
                .and_then(|bytes| String::from_utf8(bytes).ok()),
            _ => None,
        };
        if is_guests_choice(file, place.kind, current.is_some(), last.is_some()) {
            return Ok(());
        }
        match guest_file::merge(file, current.as_deref(), last) {
            Merged::Write(text) => replace(&place, file, &text).cannot(what)?,
            Merged::Right => {}
            Merged::Guests => {
                if last != Some(&file.content) {
                    self.note(format!(
                        "{} was changed in the guest, so that nagaya leaves it as it is; once it is \
                         removed, the next boot writes it",
                        file.path
                    ));
                }
                return Ok(());
            }
        }
        if file.when != When::Always && last != Some(&file.content) {
            self.record.insert(file.path.clone(), file.content.clone());
            self.is_changed = true;
        }
        Ok(())
    }

    /// Changes a file of the guest's by `adapt`, if there is one, at the first boot of all; from then on
    /// it is the guest's.
    pub fn adapt_once(&mut self, path: &str, adapt: impl Fn(&str) -> Option<String>) {
        if self.record.contains_key(path) {
            return;
        }
        let Some(content) = self.read(path).and_then(|text| adapt(&text)) else { return };
        self.put(&GuestFile { path: path.to_owned(), content, mode: 0o644, when: When::UnlessChanged });
    }

    /// Whether `what` is done at `path` for the first time; records that.
    pub fn is_first(&mut self, path: &str, what: &str) -> bool {
        let (dir, name) = split(path);
        let ignore = open_in_root(self.root.as_fd(), dir, OFlags::PATH | OFlags::DIRECTORY)
            .and_then(|dir| rustix::fs::statat(dir, format!("{IGNORE}{name}"), AtFlags::SYMLINK_NOFOLLOW));
        if ignore.is_ok() || self.record.contains_key(path) {
            return false;
        }
        self.record.insert(path.to_owned(), what.to_owned());
        self.is_changed = true;
        true
    }

    fn place_of<'p>(&self, path: &'p str) -> Result<Place<'p>, (Option<String>, Errno)> {
        let (dir, name) = split(path);
        let parent = self.make_dirs(dir).map_err(|e| (Some(format!("open the guest's /{dir}")), e))?;
        match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                let (kind, mode) = (FileType::from_raw_mode(stat.st_mode), stat.st_mode & 0o777);
                Ok(Place { parent, name, kind: Some(kind), mode })
            }
            Err(Errno::NOENT) => Ok(Place { parent, name, kind: None, mode: 0 }),
            Err(e) => Err((None, e)),
        }
    }

    /// Opens directory `path` below the root, making what is missing. Links are followed as the guest
    /// would, never out of its root.
    fn make_dirs(&self, path: &str) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match open_in_root(self.root.as_fd(), path, flags) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        let (above, name) = path.rsplit_once('/').unwrap_or((".", path));
        let parent = self.make_dirs(above)?;
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e),
        }
        rustix::fs::openat(&parent, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
    }

    /// Makes a link where nothing is.
    pub fn link(&mut self, path: &str, target: &str) {
        let (dir, name) = split(path);
        let made = self.make_dirs(dir).and_then(|parent| rustix::fs::symlinkat(target, &parent, name));
        match made {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => self.note(error_text(&SysError::new(format!("make the guest's {path}"), e))),
        }
    }

    /// Removes a link.
    pub fn unlink(&mut self, path: &str) {
        let (dir, name) = split(path);
        let removed = open_in_root(self.root.as_fd(), dir, OFlags::PATH | OFlags::DIRECTORY)
            .and_then(|parent| rustix::fs::unlinkat(parent, name, AtFlags::empty()));
        if let Err(e) = removed {
            self.note(error_text(&SysError::new(format!("remove the guest's {path}"), e)));
        }
    }

    /// Removes what an earlier start has written for interfaces that are gone: files of ours that are not
    /// among `files` and have no lines of the guest's. A file that cannot be read is left alone.
    pub fn remove_stale(&mut self, files: &[GuestFile]) {
        for dir in guest_file::interface_file_dirs() {
            let (flags, relative) = (OFlags::RDONLY | OFlags::DIRECTORY, dir.trim_start_matches('/'));
            let Ok(parent) = open_in_root(self.root.as_fd(), relative, flags) else { continue };
            let Ok(entries) = rustix::fs::Dir::read_from(&parent) else { continue };
            for entry in entries.flatten() {
                let Ok(name) = entry.file_name().to_str() else { continue };
                let path = format!("{dir}/{name}");
                let is_wanted = files.iter().any(|file| file.path == path);
                if !is_wanted && guest_file::is_interface_file(&path) && self.is_ours(&parent, name, &path) {
                    let _ = rustix::fs::unlinkat(&parent, name, AtFlags::empty());
                    self.is_changed |= self.record.remove(&path).is_some();
                }
            }
        }
    }

    fn is_ours(&self, parent: &OwnedFd, name: &str, path: &str) -> bool {
        let text = read_regular(parent, name, MAX_READ).and_then(|bytes| String::from_utf8(bytes).ok());
        let last = self.record.get(path).map(String::as_str);
        text.is_some_and(|text| guest_file::is_ours_alone(&text, last))
    }

    /// Keeps the record; returns what is to be told.
    pub fn finish(mut self) -> Vec<String> {
        if self.is_changed {
            let content = serde_json::to_string_pretty(&self.record).unwrap_or_default();
            let path = RECORD.to_owned();
            self.put(&GuestFile { path, content, mode: 0o600, when: When::Always });
        }
        self.notes
    }
}

/// Whether what is at the file's place is there by the guest's choice: a link that the guest has made since
/// the first start, or a file that is no text or too long. A fifo or a socket is no choice, because whoever
/// opens it hangs.
fn is_guests_choice(file: &GuestFile, kind: Option<FileType>, is_text: bool, was_written: bool) -> bool {
    let keeps = match &file.when {
        When::Always => false,
        When::UnlessChanged | When::Block { replaces: true, .. } => was_written,
        When::Block { replaces: false, .. } => true,
    };
    match kind {
        Some(FileType::Symlink) => keeps,
        Some(FileType::RegularFile) => keeps && !is_text,
        _ => false,
    }
}

/// A new file put in place by a rename: whatever stood there, link or fifo, is not opened.
fn replace(place: &Place<'_>, file: &GuestFile, text: &str) -> std::io::Result<()> {
    let Place { parent, name, kind, mode } = place;
    let keeps_mode = *kind == Some(FileType::RegularFile) && matches!(file.when, When::Block { .. });
    let mode = if keeps_mode { *mode } else { file.mode };
    atomic_file::replace_alone(parent, name, text, mode)
}

/// Directory and name of an absolute path, the directory relative to the root.
fn split(path: &str) -> (&str, &str) {
    let relative = path.trim_start_matches('/');
    relative.rsplit_once('/').unwrap_or((".", relative))
}

/// The content of a regular file of at most `max` bytes; none otherwise.
pub fn read_regular(parent: &OwnedFd, name: &str, max: u64) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(parent, name, flags, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(&fd).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_size as u64 > max {
        return None;
    }
    let mut text = Vec::new();
    std::fs::File::from(fd).take(max).read_to_end(&mut text).ok()?;
    Some(text)
}
