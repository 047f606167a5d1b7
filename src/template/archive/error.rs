//! Why an archive was not unpacked.

use std::io;

use rustix::io::Errno;

use super::decompress::DecompressError;

#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    #[error("the archive is cut off: it has no end marker")]
    Truncated,
    #[error("the archive is damaged: a header's checksum is wrong")]
    Checksum,
    #[error("the entry '{entry}' is malformed: {what}")]
    Malformed { entry: String, what: &'static str },
    #[error("the archive holds {what}, which is not supported")]
    Unsupported { what: &'static str },
    #[error("the entry '{entry}' climbs out of the tree: {how}")]
    Climbs { entry: String, how: &'static str },
    #[error(
        "the entry '{entry}' lies below a file or a symbolic link that leads to no directory of the tree"
    )]
    BelowLink { entry: String },
    #[error("the hard link '{entry}' cannot point to '{target}': {why}")]
    LinkTarget { entry: String, target: String, why: &'static str },
    #[error("the entry '{entry}' replaces a directory that is not empty")]
    FullDirectory { entry: String },
    #[error("the entry '{entry}' belongs to id {id}; a container has 0 to 65535")]
    Owner { entry: String, id: u64 },
    #[error("the archive has more than {limit} {what}")]
    Limit { what: &'static str, limit: u64 },
    #[error("the archive grows more than {limit}-fold when decompressed")]
    Ratio { limit: u64 },
    #[error("the target directory is not empty")]
    TargetInUse,
    #[error("cannot {operation} '{entry}'")]
    Write { operation: &'static str, entry: String, source: io::Error },
}

impl ExtractError {
    /// What to type next, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Decompress(DecompressError::Foreign(found)) => Some(found.hint()),
            Self::Decompress(DecompressError::NotAnArchive) => {
                Some("give a tar archive: nagaya template import rootfs.tar.gz --name NAME".to_owned())
            }
            _ => None,
        }
    }

    pub(super) fn malformed(entry: &[u8], what: &'static str) -> Self {
        Self::Malformed { entry: Self::show(entry), what }
    }

    pub(super) fn write(operation: &'static str, entry: &[u8], errno: Errno) -> Self {
        Self::Write { operation, entry: Self::show(entry), source: errno.into() }
    }

    /// A name out of an archive, fit for a terminal and of bounded length.
    pub(super) fn show(name: &[u8]) -> String {
        const SHOWN: usize = 200;
        let text = String::from_utf8_lossy(&name[..name.len().min(SHOWN)]).escape_debug().to_string();
        if name.len() > SHOWN { text + "…" } else { text }
    }
}
