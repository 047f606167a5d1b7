//! The service user's ids: set up, nobody else's, and how many are left.

use std::path::Path;

use crate::host::setup::{self, Owner, SetupError};
use crate::model::ids::SubordinateIds;
use crate::model::instance::Instance;
use crate::model::subid;
use crate::sys::accounts::subid::{IdFiles, ReadError};

use super::check::{Check, chain, read};

const AREA: &str = "ids";

/// The instance's owner, and the checks about it. `containers` counts the containers that have an id range.
pub fn checks(instance: &Instance, containers: u64) -> (Option<Owner>, Vec<Check>) {
    let files = IdFiles::read(Path::new("/etc"));
    let (owner, mut checks) = range(&files, instance);
    if let Some(owner) = owner {
        checks.push(id_ranges(owner.range, containers));
    }
    if let Ok(files) = &files {
        checks.extend(lines("lines of /etc/subuid", "/etc/subuid", &files.subuid));
        checks.extend(lines("lines of /etc/subgid", "/etc/subgid", &files.subgid));
    }
    checks.extend(directory_services(
        &read("/etc/nsswitch.conf").unwrap_or_default(),
        owner.map(|owner| owner.range),
    ));
    (owner, checks)
}

fn range(files: &Result<IdFiles, ReadError>, instance: &Instance) -> (Option<Owner>, Vec<Check>) {
    const NAME: &str = "range";
    let files = match files {
        Ok(files) => files,
        Err(error) => {
            let fix = "ls -l /etc/passwd /etc/group /etc/subuid /etc/subgid";
            return (None, vec![Check::missing(AREA, NAME, chain(error), fix)]);
        }
    };
    match setup::look(files, instance) {
        Ok(Some(owner)) => {
            let ids = setup::Ids(owner.range);
            let detail = format!("{ids} of user '{}' (uid {}), nobody else's", instance.user(), owner.uid);
            (Some(owner), vec![Check::ok(AREA, NAME, detail)])
        }
        Ok(None) => {
            let detail = "none yet: the first launch allots one";
            (None, vec![Check::later(AREA, NAME, detail)])
        }
        Err(error) => (None, vec![Check::missing(AREA, NAME, chain(&error), remedy(&error))]),
    }
}

/// Only the operator knows which of two claims to an id is right, so the remedy shows where they are.
fn remedy(error: &SetupError) -> String {
    let edit = |line: &usize, file: &str| format!("${{EDITOR:-vi}} +{line} {file}");
    match error {
        SetupError::RangeOverlaps { file, line, .. } | SetupError::RangeTooSmall { file, line, .. } => {
            edit(line, file)
        }
        SetupError::RangeHoldsAccount { kind: "user", other, .. } => format!("usermod --uid NEW {other}"),
        SetupError::RangeHoldsAccount { other, .. } => format!("groupmod --gid NEW {other}"),
        SetupError::ForeignUser { user, .. } => {
            format!("usermod --login NEW {user}; groupmod --new-name NEW {user}")
        }
        SetupError::ForeignGroup { group } => format!("groupmod --new-name NEW {group}"),
        _ => "${EDITOR:-vi} /etc/subuid /etc/subgid".to_owned(),
    }
}

fn id_ranges(range: SubordinateIds, containers: u64) -> Check {
    const NAME: &str = "id ranges";
    let all = u64::from(range.id_ranges().saturating_sub(1));
    let left = all.saturating_sub(containers);
    let detail = format!("{containers} of {all} in use, {left} left");
    if left == 0 {
        Check::missing(AREA, NAME, detail, "nagaya delete NAME")
    } else if left < 8 || left < all / 20 {
        Check::degraded(AREA, NAME, detail, "nagaya delete NAME")
    } else {
        Check::ok(AREA, NAME, detail)
    }
}

/// A line that no program understands gives nobody the ids that its author meant.
fn lines(name: &'static str, file: &str, text: &str) -> Option<Check> {
    let (_, bad) = subid::parse(text);
    let first = bad.first()?;
    let detail = match bad.len() {
        1 => first.to_string(),
        more => format!("{first}, and {} more like it", more - 1),
    };
    Some(Check::degraded(AREA, name, detail, format!("${{EDITOR:-vi}} +{} {file}", first.line)))
}

/// Users and ids that are in no file. Directory services give out high numbers too: SSSD's own
/// begin at 200000 and end at 2000200000.
fn directory_services(nsswitch: &str, range: Option<SubordinateIds>) -> Vec<Check> {
    let services = |key: &str| -> Vec<&str> {
        let line = nsswitch.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(':'));
        line.unwrap_or_default()
            .split_whitespace()
            .filter(|word| !word.starts_with('['))
            .filter(|word| !["files", "compat", "systemd", "db"].contains(word))
            .collect()
    };
    let mut checks = Vec::new();
    let subids = services("subid");
    if !subids.is_empty() {
        let detail =
            format!("subordinate ids also come from '{}', where overlaps are not seen", subids.join(" "));
        let fix = "getsubids USER; getsubids -g USER";
        checks.push(Check::degraded(AREA, "subids of a directory", detail, fix));
    }
    let users = services("passwd");
    if let (false, Some(range)) = (users.is_empty(), range) {
        let detail = format!("users also come from '{}': none of them may have our ids", users.join(" "));
        let (first, last) = (range.start, range.end().saturating_sub(1));
        let fix = format!("getent passwd | awk -F: '$3 >= {first} && $3 <= {last}'");
        checks.push(Check::degraded(AREA, "users of a directory", detail, fix));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    fn files(subuid: &str) -> Result<IdFiles, ReadError> {
        Ok(IdFiles {
            passwd: "n:x:990:990::/var/lib/n:/usr/sbin/nologin\n".into(),
            group: "n:x:990:\n".into(),
            subuid: subuid.into(),
            subgid: subuid.into(),
        })
    }

    #[test]
    fn an_overlap_is_shown_by_file_and_line() {
        let n = Instance::new("n").unwrap();
        let good = "n:2000000:131072\n";
        let (owner, checks) = range(&files(good), &n);
        assert_eq!(owner.unwrap().range.id_ranges(), 2);
        assert_eq!(checks[0].detail, "2000000-2131071 of user 'n' (uid 990), nobody else's");
        let (owner, checks) = range(&files(&format!("{good}root:1000000:1000000000\n")), &n);
        assert_eq!((owner, checks[0].status), (None, Status::Missing));
        assert_eq!(checks[0].fix.as_deref(), Some("${EDITOR:-vi} +2 /etc/subuid"));
        let (_, checks) = range(&files(""), &n);
        assert_eq!((checks[0].status, checks[0].fix.as_deref()), (Status::Later, None));
        let (_, checks) = range(&files(""), &Instance::new("other").unwrap());
        assert_eq!(checks[0].status, Status::Later);
    }

    #[test]
    fn id_ranges_run_out_with_a_warning_first() {
        let range = SubordinateIds { start: 65_536, count: 101 * 65_536 };
        assert_eq!(id_ranges(range, 0).detail, "0 of 100 in use, 100 left");
        assert_eq!(id_ranges(range, 92).status, Status::Ok);
        assert_eq!(id_ranges(range, 93).status, Status::Degraded);
        assert_eq!(id_ranges(range, 100).status, Status::Missing);
        assert_eq!(id_ranges(range, 101).status, Status::Missing);
    }

    #[test]
    fn what_is_not_in_the_files_is_pointed_at() {
        let range = Some(SubordinateIds { start: 100, count: 10 });
        let local = "passwd:  files systemd\nsubid: files\n";
        assert_eq!(directory_services(local, range), []);
        let sssd = "# passwd: ldap\npasswd: files [NOTFOUND=return] sss\nsubid: sss\n";
        let checks = directory_services(sssd, range);
        assert_eq!(checks.len(), 2);
        assert_eq!(checks[1].fix.as_deref(), Some("getent passwd | awk -F: '$3 >= 100 && $3 <= 109'"));
        assert_eq!(directory_services(sssd, None).len(), 1);
    }

    #[test]
    fn bad_lines_have_their_number() {
        assert_eq!(lines("x", "/etc/subuid", "a:1:2\n"), None);
        let check = lines("x", "/etc/subuid", "a:1:2\nb:1\nc\n").unwrap();
        assert_eq!(check.detail, "line 2 is not 'name:start:count': 'b:1', and 1 more like it");
        assert_eq!(check.fix.as_deref(), Some("${EDITOR:-vi} +2 /etc/subuid"));
    }
}
