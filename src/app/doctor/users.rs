//! What ordinary users have on this host: nagaya-hostd, and the caller's grant.

use crate::host::api::grants;
use crate::host::client;
use crate::model::instance::Instance;
use crate::sys::accounts::passwd;

use super::check::{Check, chain, read};

const AREA: &str = "users";
const NAME: &str = "ordinary users";

/// One line: for root whether the host has the service, for an ordinary user what is granted.
pub fn check(instance: &Instance) -> Check {
    if !client::is_on_host() {
        let detail = "nagaya-hostd is not on the system bus: users have daemonless mode, which offers less";
        return Check::degraded(AREA, NAME, detail, "apt install ./nagaya_*.deb");
    }
    if instance.uid_of_user().is_none() {
        let detail =
            format!("by nagaya-hostd, for group '{}' and whom 'nagaya grant' allows", instance.name());
        return Check::ok(AREA, NAME, detail);
    }
    let user = instance.user();
    match grants::effective(instance, user) {
        Err(e) => Check::missing(AREA, NAME, chain(&e), "nagaya grant"),
        Ok(grant) if grant.allow == Some(false) => {
            let fix = format!("sudo nagaya grant {user} allow=true");
            Check::missing(AREA, NAME, format!("the administrator has barred '{user}'"), fix)
        }
        Ok(grant) if grant.allow != Some(true) && !is_member(user, instance.name()) => {
            let group = instance.name();
            let detail = format!("'{user}' is not in group '{group}' and has no grant: nagaya-hostd refuses");
            let fix = format!("sudo adduser {user} {group}, or: sudo nagaya grant {user} allow=true");
            Check::missing(AREA, NAME, detail, fix)
        }
        Ok(grant) => {
            let detail = format!("by nagaya-hostd; granted: {} containers at once", grant.containers());
            Check::ok(AREA, NAME, detail)
        }
    }
}

/// As polkit sees it: by the database of groups, whatever groups the login has.
fn is_member(user: &str, group: &str) -> bool {
    let (users, groups) = (read("/etc/passwd").unwrap_or_default(), read("/etc/group").unwrap_or_default());
    let own = passwd::user(&users, user).map(|user| user.gid);
    passwd::groups(&groups)
        .filter(|found| found.name == group)
        .any(|found| Some(found.gid) == own || found.members.iter().any(|member| member == user))
}
