//! nftables without the nft program: changes go to the kernel as batches of messages, and questions as
//! messages too. nft reads everything before it changes anything, which takes seconds with a thousand
//! containers.

use std::io;

use crate::model::fault::{Code, Facts, Fault};

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// `what` continues "cannot".
    #[error("cannot {what}")]
    Batch { what: String, source: io::Error },
    #[error("cannot ask the kernel for {what}")]
    List { what: String, source: io::Error },
    #[error("cannot listen to changes of nftables")]
    Listen(#[source] io::Error),
}

impl NftError {
    /// What the kernel said, where it did.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Batch { source, .. } | Self::List { source, .. } | Self::Listen(source) => {
                source.raw_os_error()
            }
        }
    }

    /// The kernel's rules have changed since they were looked at.
    pub fn is_stale(&self) -> bool {
        self.errno() == Some(libc::ERESTART)
    }
}

impl Fault for NftError {
    fn facts(&self) -> Facts {
        Facts::user(Code::SystemCall)
    }
}
