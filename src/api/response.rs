//! What is answered.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    config, consoles, containers, devices, doctor, files, firewall, fleet, forwards, grants, groups,
    networks, profiles, programs, schedules, snapshots, storage, templates,
};
use crate::model::config::Config;
use crate::model::firewall::Policy;
use crate::model::name::Name;
use crate::model::operation::Operation;

/// The answer to a request, by what it holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// There is nothing to tell.
    Done(()),
    /// Whether anything was changed: false where the request's condition did not hold.
    Changed(bool),
    Containers(Vec<containers::Container>),
    Container(Box<containers::Details>),
    Loads(Vec<containers::Load>),
    Starts(Vec<containers::ToStart>),
    /// Containers that could not be done what was asked; the others were.
    Failed(Vec<containers::Failed>),
    /// The name of a container that was made.
    Name(Name),
    /// How a program ended.
    Program(programs::Ended),
    /// Why a console is shown no more.
    Console(consoles::End),
    /// What is in a guest's directory.
    Files(Vec<files::File>),
    Transferred(files::Transferred),
    Config(Config),
    /// Changes that a running container has yet to see.
    Pending(Vec<config::Pending>),
    /// What holds, by key.
    Values(BTreeMap<String, config::Value>),
    ConfigDifferences(Vec<config::Difference>),
    /// What is to be done, in this order.
    Steps(Vec<fleet::Step>),
    Pools(Vec<storage::Pool>),
    Pool(storage::Pool),
    Volumes(Vec<storage::Volume>),
    Volume(storage::Volume),
    Profiles(Vec<profiles::Profile>),
    Profile(profiles::Profile),
    /// What running containers have yet to see of a change of a profile.
    Waiting(Vec<profiles::Waiting>),
    Devices(Vec<devices::Device>),
    Device(devices::Changed),
    Networks(Vec<networks::Network>),
    Network(networks::Network),
    NetworkChanged(networks::Changed),
    Operations(Vec<Operation>),
    Operation(Box<Operation>),
    Snapshots(Vec<snapshots::Snapshot>),
    Snapshot(snapshots::Details),
    /// A snapshot or a copy.
    Made(snapshots::Made),
    /// What was done by itself.
    Scheduled(Vec<schedules::Done>),
    Schedules(Vec<schedules::Plan>),
    /// How many layers were merged.
    Merged(usize),
    Differences(Vec<snapshots::Difference>),
    Archived(snapshots::Archived),
    Templates(Vec<templates::Template>),
    Template(templates::Template),
    Recipes(Vec<templates::Recipe>),
    Forwards(Vec<forwards::Forward>),
    Rules(Vec<firewall::Rule>),
    Sets(BTreeMap<String, Vec<String>>),
    Groups(Vec<groups::Group>),
    Blocks(Vec<firewall::Block>),
    /// How many of the blocks were there.
    Removed(usize),
    Policy(Box<Policy>),
    Checks(Vec<doctor::Check>),
    Grants(Vec<grants::Row>),
    /// Users who have something set up.
    Owners(Vec<String>),
    /// Sentences.
    Lines(Vec<String>),
    /// One sentence.
    Line(String),
    /// Of several lines.
    Text(String),
}
