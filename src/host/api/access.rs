//! What a user must be allowed before hostd passes a call on, and whether members of the group are.

use crate::sys::accounts::passwd;

/// What polkit can allow or refuse; the ids are those of the policy file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// To get ids and directories.
    Setup,
    /// To run containers.
    Containers,
    /// To have a network on the host.
    Network,
}

impl Action {
    /// Its id in polkit's policy file.
    pub fn id(self) -> &'static str {
        match self {
            Self::Setup => "org.nagaya.Host1.setup",
            Self::Containers => "org.nagaya.Host1.containers",
            Self::Network => "org.nagaya.Host1.network",
        }
    }
}

/// Whether the user is in the group, by the host's files. That decides on a host without polkit.
pub fn is_member(user: &str, uid: u32, group: &str) -> bool {
    let text = |path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    let Some(group) = passwd::group(&text("/etc/group"), group) else { return false };
    let primary = passwd::users(&text("/etc/passwd")).any(|u| u.uid == uid && u.gid == group.gid);
    primary || group.members.iter().any(|member| member == user)
}
