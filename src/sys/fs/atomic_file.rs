//! Writing a file in one step: whoever reads it has the old content or the new one, and never a part
//! or nothing.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::sys::{Context, SysError, SysResult};

/// What a power cut may undo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    /// Nothing: it is on disk before the call returns.
    OnDisk,
    /// The new content. For files that a reboot removes anyway, or that can be made again.
    UntilPowerCut,
}

/// How a file is made that has no name of its own yet, and that nobody else has open.
const NEW_FILE: OFlags =
    OFlags::CREATE.union(OFlags::EXCL).union(OFlags::WRONLY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Puts a file with this content and these permissions in the place of `path`, whatever is there.
///
/// # Errors
/// The old file is then what it was.
pub fn replace(path: &Path, content: impl AsRef<[u8]>, mode: u32, lasting: Lasting) -> SysResult<()> {
    replace_filled(path, |file| file.write_all(content.as_ref()), mode, lasting)
}

/// The same with content that `fill` writes. Nobody has the file open for writing once it is there.
pub fn replace_filled(
    path: &Path,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
    mode: u32,
    lasting: Lasting,
) -> SysResult<()> {
    let what = || format!("write {}", path.display());
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(SysError::new(what(), io::ErrorKind::InvalidInput));
    };
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(dir, flags, Mode::empty()).cannot(what)?;
    let (file, temporary) = make(&dir, &name.to_string_lossy()).cannot(what)?;
    let new = New { dir: &dir, file, temporary: &temporary };
    new.put(name, fill, mode, lasting).cannot(what)
}

/// The same of `name` in the open directory `dir`, for a file that nobody else writes: what a writer that
/// was killed has left is replaced by the next. It is on disk when the kernel writes it there.
pub fn replace_alone(dir: &OwnedFd, name: &str, content: &str, mode: u32) -> io::Result<()> {
    let temporary = format!(".{name}.nagaya");
    let _ = rustix::fs::unlinkat(dir, &*temporary, AtFlags::empty());
    let file = rustix::fs::openat(dir, &*temporary, NEW_FILE, Mode::from_raw_mode(0o600))?;
    let new = New { dir, file, temporary: &temporary };
    new.put(OsStr::new(name), |file| file.write_all(content.as_bytes()), mode, Lasting::UntilPowerCut)
}

/// A file that is about to get its name.
struct New<'a> {
    dir: &'a OwnedFd,
    file: OwnedFd,
    temporary: &'a str,
}

impl New<'_> {
    fn put(
        self,
        name: &OsStr,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
        mode: u32,
        lasting: Lasting,
    ) -> io::Result<()> {
        let Self { dir, file, temporary } = self;
        let put = || -> io::Result<()> {
            let mut file = File::from(file);
            fill(&mut file)?;
            // Whatever the umask.
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
            if lasting == Lasting::OnDisk {
                file.sync_all()?;
            }
            // Were it open for writing, the kernel would refuse to execute it.
            drop(file);
            rustix::fs::renameat(dir, temporary, dir, name)?;
            if lasting == Lasting::OnDisk {
                rustix::fs::fsync(dir)?;
            }
            Ok(())
        };
        put().inspect_err(|_| {
            let _ = rustix::fs::unlinkat(dir, temporary, AtFlags::empty());
        })
    }
}

/// A new file that nobody else has open. Its name begins with a dot, which programs that read whole
/// directories leave alone.
fn make(dir: &OwnedFd, name: &str) -> io::Result<(OwnedFd, String)> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    const TRIES: u32 = 100;
    let name = shortened(name);
    for _ in 0..TRIES {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let temporary = format!(".{name}.{}-{number}.new", std::process::id());
        match rustix::fs::openat(dir, &*temporary, NEW_FILE, Mode::from_raw_mode(0o600)) {
            Ok(file) => return Ok((file, temporary)),
            // A file of a killed process that had the same number.
            Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(Errno::EXIST.into())
}

/// Removes what writers that were killed have left in `dir`: of the file `name`, or of all if none is
/// given. Nobody else may be writing them now.
pub fn sweep(dir: &Path, name: Option<&str>) {
    let beginning = name.map_or_else(|| ".".to_owned(), |name| format!(".{}.", shortened(name)));
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let is = entry.file_name();
        let is = is.as_encoded_bytes();
        if is.starts_with(beginning.as_bytes()) && is.ends_with(b".new") {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// NAME_MAX is 255 bytes.
fn shortened(name: &str) -> String {
    name.chars().take(50).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn names(dir: &Path) -> Vec<std::ffi::OsString> {
        std::fs::read_dir(dir).unwrap().flatten().map(|entry| entry.file_name()).collect()
    }

    #[test]
    fn what_killed_writers_left_goes() {
        let dir = tempfile::tempdir().unwrap();
        for name in [".a.toml.1-0.new", ".b.toml.1-1.new", "a.toml", ".hidden", "a.new"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        sweep(dir.path(), Some("a.toml"));
        assert_eq!(names(dir.path()).len(), 4);
        assert!(!dir.path().join(".a.toml.1-0.new").exists());
        sweep(dir.path(), None);
        assert_eq!(names(dir.path()).len(), 3);
        sweep(&dir.path().join("none"), None);
    }

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let (path, target) = (dir.path().join("a"), dir.path().join("target"));
        std::fs::write(&target, "untouched").unwrap();
        symlink(&target, &path).unwrap();
        for (mode, lasting) in [(0o644, Lasting::OnDisk), (0o600, Lasting::UntilPowerCut)] {
            replace(&path, "new", mode, lasting).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
            assert_eq!(std::fs::symlink_metadata(&path).unwrap().mode() & 0o177_777, 0o100_000 | mode);
        }
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "untouched");
        assert_eq!(names(dir.path()).len(), 2);
        std::fs::create_dir(dir.path().join("dir")).unwrap();
        assert!(replace(&dir.path().join("dir"), "x", 0o600, Lasting::OnDisk).is_err());
        assert!(replace(&dir.path().join("none/a"), "x", 0o600, Lasting::OnDisk).is_err());
        assert_eq!(names(dir.path()).len(), 3);
    }

    #[test]
    fn readers_never_see_a_part() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let content = |letter: char| letter.to_string().repeat(100_000);
        replace(&path, content('a'), 0o600, Lasting::UntilPowerCut).unwrap();
        std::thread::scope(|scope| {
            let writers: Vec<_> = ['a', 'b', 'c']
                .map(|letter| {
                    let path = &path;
                    scope.spawn(move || {
                        for _ in 0..50 {
                            replace(path, content(letter), 0o600, Lasting::UntilPowerCut).unwrap();
                        }
                    })
                })
                .into();
            while writers.iter().any(|writer| !writer.is_finished()) {
                let text = std::fs::read_to_string(&path).unwrap();
                assert_eq!(text, content(text.chars().next().expect("never empty")));
            }
        });
        assert_eq!(names(dir.path()).len(), 1);
    }
}
