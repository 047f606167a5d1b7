//! Requests that are performed before an instance is opened.

use crate::api::doctor::{Check, CheckHost};
use crate::api::grants::{self, Row};
use crate::api::owners;
use crate::api::setup::{Remove, RepairDatabase, SetUp};
use crate::api::{Error, HostRequest, Response};
use crate::app::access::grants as all;
use crate::app::doctor;
use crate::app::error::{AppError, AppResult};
use crate::app::instance::owner::{self, Wish};
use crate::app::instance::{repair, setup};
use crate::model::instance::Instance;

/// Whom a request is about.
pub struct Place {
    /// The service user's instance.
    pub base: Instance,
    pub wish: Wish,
}

impl Place {
    /// The instance that is meant.
    pub fn instance(&self) -> AppResult<Instance> {
        owner::resolve(&self.base, &self.wish)
    }
}

/// A request about the host that knows how it is performed. It may open the instance, which gives up root for
/// good; so a process performs one.
pub trait PerformOnHost {
    type Answer;

    fn perform(self, place: &Place) -> AppResult<Self::Answer>;
}

/// Performs `request` with the rights of this process, which has one thread.
///
/// # Errors
/// As docs/errors.md lists them.
pub fn on_host<R: PerformOnHost>(place: &Place, request: R) -> Result<R::Answer, Error> {
    request.perform(place).map_err(Error::from)
}

impl PerformOnHost for HostRequest {
    type Answer = Response;

    fn perform(self, place: &Place) -> AppResult<Response> {
        Ok(match self {
            Self::SetUp(request) => Response::Lines(request.perform(place)?),
            Self::RemoveSetup(request) => Response::Lines(request.perform(place)?),
            Self::RepairDatabase(request) => Response::Lines(request.perform(place)?),
            Self::CheckHost(request) => Response::Checks(request.perform(place)?),
            Self::ListOwners(request) => Response::Owners(request.perform(place)?),
            Self::ListGrants(request) => Response::Grants(request.perform(place)?),
            Self::SetGrant(request) => Response::Done(request.perform(place)?),
            Self::RemoveGrant(request) => Response::Done(request.perform(place)?),
        })
    }
}

impl PerformOnHost for SetUp {
    /// What was made.
    type Answer = Vec<String>;

    fn perform(self, place: &Place) -> AppResult<Vec<String>> {
        setup::setup(&place.instance()?, &self)
    }
}

impl PerformOnHost for Remove {
    /// What was removed; nothing where nothing was set up.
    type Answer = Vec<String>;

    fn perform(self, place: &Place) -> AppResult<Vec<String>> {
        match self.everyone {
            true => setup::remove_everyone(&place.base, self.delete_data),
            false => setup::remove(&place.instance()?, self.delete_data),
        }
    }
}

impl PerformOnHost for RepairDatabase {
    type Answer = Vec<String>;

    fn perform(self, place: &Place) -> AppResult<Vec<String>> {
        repair::repair(&place.instance()?)
    }
}

impl PerformOnHost for CheckHost {
    type Answer = Vec<Check>;

    fn perform(self, place: &Place) -> AppResult<Vec<Check>> {
        Ok(doctor::run(&place.instance()?))
    }
}

impl PerformOnHost for owners::List {
    /// Their names.
    type Answer = Vec<String>;

    fn perform(self, place: &Place) -> AppResult<Vec<String>> {
        if !rustix::process::geteuid().is_root() {
            return Err(AppError::NotRoot);
        }
        Ok(owner::everybody(&place.base)?.iter().map(|instance| instance.user().to_owned()).collect())
    }
}

impl PerformOnHost for grants::List {
    type Answer = Vec<Row>;

    fn perform(self, place: &Place) -> AppResult<Vec<Row>> {
        match self.whose {
            None => all::list(&place.base),
            Some(whose) => all::one(&place.base, &whose),
        }
    }
}

impl PerformOnHost for grants::Set {
    type Answer = ();

    fn perform(self, place: &Place) -> AppResult<()> {
        all::change(&place.base, &self.whose, &self.settings)
    }
}

impl PerformOnHost for grants::Remove {
    type Answer = ();

    fn perform(self, place: &Place) -> AppResult<()> {
        all::remove(&place.base, &self.whose)
    }
}
