//! `grant`: what the administrator lets ordinary users have.

use super::error::{AppError, AppResult};
use crate::host::grants::{self, Grantee};
use crate::model::grant::Grant;
use crate::model::instance::Instance;

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
        let there = crate::sys::passwd::user(&String::from_utf8_lossy(&text), user).is_some();
        if !there && !remove {
            return Err(AppError::NoUser(user.clone()));
        }
    }
    if remove {
        return Ok(grants::store(instance, grantee, None)?);
    }
    let mut grant = grants::stored(instance, grantee)?.unwrap_or_default();
    for setting in settings {
        grant.set(setting)?;
    }
    Ok(grants::store(instance, grantee, Some(&grant))?)
}

/// Everybody's grant and those of users who have one of their own.
pub fn list(instance: &Instance) -> AppResult<Vec<Row>> {
    let everybody = grants::stored(instance, &Grantee::Everybody)?.unwrap_or_default();
    let mut rows = vec![Row { user: None, grant: everybody }];
    for user in grants::users(instance)? {
        let grant = grants::own(instance, &user)?.unwrap_or_default();
        rows.push(Row { user: Some(user), grant });
    }
    Ok(rows)
}
