//! Where the distribution's programs are, and which package has each of them.

use std::path::{Path, PathBuf};

/// Looked through in this order, whatever PATH says: the caller may be root with a user's environment.
const DIRS: [&str; 6] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"];
/// Where programs that were started look for others.
pub const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// The program called `name`, with its whole path.
pub fn find(name: &str) -> Option<PathBuf> {
    DIRS.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.is_file())
}

/// A program and the packages that have it.
#[derive(Debug)]
pub struct Packaged {
    pub name: &'static str,
    pub debian: &'static str,
    pub fedora: &'static str,
}

const fn packaged(name: &'static str, debian: &'static str, fedora: &'static str) -> Packaged {
    Packaged { name, debian, fedora }
}

pub static NFT: Packaged = packaged("nft", "nftables", "nftables");
pub static USERADD: Packaged = packaged("useradd", "passwd", "shadow-utils");
pub static USERMOD: Packaged = packaged("usermod", "passwd", "shadow-utils");
pub static USERDEL: Packaged = packaged("userdel", "passwd", "shadow-utils");
pub static GROUPDEL: Packaged = packaged("groupdel", "passwd", "shadow-utils");
pub static NEWUIDMAP: Packaged = packaged("newuidmap", "uidmap", "shadow-utils");
pub static NEWGIDMAP: Packaged = packaged("newgidmap", "uidmap", "shadow-utils");
pub static MMDEBSTRAP: Packaged = packaged("mmdebstrap", "mmdebstrap", "mmdebstrap");
pub static RSYNC: Packaged = packaged("rsync", "rsync", "rsync");
pub static DNSMASQ: Packaged = packaged("dnsmasq", "dnsmasq-base", "dnsmasq");
pub static PASTA: Packaged = packaged("pasta", "passt", "passt");
pub static LXCFS: Packaged = packaged("lxcfs", "lxcfs", "lxcfs");
pub static PKTTYAGENT: Packaged = packaged("pkttyagent", "polkitd", "polkit");

/// A program that the host lacks.
#[derive(Debug, thiserror::Error)]
#[error("'{}' is not installed (package {})", .0.name, .0.packages())]
pub struct NotInstalled(pub &'static Packaged);

impl Packaged {
    /// Its whole path.
    pub fn find(&'static self) -> Result<PathBuf, NotInstalled> {
        find(self.name).ok_or(NotInstalled(self))
    }

    fn packages(&self) -> String {
        match self.debian == self.fedora {
            true => format!("'{}'", self.debian),
            false => format!("'{}' or '{}'", self.debian, self.fedora),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_has_a_whole_path_and_what_is_not_a_package() {
        assert!(find("sh").is_some_and(|path| path.is_absolute() && path.is_file()));
        assert_eq!(find("nagaya-no-such-program"), None);
        static NONE: Packaged = packaged("nagaya-no-such-program", "a", "b");
        let error = NONE.find().unwrap_err();
        assert_eq!(error.to_string(), "'nagaya-no-such-program' is not installed (package 'a' or 'b')");
        assert_eq!(NotInstalled(&PASTA).to_string(), "'pasta' is not installed (package 'passt')");
    }
}
