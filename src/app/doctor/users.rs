//! What there is for ordinary users: nagaya-hostd, and the caller's grant.

use crate::host::{broker, grants};
use crate::model::instance::Instance;

use super::check::{Check, chain};

const AREA: &str = "users";
const NAME: &str = "ordinary users";

/// One line: for root whether the host has the service, for an ordinary user what is granted.
pub fn check(instance: &Instance) -> Check {
    if !broker::is_on_host() {
        let detail = "nagaya-hostd is not on the system bus: each gets less, by the private way";
        return Check::degraded(AREA, NAME, detail, "apt install ./nagaya_*.deb");
    }
    if instance.person().is_none() {
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
        Ok(grant) => {
            let detail = format!("by nagaya-hostd; granted: {} containers at once", grant.containers());
            Check::ok(AREA, NAME, detail)
        }
    }
}
