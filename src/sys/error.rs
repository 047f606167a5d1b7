//! A call of the kernel that failed, and what an error has for causes.

use crate::model::fault::{Code, Facts, Fault};

/// A kernel call that failed: what was being done, on what, and the kernel's answer.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}")]
pub struct SysError {
    what: String,
    #[source]
    source: std::io::Error,
}

impl SysError {
    /// `what` continues the sentence "cannot …" and names the object.
    pub fn new(what: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        Self { what: what.into(), source: source.into() }
    }

    /// A failure that a child process has described as `text`, which begins with "cannot ".
    pub fn from_worker(text: &str, errno: Option<i32>) -> Self {
        let (what, _) = text.rsplit_once(": ").unwrap_or((text, ""));
        match errno {
            Some(errno) => {
                Self::new(what.trim_start_matches("cannot "), std::io::Error::from_raw_os_error(errno))
            }
            None => Self::new("do the file work", std::io::Error::other(text.to_owned())),
        }
    }

    /// The last system call's errno.
    pub fn last(what: impl Into<String>) -> Self {
        Self::new(what, std::io::Error::last_os_error())
    }

    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

impl Fault for SysError {
    fn facts(&self) -> Facts {
        lack_by_errno(self.errno()).map_or(Facts::user(Code::SystemCall), Facts::host)
    }
}

/// What the host has run out of, by the first cause of `error` that is the kernel's answer.
pub fn lack_of(error: &(dyn std::error::Error + 'static)) -> Option<Code> {
    let errno_of = |error: &(dyn std::error::Error + 'static)| {
        let of_io = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        of_io.or_else(|| error.downcast_ref().map(|errno: &rustix::io::Errno| errno.raw_os_error()))
    };
    std::iter::successors(Some(error), |error| error.source())
        .find_map(errno_of)
        .and_then(|e| lack_by_errno(Some(e)))
}

fn lack_by_errno(errno: Option<i32>) -> Option<Code> {
    match errno? {
        libc::ENOSPC | libc::EDQUOT => Some(Code::DiskFull),
        libc::EROFS => Some(Code::ReadOnly),
        _ => None,
    }
}

pub type SysResult<T> = Result<T, SysError>;

/// Attaches the operation to an error of rustix, nix or std.
pub trait Context<T> {
    /// `what` continues the sentence "cannot …" and names the object.
    fn cannot<S: Into<String>>(self, what: impl FnOnce() -> S) -> SysResult<T>;
}

impl<T, E: Into<std::io::Error>> Context<T> for Result<T, E> {
    fn cannot<S: Into<String>>(self, what: impl FnOnce() -> S) -> SysResult<T> {
        self.map_err(|e| SysError::new(what(), e))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_found_among_the_causes() {
        let of = |errno| {
            let inner = SysError::new("write", std::io::Error::from_raw_os_error(errno));
            lack_of(&crate::sys::fs::lock::LockError::Sys(inner))
        };
        assert_eq!(of(libc::ENOSPC), Some(Code::DiskFull));
        assert_eq!(of(libc::EDQUOT), Some(Code::DiskFull));
        assert_eq!(of(libc::EROFS), Some(Code::ReadOnly));
        assert_eq!(of(libc::EIO), None);
        assert_eq!(lack_of(&rustix::io::Errno::NOSPC), Some(Code::DiskFull));
        let told = SysError::from_worker("cannot write 'big': No space left on device", Some(libc::ENOSPC));
        assert_eq!((lack_of(&told), told.facts().code), (Some(Code::DiskFull), Code::DiskFull));
        let text_alone = SysError::from_worker("No space left on device", None);
        assert_eq!((lack_of(&text_alone), text_alone.facts().code), (None, Code::SystemCall));
    }
}
