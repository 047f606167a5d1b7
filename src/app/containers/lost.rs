//! A pool whose disk is gone for good: it is given up with the containers in it.

use super::delete;
use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::app::storage::{pool_admin, pools};
use crate::model::pool::PoolName;

/// Deletes the pool, and what the database has of its containers. Refused where it is there.
pub fn give_up(app: &mut App, name: &PoolName) -> AppResult<()> {
    let pool = pool_admin::deletable(app, name)?;
    match pools::open(app, name) {
        Err(AppError::PoolUnavailable { .. }) => {}
        other => {
            other?;
            return Err(AppError::advised(
                format!("storage pool '{name}' is there: it is not lost"),
                format!("delete its containers, and then: nagaya storage delete {name}"),
            ));
        }
    }
    app.lose_pool(name);
    for user in app.store.pool_users(name)? {
        delete::delete(app, &user, true)?;
    }
    pool_admin::forget(app, &pool)
}
