//! What can be asked of the host before an instance is opened.

use serde::Deserialize;

use super::{doctor, grants, owners, setup};

/// Something to be done, or to be told, of the host, with the rights of whoever asks: root's where root does.
/// So it is a type of its own, which whoever passes on requests of others does not read by mistake.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum HostRequest {
    SetUp(setup::SetUp),
    RemoveSetup(setup::Remove),
    RepairDatabase(setup::RepairDatabase),
    CheckHost(doctor::CheckHost),
    ListOwners(owners::List),
    ListGrants(grants::List),
    SetGrant(grants::Set),
    RemoveGrant(grants::Remove),
}
