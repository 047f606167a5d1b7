//! Types of the model as columns. What is read passes the same constructors as what users type.

use std::error::Error;

use rusqlite::ToSql;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};

use crate::model::config::Config;
use crate::model::container::Phase;
use crate::model::device::Device;
use crate::model::ids::IdRange;
use crate::model::layer::LayerId;
use crate::model::mac::Mac;
use crate::model::name::{ContainerId, Name};
use crate::model::network::Network;
use crate::model::nic::Nic;
use crate::model::operation::{OperationKind, OperationStatus};
use crate::model::pool::{Pool, PoolName, Volume, VolumeName};
use crate::model::profile::{Profile, ProfileName, ProfileSpec};
use crate::model::snapshot::SnapshotName;
use crate::model::template::TemplateId;

/// A value as the JSON of a column.
pub(super) fn json(value: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|err| rusqlite::Error::ToSqlConversionFailure(Box::new(err)))
}

/// `text` read by `parse`, whose error says what it should have been.
fn parsed<T, E>(value: ValueRef<'_>, parse: impl FnOnce(&str) -> Result<T, E>) -> FromSqlResult<T>
where
    E: Error + Send + Sync + 'static,
{
    parse(value.as_str()?).map_err(|err| FromSqlError::Other(Box::new(err)))
}

macro_rules! text_column {
    ($type:ty) => {
        impl ToSql for $type {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(self.as_str().into())
            }
        }

        impl FromSql for $type {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                parsed(value, <$type>::new)
            }
        }
    };
}

text_column!(Name);
text_column!(ContainerId);
text_column!(TemplateId);
text_column!(LayerId);
text_column!(SnapshotName);
text_column!(ProfileName);
text_column!(PoolName);
text_column!(VolumeName);

impl ToSql for Mac {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.to_string().into())
    }
}

impl FromSql for Mac {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        parsed(value, str::parse)
    }
}

impl ToSql for IdRange {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.base().into())
    }
}

impl FromSql for IdRange {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let base = u32::column_result(value)?;
        IdRange::at(base).ok_or(FromSqlError::OutOfRange(base.into()))
    }
}

impl ToSql for Phase {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let text = match self {
            Phase::Creating => "creating",
            Phase::Settled => "settled",
            Phase::Starting => "starting",
            Phase::Deleting => "deleting",
        };
        Ok(text.into())
    }
}

impl FromSql for Phase {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value.as_str()? {
            "creating" => Ok(Phase::Creating),
            "settled" => Ok(Phase::Settled),
            "starting" => Ok(Phase::Starting),
            "deleting" => Ok(Phase::Deleting),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

impl FromSql for OperationKind {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let text = value.as_str()?;
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(FromSqlError::InvalidType)
    }
}

impl FromSql for OperationStatus {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let text = value.as_str()?;
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(FromSqlError::InvalidType)
    }
}

impl FromSql for Config {
    /// A JSON object of keys and values.
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        parsed(value, |text| serde_json::from_str(text))
    }
}

impl FromSql for ProfileSpec {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        parsed(value, |text| serde_json::from_str(text))
    }
}

impl FromSql for Network {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        parsed(value, |text| serde_json::from_str(text))
    }
}

impl FromSql for Volume {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        parsed(value, |text| serde_json::from_str(text))
    }
}

impl FromSql for Pool {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        parsed(value, |text| serde_json::from_str(text))
    }
}

impl FromSql for Nic {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        parsed(value, |text| serde_json::from_str(text))
    }
}

impl FromSql for Device {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        parsed(value, |text| serde_json::from_str(text))
    }
}

/// A container's other devices: a JSON array.
pub(super) struct Devices(pub Vec<Device>);

impl FromSql for Devices {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        parsed(value, |text| serde_json::from_str(text).map(Self))
    }
}

/// A container's interfaces, each with the network that it is on: a JSON array of `[nic, network or
/// null]`.
pub(super) struct Connected(pub Vec<(Nic, Option<Network>)>);

impl FromSql for Connected {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        parsed(value, |text| serde_json::from_str(text).map(Self))
    }
}

/// A container's profiles in their order: a JSON array of `[position, name, description, spec]`.
pub(super) struct Used(pub Vec<Profile>);

impl FromSql for Used {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        parsed(value, |text| {
            let mut rows: Vec<(u32, ProfileName, String, ProfileSpec)> = serde_json::from_str(text)?;
            rows.sort_by_key(|row| row.0);
            let profile = |(_, name, description, spec)| Profile { name, description, spec };
            Ok::<_, serde_json::Error>(Self(rows.into_iter().map(profile).collect()))
        })
    }
}
