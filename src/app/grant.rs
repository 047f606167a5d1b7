//! `grant`: what the administrator lets ordinary users have.

use super::error::{AppError, AppResult};
use crate::host::grants::{self, Grantee};
use crate::model::grant::Grant;
use crate::model::instance::Instance;
use crate::sys::{Context, passwd};

/// A line of the list.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Row {
    /// None: everybody without an own word on it.
    pub user: Option<String>,
    #[serde(flatten)]
    pub grant: Grant,
}

/// Changes a grant by `KEY=VALUE` settings, or takes it away.
pub fn change(instance: &Instance, grantee: &Grantee, settings: &[String], remove: bool) -> AppResult<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(AppError::NotRoot);
    }
    if let Grantee::User(user) = grantee {
        let text = std::fs::read("/etc/passwd").unwrap_or_default();
        let there = passwd::user(&String::from_utf8_lossy(&text), user).is_some();
        if !there && !remove {
            return Err(AppError::NoUser(user.clone()));
        }
    }
    if remove {
        return Ok(grants::remove(instance, grantee)?);
    }
    grants::change(instance, grantee, |mut grant| {
        settings.iter().try_for_each(|setting| grant.set(setting))?;
        Ok(grant)
    })
}

/// Everybody's grant and those of users who have one of their own; to an ordinary user, only the
/// user's own of these.
pub fn list(instance: &Instance) -> AppResult<Vec<Row>> {
    let everybody = grants::stored(instance, &Grantee::Everybody)?.unwrap_or_default();
    let mut rows = vec![Row { user: None, grant: everybody }];
    let uid = rustix::process::geteuid();
    let users = match uid.is_root() {
        true => grants::users(instance)?,
        false => vec![own_name(uid.as_raw())?],
    };
    for user in users {
        let grant = grants::own(instance, &user)?.unwrap_or_default();
        rows.push(Row { user: Some(user), grant });
    }
    Ok(rows)
}

/// One grant, if there is one and whoever asks may see it.
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
    let grant = grants::stored(instance, grantee)?;
    let is_told = user.is_none() || grant.is_some();
    Ok(is_told.then(|| Row { user, grant: grant.unwrap_or_default() }).into_iter().collect())
}

fn own_name(uid: u32) -> AppResult<String> {
    let text = std::fs::read("/etc/passwd").cannot(|| "read /etc/passwd")?;
    let own = passwd::users(&String::from_utf8_lossy(&text)).find(|user| user.uid == uid);
    own.map(|user| user.name).ok_or_else(|| AppError::NoUser(uid.to_string()))
}
