//! `launch` and `create`: a new container from a template.

use super::context::App;
use super::delete;
use super::error::AppResult;
use super::network::{self, Connect};
use super::{Progress, layout, lifecycle, limits, lock, pool, private_way, templates};
use crate::model::config::Config;
use crate::model::container::{Container, NewContainer, Phase};
use crate::model::mac::Mac;
use crate::model::manifest;
use crate::model::name::{ContainerId, Name};
use crate::model::nic::NicRequest;
use crate::model::template::Template;
use crate::model::words;
use crate::store::StoreError;
use crate::sys::atomic_file::{self, Lasting};
use crate::sys::{Context, SysResult};

/// What the user wants.
pub struct LaunchRequest {
    pub template: String,
    /// A random readable name where none is given.
    pub name: Option<Name>,
    /// False for `create`.
    pub start: bool,
    pub config: Config,
    pub connect: Connect,
}

/// Makes the container, and starts it if that is wanted; a missing template is built first. On
/// failure nothing of it is left.
pub fn launch(app: &mut App, request: &LaunchRequest, progress: &dyn Progress) -> AppResult<Name> {
    if request.start {
        // Refused at once, and not after a template was built for it.
        private_way::prepare_start(app)?;
    }
    // Before anything is made: what this host cannot enforce, or the grant does not hold.
    let asked = limits::of(app, &request.config, None)?;
    limits::check_granted(app, &asked, |_| true)?;
    let template = templates::ensure(app, &request.template, progress)?;
    let nics = network::requests(app, &request.connect)?;
    app.expect_storage();
    let id = ContainerId::from_random(random()? as u32);
    // Held before the row is there, so that no other command takes the row for abandoned.
    let _lock = lock::new_container(&app.instance, &id)?;
    let container = insert(app, request, &template, &id, &nics)?;
    // Not before: from now on nobody deletes the networks.
    let expected = if request.start { network::expect(app, &nics) } else { Ok(()) };
    let made = expected
        .and_then(|()| fill(app, &container))
        .and_then(|()| if request.start { lifecycle::boot(app, &container) } else { Ok(()) });
    if let Err(e) = made {
        if let Err(undo) = delete::erase(app, &container) {
            tracing::warn!("what is left of '{}' is removed by the next command: {undo}", container.name);
        }
        return Err(e);
    }
    app.store.set_phase(&id, Phase::Settled, None)?;
    Ok(container.name)
}

/// Takes name, slice and address in one transaction.
fn insert(
    app: &mut App,
    request: &LaunchRequest,
    template: &Template,
    id: &ContainerId,
    nics: &[NicRequest],
) -> AppResult<Container> {
    const TRIES: u32 = 20;
    for attempt in 1.. {
        let name = match &request.name {
            Some(name) => name.clone(),
            None => words::random_name(random()?),
        };
        let new = NewContainer {
            id: id.clone(),
            name,
            template: template.id.clone(),
            template_name: request.template.clone(),
            uuid: format!("{:016x}{:016x}", random()?, random()?),
            created_at: now(),
            phase: Phase::Creating,
            wanted_up: request.start,
            nics: nics.iter().map(with_mac).collect::<SysResult<_>>()?,
            config: request.config.clone(),
        };
        match app.store.create_container(&new) {
            // Only what we have drawn ourselves can be drawn again.
            Err(StoreError::NameTaken { .. }) if request.name.is_none() && attempt < TRIES => {}
            Err(StoreError::MacTaken { mac }) if drawn(nics, mac) && attempt < TRIES => {}
            other => return Ok(other?),
        }
    }
    unreachable!("the last try returns")
}

/// The request with an Ethernet address: its own, or one that is drawn.
pub(super) fn with_mac(request: &NicRequest) -> SysResult<NicRequest> {
    let [a, b, c, d, e, ..] = random()?.to_ne_bytes();
    Ok(NicRequest { mac: Some(request.mac.unwrap_or(Mac::guest([a, b, c, d, e]))), ..request.clone() })
}

/// Whether `mac` was none of those that were asked for.
pub(super) fn drawn(nics: &[NicRequest], mac: Mac) -> bool {
    nics.iter().all(|nic| nic.mac != Some(mac))
}

/// The container's directories and its manifest.
fn fill(app: &mut App, container: &Container) -> AppResult<()> {
    let tree = pool::make_container(app, &container.id)?;
    let dir = layout::container_dir(&app.instance, &container.id);
    std::fs::create_dir_all(&dir).cannot(|| format!("make {}", dir.display()))?;
    write_manifest(app, container)?;
    tree.finish()
}

/// Makes the manifest what the database says. A manifest is not waited for until it is on disk, so one
/// that was written just before the power failed may be empty; and what is wanted may have changed.
pub(super) fn renew_manifest(app: &App, container: &Container) -> AppResult<()> {
    let path = layout::manifest(&app.instance, &container.id);
    let wanted = manifest::to_toml(container, &network::of(app, container)?);
    match std::fs::read_to_string(&path) {
        Ok(text) if text == wanted => Ok(()),
        _ => write_manifest(app, container),
    }
}

/// Writes the manifest that stands beside the container's data, in place of an older one.
pub(super) fn write_manifest(app: &App, container: &Container) -> AppResult<()> {
    let path = layout::manifest(&app.instance, &container.id);
    let text = manifest::to_toml(container, &network::of(app, container)?);
    if let (Some(dir), Some(name)) = (path.parent().filter(|_| path.exists()), path.file_name()) {
        // Who wrote it before may have been killed.
        atomic_file::sweep(dir, name.to_str());
    }
    Ok(atomic_file::replace(&path, text, 0o600, Lasting::UntilPowerCut)?)
}

/// 64 bits of the kernel's randomness.
pub(super) fn random() -> SysResult<u64> {
    let mut bytes = [0u8; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .cannot(|| "draw random bytes")?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64)
}
