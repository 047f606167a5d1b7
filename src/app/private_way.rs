//! What the verbs do otherwise where an ordinary user has no broker on the host.

use super::context::App;
use super::error::{AppError, AppResult};
use super::layout;
use crate::host::broker::{self, Broker};
use crate::host::private::{self, PrivateError};
use crate::host::private_cgroup;
use crate::host::setup::Owner;
use crate::model::instance::Instance;
use crate::sys::clone::{self, CloneSpec};
use crate::sys::{error_text, seqpacket};

/// What an opened instance of a private owner stands on.
pub struct PrivateWay {
    pub owner: Owner,
    pub broker: Broker,
    /// The process that holds the namespaces.
    pub keeper: i32,
}

/// Opens it, and makes what is missing: namespaces, directories and pool. To be called while the
/// process has one thread.
pub fn open(instance: &Instance) -> AppResult<PrivateWay> {
    let owner = private::owner()?;
    private::make_dirs(instance)?;
    let kept = private::namespaces(instance, &owner)?;
    let mut broker =
        broker::split_private(instance, owner.storage, &kept.outer).map_err(PrivateError::from)?;
    if !private::has_pool(instance, &owner) {
        broker.setup()?;
    }
    Ok(PrivateWay { owner, broker, keeper: kept.pid })
}

/// Makes sure that a container can be started: of its cgroup, and, as far as that goes, of the way
/// out of its network. Nothing is to do but for a private owner.
pub(super) fn prepare_start(app: &mut App) -> AppResult<()> {
    let Some(keeper) = app.keeper else { return Ok(()) };
    app.home = Some(private_cgroup::ensure(&app.instance).map_err(PrivateError::from)?);
    if let Err(e) = private::open_way_out(&app.instance, keeper) {
        tracing::info!("containers have no way out of their network: {}", error_text(&e));
    }
    Ok(())
}

/// What `probe` returns within the network that the containers are in.
pub(super) fn in_network<T>(app: &App, probe: impl FnOnce() -> T) -> AppResult<T>
where
    T: serde::Serialize + serde::de::DeserializeOwned,
{
    let Some(keeper) = app.keeper else { return Ok(probe()) };
    let outer = private::of_keeper(keeper, &private::owner()?)?;
    let (ours, theirs) = seqpacket::pair()?;
    let child = clone::fork(&CloneSpec::default(), || {
        let outcome = outer.enter().map(|()| probe()).map_err(|e| error_text(&e));
        i32::from(seqpacket::send(&theirs, &outcome, &[]).is_err())
    })?;
    drop(theirs);
    let outcome = seqpacket::recv::<Result<T, String>>(&ours)?;
    child.wait()?;
    match outcome {
        Some((Ok(found), _)) => Ok(found),
        Some((Err(reason), _)) => Err(AppError::Refused(reason)),
        None => Err(AppError::Refused("the process in your own network died".to_owned())),
    }
}

/// Takes everything away, once the containers are gone.
pub(super) fn remove(instance: &Instance) -> AppResult<Vec<String>> {
    let mut removed = Vec::new();
    private::remove(instance, &mut removed)?;
    Ok(removed)
}

/// Whether there is something to remove.
pub(super) fn is_there(instance: &Instance) -> bool {
    private::is_set_up(instance) || layout::database(instance).exists()
}
