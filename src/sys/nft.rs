//! nftables without a program: changes go to the kernel as batches of messages, and what it holds is
//! asked of it. nft reads all that there is before it changes anything: seconds where there are a
//! thousand containers.

mod batch;
mod chains;
mod expression;
#[cfg(test)]
mod firewall_tests;
mod listing;
mod message;
mod watch;

use std::io;

pub use batch::Batch;
pub use chains::{BaseChain, BaseHook, chains};
pub use listing::{
    Count, Found, FoundRule, FoundSet, element, elements, generation, has_table, rule_count, rules, sets,
};
pub use watch::{Change, Kind, Transaction, Watch};

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
