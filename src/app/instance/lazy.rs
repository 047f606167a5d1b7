//! An instance whose database is opened when something asks for it.

use super::App;
use super::opening::{self, Unopened};
use crate::app::error::{AppError, AppResult};
use crate::host::client::Ending;
use crate::model::instance::Instance;

/// The instance, and as much of it as has been asked for. While it lives, this process is the owner's.
pub struct Lazy {
    pub instance: Instance,
    /// As `App` has it.
    tell: fn(&str),
    stage: Stage,
}

enum Stage {
    Begun(Box<Unopened>),
    Open(Box<App>),
    /// Opening it has failed.
    Lost,
}

impl Lazy {
    /// As `opening::begin`.
    pub fn begin(instance: Instance, tell: fn(&str)) -> AppResult<Self> {
        let begun = opening::begin(instance.clone())?;
        Ok(Self { instance, tell, stage: Stage::Begun(Box::new(begun)) })
    }

    /// The opened instance.
    pub fn app(&mut self) -> AppResult<&mut App> {
        if matches!(self.stage, Stage::Begun(_))
            && let Stage::Begun(begun) = std::mem::replace(&mut self.stage, Stage::Lost)
        {
            let mut app = begun.open()?;
            app.tell = self.tell;
            self.stage = Stage::Open(Box::new(app));
        }
        match &mut self.stage {
            Stage::Open(app) => Ok(app),
            _ => Err(lost()),
        }
    }

    /// The opened instance, for good.
    pub fn into_app(mut self) -> AppResult<App> {
        self.app()?;
        match self.stage {
            Stage::Open(app) => Ok(*app),
            _ => Err(lost()),
        }
    }

    /// Closes everything; the broker ends while the caller goes on with something else.
    pub fn close(self) -> Option<Ending> {
        match self.stage {
            Stage::Begun(begun) => begun.close(),
            Stage::Open(app) => app.close(),
            Stage::Lost => None,
        }
    }
}

fn lost() -> AppError {
    AppError::Refused("the instance could not be opened".to_owned())
}

impl From<App> for Lazy {
    fn from(app: App) -> Self {
        Self { instance: app.instance.clone(), tell: app.tell, stage: Stage::Open(Box::new(app)) }
    }
}
