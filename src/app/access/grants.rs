//! `grant`: what the administrator lets ordinary users have.

use crate::api::grants::Row;
use crate::api::pairs::Pairs;
use crate::app::error::{AppError, AppResult};
use crate::host::api::grants;
use crate::model::grant::Grantee;
use crate::model::instance::Instance;
use crate::sys::Context;
use crate::sys::accounts::passwd;

/// Changes settings of a grant.
pub fn change(instance: &Instance, grantee: &Grantee, settings: &Pairs) -> AppResult<()> {
    must_be_root()?;
    if let Grantee::User(user) = grantee {
        let text = std::fs::read("/etc/passwd").unwrap_or_default();
        if passwd::user(&String::from_utf8_lossy(&text), user).is_none() {
            return Err(AppError::NoUser(user.clone()));
        }
    }
    grants::change(instance, grantee, |mut grant| {
        settings.0.iter().try_for_each(|(key, value)| grant.set(key, value))?;
        Ok(grant)
    })
}

/// Removes a grant. Its user need not be there any more.
pub fn remove(instance: &Instance, grantee: &Grantee) -> AppResult<()> {
    must_be_root()?;
    Ok(grants::remove(instance, grantee)?)
}

fn must_be_root() -> AppResult<()> {
    match rustix::process::geteuid().is_root() {
        true => Ok(()),
        false => Err(AppError::NotRoot),
    }
}

/// Everybody's grant, and those of users who have one. An ordinary user sees only everybody's and their
/// own.
pub fn list(instance: &Instance) -> AppResult<Vec<Row>> {
    let mut rows = vec![row(instance, None)?];
    let uid = rustix::process::geteuid();
    let users = match uid.is_root() {
        true => grants::users(instance)?,
        false => vec![own_name(uid.as_raw())?],
    };
    for user in users {
        rows.push(row(instance, Some(user))?);
    }
    Ok(rows)
}

fn row(instance: &Instance, user: Option<String>) -> AppResult<Row> {
    let grantee = user.clone().map_or(Grantee::Everybody, Grantee::User);
    let grant = grants::stored(instance, &grantee)?.unwrap_or_default();
    Ok(Row { user, grant, unknown: grants::strangers(instance, &grantee)? })
}

/// One grant, if it exists and the caller may see it.
pub fn one(instance: &Instance, grantee: &Grantee) -> AppResult<Vec<Row>> {
    let user = match grantee {
        Grantee::Everybody => None,
        Grantee::User(user) => Some(user.clone()),
    };
    let uid = rustix::process::geteuid();
    if let Some(user) = &user
        && !uid.is_root()
        && *user != own_name(uid.as_raw())?
    {
        return Err(AppError::Refused(format!("only root can see what user '{user}' is granted")));
    }
    let is_told = user.is_none() || grants::stored(instance, grantee)?.is_some();
    Ok(if is_told { vec![row(instance, user)?] } else { Vec::new() })
}

fn own_name(uid: u32) -> AppResult<String> {
    let text = std::fs::read("/etc/passwd").cannot(|| "read /etc/passwd")?;
    let own = passwd::users(&String::from_utf8_lossy(&text)).find(|user| user.uid == uid);
    own.map(|user| user.name).ok_or_else(|| AppError::NoUser(uid.to_string()))
}
