//! Asking polkit whether somebody on the bus may do something.

use std::collections::HashMap;

use zbus::{Connection, Variant};

use crate::sys::passwd;

/// What polkit can allow or refuse; the ids are those of the policy file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// To be given ids and directories.
    Setup,
    /// To run containers.
    Containers,
    /// To have a network on the host.
    Network,
}

impl Action {
    pub fn id(self) -> &'static str {
        match self {
            Self::Setup => "org.nagaya.Host1.setup",
            Self::Containers => "org.nagaya.Host1.containers",
            Self::Network => "org.nagaya.Host1.network",
        }
    }
}

/// What polkit says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Yes,
    No,
    /// There is no polkit on this bus.
    Absent,
}

/// `CheckAuthorization` may ask the user for a password (org.freedesktop.PolicyKit1.Authority).
const ALLOW_USER_INTERACTION: u32 = 1;

/// A subject of polkit's: its kind and what identifies it.
type Subject<'a> = (&'a str, HashMap<&'a str, Variant<'a>>);

#[zbus::proxy(
    interface = "org.freedesktop.PolicyKit1.Authority",
    default_service = "org.freedesktop.PolicyKit1",
    default_path = "/org/freedesktop/PolicyKit1/Authority"
)]
trait Authority {
    fn check_authorization(
        &self,
        subject: &Subject<'_>,
        action_id: &str,
        details: HashMap<&str, &str>,
        flags: u32,
        cancellation_id: &str,
    ) -> zbus::Result<(bool, bool, HashMap<String, String>)>;
}

/// Whether `sender`, a unique name on the bus, may do `action`. May take as long as it takes a
/// person to type a password.
pub async fn check(connection: &Connection, sender: &str, action: Action) -> zbus::fdo::Result<Verdict> {
    let authority = AuthorityProxy::builder(connection)
        .cache_properties(zbus::proxy::CacheProperties::No)
        .build()
        .await?;
    let subject = ("system-bus-name", HashMap::from([("name", Variant::from(sender))]));
    let answer = authority
        .check_authorization(&subject, action.id(), HashMap::new(), ALLOW_USER_INTERACTION, "")
        .await;
    match answer {
        Ok((true, _, _)) => Ok(Verdict::Yes),
        Ok(_) => Ok(Verdict::No),
        Err(e) => match zbus::fdo::Error::from(e) {
            zbus::fdo::Error::ServiceUnknown(_) | zbus::fdo::Error::NameHasNoOwner(_) => Ok(Verdict::Absent),
            other => Err(other),
        },
    }
}

/// Whether the user is in the group, by the host's files: what decides where there is no polkit.
pub fn is_member(user: &str, uid: u32, group: &str) -> bool {
    let text = |path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    let Some(group) = passwd::group(&text("/etc/group"), group) else { return false };
    let primary = passwd::users(&text("/etc/passwd")).any(|u| u.uid == uid && u.gid == group.gid);
    primary || group.members.iter().any(|member| member == user)
}
