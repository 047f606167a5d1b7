//! `rename`: another name for a stopped container; nothing of it moves.

use super::{create, running, state};
use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::app::instance::lock;
use crate::app::{firewall, network};
use crate::model::container::State;
use crate::model::name::Name;

pub fn rename(app: &mut App, from: &Name, to: &Name) -> AppResult<()> {
    let (mut container, _lock) = lock::found(app, from)?;
    // Its host name, which guests keep in many places, would stay the old one until a restart.
    if state::of(app, &container) != State::Stopped {
        return Err(AppError::MustBeStopped(from.clone()));
    }
    // It was written when the container was started last.
    running::forget(&app.instance, from);
    firewall::rename(app, &container, to)?;
    container.name = to.clone();
    create::write_manifest(app, &container)?;
    let networks = network::of(app, &container)?;
    network::answer_for(app, &networks);
    Ok(())
}
