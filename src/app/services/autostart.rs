//! `autostart`: the containers that start with the host.

use crate::api::containers::ToStart;
use crate::app::config::boot::{BootSettings, boot_settings};
use crate::app::containers::{create, lifecycle, state};
use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::model::container::{Container, Phase, State};
use crate::model::name::Name;
use crate::runtime::protocol::Ended;

/// The containers to start, in groups of one priority, the highest first.
pub fn candidates(app: &mut App) -> AppResult<Vec<ToStart>> {
    let mut found = Vec::new();
    for container in app.store.containers()? {
        if let Err(e) = create::renew_manifest(app, &container) {
            tracing::warn!("the manifest of '{}' is not what it should be: {e}", container.name);
        }
        let settings = boot_settings(&container);
        let ended = state::record(app, &container.id).and_then(|record| record.ended);
        if wanted(&container, &settings, ended.as_ref()) && state::of(app, &container) == State::Stopped {
            let (priority, delay) = (settings.autostart_priority, settings.autostart_delay.as_secs());
            found.push(ToStart { name: container.name, priority, delay });
        }
    }
    found.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.name.cmp(&b.name)));
    Ok(found)
}

/// A guest that has powered itself off stays off. A guest that crashed, or that ended with the host, comes
/// back.
fn wanted(container: &Container, settings: &BootSettings, ended: Option<&Ended>) -> bool {
    if matches!(container.phase, Phase::Creating | Phase::Deleting) {
        return false;
    }
    settings.autostart.unwrap_or(container.wanted_up && !ended.is_some_and(Ended::by_itself))
}

/// Starts a container, and returns whether it did. It is no error if the container runs already or is gone.
pub fn start(app: &mut App, name: &Name) -> AppResult<bool> {
    match lifecycle::start_as_it_is(app, name) {
        Ok(()) => Ok(true),
        Err(AppError::AlreadyRunning(_) | AppError::Frozen(_) | AppError::NoContainer { .. }) => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::IdRange;
    use crate::model::name::ContainerId;
    use crate::model::pool::PoolName;
    use crate::model::template::TemplateId;

    fn container(wanted_up: bool) -> Container {
        Container {
            id: ContainerId::from_random(1),
            name: Name::new("web01").unwrap(),
            template: TemplateId::new(&"0".repeat(64)).unwrap(),
            template_name: "debian12".into(),
            pool: PoolName::default_one(),
            id_range: IdRange::at(1 << 20).unwrap(),
            uuid: "0".repeat(32),
            created_at: 0,
            phase: Phase::Settled,
            wanted_up,
            nics: Vec::new(),
            devices: Vec::new(),
            config: crate::model::profile::Layered::default(),
        }
    }

    fn ended(clean: bool, asked: bool) -> Option<Ended> {
        Some(Ended { reason: "shut down".into(), clean, asked })
    }

    #[test]
    fn what_was_up_comes_back_unless_the_guest_ended_it() {
        let settings = boot_settings(&container(true));
        let up = |wanted_up, ended: Option<Ended>| wanted(&container(wanted_up), &settings, ended.as_ref());
        assert!(up(true, None));
        assert!(up(true, ended(true, true)), "stopped with the host");
        assert!(up(true, ended(false, false)), "crashed");
        assert!(!up(true, ended(true, false)), "powered itself off");
        assert!(!up(false, None) && !up(false, ended(true, true)));
    }

    #[test]
    fn a_setting_outdoes_what_was() {
        let unset = boot_settings(&container(true));
        let always = BootSettings { autostart: Some(true), ..unset };
        let never = BootSettings { autostart: Some(false), ..unset };
        assert!(wanted(&container(false), &always, ended(true, false).as_ref()));
        assert!(!wanted(&container(true), &never, None));
        let half_made = Container { phase: Phase::Creating, ..container(true) };
        assert!(!wanted(&half_made, &always, None));
    }
}
