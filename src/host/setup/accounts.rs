//! The service user and its subordinate ids, through the distribution's own programs: they hold
//! the locks and write the files as the distribution wants them.

use std::path::Path;

use crate::model::ids::SubordinateIds;
use crate::model::instance::Instance;
use crate::model::subid::{self, Entry};
use crate::sys::accounts::passwd::{self, User};
use crate::sys::accounts::subid::IdFiles;
use crate::sys::error_text;
use crate::sys::process::fork::Fork;
use crate::sys::process::program::Program;
use crate::sys::programs::search::{self, NotInstalled, Packaged};

use super::error::SetupError;
use super::owner::{Account, Ids};

pub const ETC: &str = "/etc";

const SUBUID: &str = "/etc/subuid";
const SUBGID: &str = "/etc/subgid";

/// The service user, made where there is none.
pub fn ensure_user(instance: &Instance, created: &mut Vec<String>) -> Result<Account, SetupError> {
    let files = read()?;
    if let Some(user) = find_owner(&files, instance)? {
        return Ok(Account { uid: user.uid, gid: user.gid });
    }
    if passwd::group(&files.group, instance.user()).is_some() {
        return Err(SetupError::ForeignGroup { group: instance.user().to_owned() });
    }
    let home = instance.state_dir().display().to_string();
    let flags = ["--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin"];
    run(&search::USERADD, flags.into_iter().chain(["--home-dir", &home, instance.user()]))?;
    let files = read()?;
    let user = passwd::user(&files.passwd, instance.user())
        .ok_or(SetupError::NotWritten { command: "useradd", file: "/etc/passwd" })?;
    created.push(format!("user and group {} (uid {}, gid {})", user.name, user.uid, user.gid));
    check_user(&files, &user, instance)
}

/// The owner of an ordinary user's instance. Root and the service user are refused: what belongs to them is
/// no ordinary user's.
pub fn check_ordinary_user(files: &IdFiles, uid: u32, instance: &Instance) -> Result<User, SetupError> {
    let user = passwd::users(&files.passwd).find(|user| user.uid == uid);
    let user = user.ok_or_else(|| SetupError::UnknownUser { uid, user: instance.user().to_owned() })?;
    if user.uid == 0 || user.gid == 0 || user.name == instance.name() {
        return Err(SetupError::SystemAccount { user: user.name });
    }
    Ok(user)
}

/// The account that owns the instance, if there is one.
pub fn find_owner(files: &IdFiles, instance: &Instance) -> Result<Option<User>, SetupError> {
    if let Some(uid) = instance.uid_of_user() {
        return check_ordinary_user(files, uid, instance).map(Some);
    }
    let Some(user) = passwd::user(&files.passwd, instance.user()) else { return Ok(None) };
    check_user(files, &user, instance)?;
    Ok(Some(user))
}

/// How many id ranges an owner must have. The 65,536 ids that adduser gives an ordinary user are not
/// enough: with storage ids alone no container can run.
fn least_id_ranges(instance: &Instance) -> u32 {
    if instance.uid_of_user().is_some() { 2 } else { 1 }
}

/// A user's account that happens to have the instance's name must not come to own containers. Its home
/// tells it from an account that [`ensure_user`] made.
pub fn check_user(files: &IdFiles, user: &User, instance: &Instance) -> Result<Account, SetupError> {
    if user.uid == 0 || user.gid == 0 || Path::new(&user.home) != instance.state_dir() {
        return Err(SetupError::ForeignUser {
            user: user.name.clone(),
            home: user.home.clone(),
            wanted: instance.state_dir(),
        });
    }
    match passwd::group(&files.group, instance.user()) {
        Some(group) if group.gid == user.gid => Ok(Account { uid: user.uid, gid: user.gid }),
        _ => Err(SetupError::ForeignGroup { group: instance.user().to_owned() }),
    }
}

/// What the files lack of the subordinate ids.
#[derive(Debug, PartialEq, Eq)]
enum Need {
    Nothing(SubordinateIds),
    /// Only one file has it: an allotment that was cut short.
    Subuid(SubordinateIds),
    Subgid(SubordinateIds),
    Both,
}

/// The user's subordinate ids, allotted if there are none.
pub fn ensure_range(
    instance: &Instance,
    id_ranges: u32,
    created: &mut Vec<String>,
) -> Result<SubordinateIds, SetupError> {
    let files = read()?;
    let user = find_owner(&files, instance)?
        .ok_or(SetupError::NotWritten { command: "useradd", file: "/etc/passwd" })?;
    let least = least_id_ranges(instance);
    let need = needed(&files, &user, least)?;
    let (range, uids, gids) = match need {
        Need::Nothing(range) => (range, false, false),
        Need::Subuid(range) => (range, true, false),
        Need::Subgid(range) => (range, false, true),
        Need::Both => {
            let range =
                subid::choose_range(&files.taken(), id_ranges).ok_or(SetupError::NoRoom { id_ranges })?;
            (range, true, true)
        }
    };
    check_overlap(&files, &user, range)?;
    if uids || gids {
        add(&user, range, uids, gids)?;
        created.push(format!("ids {} for {} in {SUBUID} and {SUBGID}", Ids(range), user.name));
        match needed(&read()?, &user, least)? {
            Need::Nothing(written) if written == range => {}
            _ => return Err(SetupError::NotWritten { command: "usermod", file: SUBUID }),
        }
    }
    Ok(range)
}

/// The user's subordinate ids, if both files have them.
pub fn whole_range(
    files: &IdFiles,
    user: &User,
    instance: &Instance,
) -> Result<Option<SubordinateIds>, SetupError> {
    range_of_least(files, user, least_id_ranges(instance))
}

/// The same for owners for whom a single id range is enough.
pub fn range_of(files: &IdFiles, user: &User) -> Result<Option<SubordinateIds>, SetupError> {
    range_of_least(files, user, 1)
}

fn range_of_least(files: &IdFiles, user: &User, least: u32) -> Result<Option<SubordinateIds>, SetupError> {
    match needed(files, user, least)? {
        Need::Nothing(range) => Ok(Some(range)),
        Need::Subuid(_) | Need::Subgid(_) | Need::Both => Ok(None),
    }
}

fn add(user: &User, range: SubordinateIds, uids: bool, gids: bool) -> Result<(), SetupError> {
    let ids = Ids(range).to_string();
    let mut arguments = Vec::new();
    if uids {
        arguments.extend(["--add-subuids", &ids]);
    }
    if gids {
        arguments.extend(["--add-subgids", &ids]);
    }
    run(&search::USERMOD, arguments.into_iter().chain([user.name.as_str()]))
}

fn needed(files: &IdFiles, user: &User, least: u32) -> Result<Need, SetupError> {
    let fit = |e: &Entry<'_>| least == 1 || e.range.id_ranges() >= least;
    let own = |text| -> Vec<Entry<'_>> {
        let entries = subid::parse(text).0.into_iter();
        entries.filter(|e| e.belongs_to(&user.name, user.uid) && fit(e)).collect()
    };
    let (uids, gids) = (own(&files.subuid), own(&files.subgid));
    let ranges = |entries: &[Entry<'_>]| entries.iter().map(|e| e.range).collect::<Vec<_>>();
    if let Some(range) = subid::common_range(&ranges(&uids), &ranges(&gids)) {
        return Ok(Need::Nothing(range));
    }
    let whole = |entry: &Entry<'_>, file| match entry.range.storage() {
        Some(_) => Ok(entry.range),
        None => Err(SetupError::RangeTooSmall { user: user.name.clone(), file, line: entry.line }),
    };
    match (uids.as_slice(), gids.as_slice()) {
        ([], []) => Ok(Need::Both),
        ([one], []) => whole(one, SUBUID).map(Need::Subgid),
        ([], [one]) => whole(one, SUBGID).map(Need::Subuid),
        ([uid], [gid]) if uid.range == gid.range => whole(uid, SUBUID).map(Need::Nothing),
        _ => Err(SetupError::RangesDiffer {
            user: user.name.clone(),
            uid_lines: described(SUBUID, &uids),
            gid_lines: described(SUBGID, &gids),
        }),
    }
}

fn described(file: &str, entries: &[Entry<'_>]) -> String {
    if entries.is_empty() {
        return format!("{file}: no line");
    }
    let lines: Vec<_> = entries.iter().map(|e| format!("{} in line {}", Ids(e.range), e.line)).collect();
    format!("{file}: {}", lines.join(", "))
}

/// Refuses ids that another user's line grants too, or that a user or group of the host has.
pub fn check_overlap(files: &IdFiles, user: &User, range: SubordinateIds) -> Result<(), SetupError> {
    for (file, text) in [(SUBUID, &files.subuid), (SUBGID, &files.subgid)] {
        let foreign = |e: &Entry<'_>| e.range.overlaps(range) && !e.belongs_to(&user.name, user.uid);
        if let Some(entry) = subid::parse(text).0.into_iter().find(foreign) {
            return Err(SetupError::RangeOverlaps {
                user: user.name.clone(),
                ours: Ids(range),
                other: entry.owner.to_owned(),
                file,
                line: entry.line,
            });
        }
    }
    let held = |id: u32| range.overlaps(SubordinateIds { start: id, count: 1 });
    let account = |kind, other, id, file| SetupError::RangeHoldsAccount {
        user: user.name.clone(),
        ours: Ids(range),
        kind,
        other,
        id,
        file,
    };
    if let Some(found) = passwd::users(&files.passwd).find(|found| held(found.uid)) {
        return Err(account("user", found.name, found.uid, "/etc/passwd"));
    }
    match passwd::groups(&files.group).find(|found| held(found.gid)) {
        Some(found) => Err(account("group", found.name, found.gid, "/etc/group")),
        None => Ok(()),
    }
}

/// Deletes the user, its group and its subordinate ids, where they are.
pub fn delete_user(instance: &Instance, removed: &mut Vec<String>) -> Result<(), SetupError> {
    let name = instance.user();
    if passwd::user(&read()?.passwd, name).is_some() {
        run(&search::USERDEL, [name])?;
        removed.push(format!("user {name} and its ids"));
    }
    // userdel keeps the group where /etc/login.defs says USERGROUPS_ENAB no.
    if passwd::group(&read()?.group, name).is_some() {
        run(&search::GROUPDEL, [name])?;
    }
    let files = read()?;
    for (file, text) in [(SUBUID, &files.subuid), (SUBGID, &files.subgid)] {
        if subid::parse(text).0.iter().any(|entry| entry.owner == name) {
            return Err(SetupError::NotWritten { command: "userdel", file });
        }
    }
    Ok(())
}

fn read() -> Result<IdFiles, SetupError> {
    Ok(IdFiles::read(Path::new(ETC))?)
}

fn run<'a>(
    program: &'static Packaged,
    arguments: impl IntoIterator<Item = &'a str>,
) -> Result<(), SetupError> {
    let path = program.find().map_err(|NotInstalled(program)| {
        let (program, package) = (program.name, program.debian);
        SetupError::ProgramMissing { program, package }
    })?;
    let arguments: Vec<&str> = arguments.into_iter().collect();
    let command = || format!("{} {}", program.name, arguments.join(" "));
    let output = || {
        let program = Program::at(&path, &arguments)?.env("PATH", search::PATH)?.env("LC_ALL", "C")?;
        Fork::new("change the host's users").output(&program, "")
    };
    let failed = |said: String| SetupError::ProgramFailed { command: command(), said };
    let output = output().map_err(|error| failed(error_text(&error)))?;
    match (output.exit.is_success(), output.complaint()) {
        (true, _) => Ok(()),
        (false, Some(said)) => Err(failed(said.to_owned())),
        (false, None) => Err(failed(output.exit.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(subuid: &str, subgid: &str) -> IdFiles {
        IdFiles {
            passwd: "ann:x:1000:1000::/home/ann:/bin/sh\nn:x:990:990::/var/lib/n:/usr/sbin/nologin\n".into(),
            group: "ann:x:1000:\nn:x:990:\nhigh:x:7000000:\n".into(),
            subuid: subuid.into(),
            subgid: subgid.into(),
        }
    }

    fn user() -> User {
        User { name: "n".into(), uid: 990, gid: 990, home: "/var/lib/n".into(), shell: String::new() }
    }

    fn need(subuid: &str, subgid: &str) -> Result<Need, String> {
        needed(&files(subuid, subgid), &user(), 1).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_there_decides_what_is_added() {
        let range = SubordinateIds { start: 2_000_000, count: 65_536 };
        let line = "n:2000000:65536\n";
        assert_eq!(need("", "ann:1:5\n"), Ok(Need::Both));
        assert_eq!(need(line, ""), Ok(Need::Subgid(range)));
        assert_eq!(need("", "990:2000000:65536\n"), Ok(Need::Subuid(range)));
        assert_eq!(need(line, line), Ok(Need::Nothing(range)));
        let text = need(line, "ann:5:5\nn:2000001:65536\n").unwrap_err();
        assert!(text.contains("/etc/subuid: 2000000-2065535 in line 1"), "{text}");
        assert!(text.contains("/etc/subgid: 2000001-2065536 in line 2"), "{text}");
        let text = need("ann:5:5\nn:2000000:65535\n", "").unwrap_err();
        assert!(text.contains("line 2 of /etc/subuid"), "{text}");
        assert!(need("n:5:10\n", "n:5:10\n").unwrap_err().contains("fewer than 65536"));
    }

    #[test]
    fn ids_that_others_have_are_refused_by_file_and_line() {
        let range = SubordinateIds { start: 2_000_000, count: 65_536 };
        let overlap = |subuid: &str, subgid: &str, range| {
            check_overlap(&files(subuid, subgid), &user(), range).map_err(|e| e.to_string())
        };
        assert_eq!(overlap("n:2000000:65536\n", "ann:2065536:5\n990:2000000:70000\n", range), Ok(()));
        assert_eq!(
            overlap("n:2000000:65536\n", "\nann:2065535:1\n", range).unwrap_err(),
            "ids 2000000-2065535 of 'n' are also given to 'ann' by line 2 of /etc/subgid"
        );
        let low = overlap("", "", SubordinateIds { start: 900, count: 65_536 }).unwrap_err();
        assert_eq!(low, "ids 900-66435 of 'n' contain user 'ann' (1000) of /etc/passwd");
        let high = overlap("", "", SubordinateIds { start: 6_990_000, count: 65_536 }).unwrap_err();
        assert!(high.ends_with("group 'high' (7000000) of /etc/group"), "{high}");
    }

    #[test]
    fn an_ordinary_users_account_is_not_taken_over() {
        let instance = Instance::new("ann").unwrap();
        let files = files("", "");
        let ann = passwd::user(&files.passwd, "ann").unwrap();
        let error = check_user(&files, &ann, &instance).unwrap_err();
        assert!(matches!(error, SetupError::ForeignUser { .. }), "{error}");
        let n = Instance::new("n").unwrap();
        assert_eq!(check_user(&files, &user(), &n).unwrap(), Account { uid: 990, gid: 990 });
        let other = User { gid: 1000, ..user() };
        assert!(matches!(check_user(&files, &other, &n), Err(SetupError::ForeignGroup { .. })));
    }
}
