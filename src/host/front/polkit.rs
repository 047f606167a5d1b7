//! Asking polkit whether somebody on the bus may do something.

use std::collections::HashMap;

use zbus::{Connection, Variant};

use crate::host::api::access::Action;

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

/// Whether `sender`, a unique name on the bus, may do `action`. May take as long as a user takes to type a
/// password.
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
