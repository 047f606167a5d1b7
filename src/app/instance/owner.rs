//! Whose containers a command is about.

use std::path::{Path, PathBuf};

use crate::app::error::{AppError, AppResult};
use crate::host::{client, setup};
use crate::model::instance::Instance;
use crate::sys::Context;
use crate::sys::accounts::passwd;
use crate::sys::accounts::passwd::User;

/// What the command line and the environment say about the owner.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// Root asks for this user's containers.
    pub owner: Option<String>,
    /// Do without the host's broker.
    pub daemonless: bool,
}

/// The instance that a command works on. `base` is the service user's. Root's commands work on that one, an
/// ordinary user's commands on the user's own.
pub fn resolve(base: &Instance, wish: &Wish) -> AppResult<Instance> {
    resolve_by(base, wish, client::is_on_host)
}

/// For root's `--owner`: refuses a user who has nothing set up, so that a verb that makes nothing sets
/// nothing up.
pub fn must_be_there(instance: &Instance) -> AppResult<()> {
    let is_asked_for = rustix::process::geteuid().is_root() && instance.uid_of_user().is_some();
    match is_asked_for && !instance.state_dir().exists() {
        true => Err(AppError::NothingOf(instance.user().to_owned())),
        false => Ok(()),
    }
}

/// Refuses to set up anything for an account that is not an ordinary user's.
pub fn may_be_set_up(instance: &Instance) -> AppResult<()> {
    match instance.uid_of_user() {
        Some(uid) if !is_ordinary(uid) && !instance.state_dir().exists() => {
            Err(AppError::SystemAccount(instance.user().to_owned()))
        }
        _ => Ok(()),
    }
}

/// As the host counts accounts (UID_MIN of login.defs, and nobody).
fn is_ordinary(uid: u32) -> bool {
    (1000..65_534).contains(&uid)
}

/// The same for a read-only view, which asks no service: an ordinary user without a state directory of the
/// host's has nothing there.
pub fn resolve_to_look(base: &Instance, wish: &Wish) -> AppResult<Instance> {
    resolve_by(base, wish, || false)
}

fn resolve_by(base: &Instance, wish: &Wish, is_on_host: impl FnOnce() -> bool) -> AppResult<Instance> {
    let uid = rustix::process::geteuid();
    let users = users();
    if let Some(owner) = &wish.owner {
        if !uid.is_root() {
            return Err(AppError::Refused("only root can ask for another user's containers".to_owned()));
        }
        let user = by_name(&users, owner).ok_or_else(|| AppError::NoUser(owner.clone()))?;
        return Ok(if user.name == base.user() { base.clone() } else { base.of_user(user.uid, &user.name) });
    }
    if uid.is_root() {
        return Ok(base.clone());
    }
    let user = users.iter().find(|user| user.uid == uid.as_raw());
    let name = user.map_or_else(|| uid.as_raw().to_string(), |user| user.name.clone());
    let own = base.of_user(uid.as_raw(), &name);
    if !wish.daemonless && (own.state_dir().exists() || is_on_host()) {
        return Ok(own);
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).or_else(|| Some(PathBuf::from(&user?.home)));
    let home = home.filter(|home| home.is_absolute()).ok_or_else(|| AppError::NoUser(name.clone()))?;
    Ok(base.daemonless(&name, state_dir(base, &home), run_dir(base, uid.as_raw())))
}

/// Every instance on this host that is set up: the service user's, and those of ordinary users by the
/// host's broker. For root.
pub fn everybody(base: &Instance) -> AppResult<Vec<Instance>> {
    let mut found: Vec<Instance> = setup::is_set_up(base).map(|_| base.clone()).into_iter().collect();
    found.extend(ordinary_users(base)?);
    Ok(found)
}

/// Those of ordinary users.
pub fn ordinary_users(base: &Instance) -> AppResult<Vec<Instance>> {
    let dir = base.users_state_dir();
    let entries = match std::fs::read_dir(&dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.cannot(|| format!("list {}", dir.display()))?,
    };
    let users = users();
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let Some(uid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        match users.iter().find(|user| user.uid == uid) {
            Some(user) => found.push(user),
            None => tracing::warn!("{}: there is no user {uid}", entry.path().display()),
        }
    }
    found.sort_by_key(|user| user.uid);
    Ok(found.into_iter().map(|user| base.of_user(user.uid, &user.name)).collect())
}

/// Those who can have containers: ordinary accounts, as the host counts them.
pub fn accounts() -> Vec<String> {
    users().into_iter().filter(|user| is_ordinary(user.uid)).map(|user| user.name).collect()
}

fn users() -> Vec<User> {
    let text = std::fs::read("/etc/passwd").unwrap_or_default();
    passwd::users(&String::from_utf8_lossy(&text)).collect()
}

fn by_name<'a>(users: &'a [User], name: &str) -> Option<&'a User> {
    users.iter().find(|user| user.name == name || user.uid.to_string() == name)
}

/// XDG Base Directory Specification.
fn state_dir(base: &Instance, home: &Path) -> PathBuf {
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    data.unwrap_or_else(|| home.join(".local/share")).join(base.name())
}

/// The user's own runtime directory, which is there as long as a session of the user's, or the
/// lingering user manager, is. After `su` the variable may name that of whoever typed it.
fn run_dir(base: &Instance, uid: u32) -> PathBuf {
    use std::os::unix::fs::MetadataExt;
    let named = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let usual = PathBuf::from(format!("/run/user/{uid}"));
    let own = |dir: &PathBuf| std::fs::metadata(dir).is_ok_and(|found| found.is_dir() && found.uid() == uid);
    match named.into_iter().chain([usual]).find(own) {
        Some(dir) => dir.join(base.name()),
        None => PathBuf::from(format!("/tmp/{}-{uid}", base.name())),
    }
}
