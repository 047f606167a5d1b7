//! What is known of each error of the database beside its text. Every error stands here, so that a new one cannot be
//! forgotten.

use std::io;

use super::{NO_TEMPLATE, StoreError};
use crate::model::fault::{Code, Facts, Fault};
use crate::model::name::Name;
use crate::sys::fs::lock::LockError;
use crate::sys::lack_of;

/// Of the directory that the database is in.
const DIRECTORY: &str = "see whether its directory is as it should be: nagaya setup";
const FREE: &str = "leave it out to get one that is free; 'nagaya list' shows those that are taken";

impl Fault for StoreError {
    fn facts(&self) -> Facts {
        let user = Facts::user;
        match self {
            Self::NotSetUp { .. } => user(Code::DatabaseMissing),
            Self::Newer { .. } => user(Code::DatabaseNewer).hint("install that newer nagaya again"),
            Self::Foreign { .. } | Self::Corrupt { .. } => {
                user(Code::DatabaseDamaged).hint("rebuild it from the containers' manifests: nagaya repair")
            }
            Self::File { source, .. } => of_file(source),
            Self::Lock { source } => of_lock(source),
            Self::Busy { .. } => user(Code::Busy),
            Self::Full { .. } => Facts::host(Code::DiskFull).hint("make room on that file system: df -h"),
            Self::ReadOnly { .. } => {
                Facts::host(Code::ReadOnly).hint("see how its file system is mounted: findmnt -T /var/lib")
            }
            Self::Sqlite { .. } | Self::Migration { .. } => user(Code::DatabaseFailed),

            Self::BadTemplateName { .. } => user(Code::InvalidName)
                .hint("1 to 128 of letters, digits and '._:/+@-', a letter or digit first"),
            Self::TemplateNameTaken { name } => user(Code::TemplateExists)
                .hint(format!("choose another name, or delete it: nagaya template delete {name}")),
            Self::TemplateInUse { .. } => user(Code::TemplateInUse).hint("delete those containers first"),
            Self::NoSuchTemplate { .. } => user(Code::TemplateNotFound).hint(NO_TEMPLATE),
            Self::TemplateGone { .. } | Self::TemplateDoomed { .. } => user(Code::TemplateNotFound),

            Self::SnapshotTaken { container, name } => user(Code::SnapshotExists).hint(format!(
                "choose another name, or delete it: nagaya snapshot delete {container} {name}"
            )),

            Self::NameTaken { name } => user(Code::ContainerExists)
                .hint(format!("choose another name, or delete it: nagaya delete {name}")),
            Self::NoSuchContainer { .. } => user(Code::ContainerNotFound),
            Self::NoIdRangeLeft { .. } => Facts::host(Code::NoIdsLeft).hint(
                "delete a container that is not needed, or give the service user a longer range of \
                 subordinate ids: see 'nagaya doctor'",
            ),
            Self::NoRange | Self::RangeInUse { .. } => user(Code::SetupConflict),
            Self::BadField { .. } => user(Code::InvalidValue),
            Self::IdTaken { .. } | Self::IdRangeTaken { .. } | Self::IdRangeOutside { .. } => {
                user(Code::DatabaseFailed)
            }

            Self::ProfileTaken { name } => user(Code::ProfileExists)
                .hint(format!("choose another name, or change it: nagaya profile set {name} KEY=VALUE")),
            Self::NoSuchProfile { .. } => {
                user(Code::ProfileNotFound).hint("'nagaya profile list' shows the profiles")
            }
            Self::ProfileInUse { name, users } => {
                let from = users.first().map(Name::as_str).unwrap_or("NAME");
                user(Code::ProfileInUse)
                    .hint(format!("take it from those containers first: nagaya profile remove {from} {name}"))
            }

            Self::PoolTaken { .. } | Self::PoolsClash { .. } => {
                user(Code::PoolExists).hint("'nagaya storage list' shows the pools")
            }
            Self::TooManyPools => {
                user(Code::Refused).hint("delete one that is not needed: nagaya storage delete")
            }
            Self::NoSuchPool { .. } => user(Code::PoolNotFound).hint("'nagaya storage list' shows the pools"),
            Self::PoolInUse { users, .. } if users.is_empty() => {
                user(Code::PoolInUse).hint("try again in a moment")
            }
            Self::PoolInUse { .. } => user(Code::PoolInUse).hint("delete those containers first"),
            Self::PoolHasVolumes { pool, volume } => user(Code::PoolInUse)
                .hint(format!("delete them first: nagaya storage volume delete {pool} {volume}")),
            Self::VolumeTaken { pool, .. } => user(Code::VolumeExists).hint(format!(
                "choose another name; 'nagaya storage volume list {pool}' shows those that there are"
            )),
            Self::TooManyVolumes { pool } => user(Code::Refused)
                .hint(format!("delete one that is not needed: nagaya storage volume delete {pool} VOLUME")),

            Self::NetworkTaken { .. } => user(Code::NetworkExists),
            Self::NoSuchNetwork { .. } => user(Code::NetworkNotFound),
            Self::BadNetwork { .. } => user(Code::InvalidValue),
            Self::NetworkInUse { .. } => user(Code::NetworkInUse)
                .hint("delete those containers first, or put their interfaces elsewhere: nagaya device set"),
            Self::AddressLost { container, .. } => user(Code::NetworkInUse).hint(format!(
                "give it another one first: nagaya device list {container}; nagaya device set"
            )),
            Self::NoAddressLeft { .. } => Facts::host(Code::NoAddressLeft)
                .hint("delete a container that is not needed; its address becomes free"),
            Self::AddressTaken { .. } | Self::MacTaken { .. } => user(Code::AddressTaken).hint(FREE),
            Self::OutsideNetwork { name, .. } => user(Code::AddressOutside)
                .hint(format!("see which addresses it has: nagaya network show {name}")),
            Self::NetworksClash { .. } | Self::RoutedInside { .. } => user(Code::NetworkConflict),
            Self::NoSuchDevice { .. } => user(Code::DeviceNotFound),
            Self::DeviceTaken { .. } => user(Code::DeviceExists),
            Self::NoSlotLeft => user(Code::TooManyDevices),
            Self::NoMac => Facts::bug(Code::DatabaseFailed),
        }
    }
}

fn of_file(source: &io::Error) -> Facts {
    lack_of(source).map_or(Facts::user(Code::DatabaseFailed).hint(DIRECTORY), Facts::host)
}

fn of_lock(error: &LockError) -> Facts {
    match error {
        LockError::Held { holder: Some(_), .. } => error.facts(),
        LockError::Held { holder: None, .. } => Facts::user(Code::Busy).hint(DIRECTORY),
        LockError::Sys(_) | LockError::Foreign { .. } => Facts::user(Code::HostCheck).hint(DIRECTORY),
    }
}
