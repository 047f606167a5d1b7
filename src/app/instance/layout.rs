//! Where an instance keeps what: the one place that knows the names below its directories.

use std::path::PathBuf;

use crate::model::instance::Instance;
use crate::model::layer::LayerId;
use crate::model::name::{ContainerId, Name};
use crate::model::template::TemplateId;

/// Below the pool, which belongs to the storage ids.
pub const POOL_CONTAINERS: &str = "containers";
pub const POOL_TEMPLATES: &str = "templates";
pub const POOL_LAYERS: &str = "layers";
/// Directories that outlive containers.
pub const POOL_VOLUMES: &str = "volumes";
pub const POOL_TMP: &str = "tmp";
/// What nobody needs any more. Its being there means that there is something to delete.
pub const POOL_TRASH: &str = "trash";

pub fn database(instance: &Instance) -> PathBuf {
    instance.state_dir().join("nagaya.db")
}

/// The firewall's policy, a file for what is said of each container and one for all else.
pub fn policy_copy(instance: &Instance) -> PathBuf {
    instance.state_dir().join("firewall")
}

/// Manifest, console history and state record of a container; the owner's.
pub fn container_dir(instance: &Instance, id: &ContainerId) -> PathBuf {
    instance.state_dir().join("containers").join(id.as_str())
}

pub fn manifest(instance: &Instance, id: &ContainerId) -> PathBuf {
    container_dir(instance, id).join("manifest.toml")
}

/// The two files of a console's history.
pub fn console_logs(instance: &Instance, id: &ContainerId) -> [PathBuf; 2] {
    let dir = container_dir(instance, id);
    [dir.join("console.0"), dir.join("console.1")]
}

/// The socket of a container's monitor.
pub fn monitor_dir(instance: &Instance, id: &ContainerId) -> PathBuf {
    instance.run_dir().join("containers").join(id.as_str())
}

pub fn control_socket(instance: &Instance, id: &ContainerId) -> PathBuf {
    monitor_dir(instance, id).join("control")
}

/// What is known of the containers that run, by their names.
pub fn all_running(instance: &Instance) -> PathBuf {
    instance.run_dir().join("running")
}

pub fn running(instance: &Instance, name: &Name) -> PathBuf {
    all_running(instance).join(name.as_str())
}

/// The record of a container's monitor. It outlasts a restart of the host, for it tells whether the
/// guest had ended by itself.
pub fn state_record(instance: &Instance, id: &ContainerId) -> PathBuf {
    container_dir(instance, id).join("state")
}

pub fn locks(instance: &Instance) -> PathBuf {
    instance.run_dir().join("locks")
}

/// A pool in a directory that its owner has named.
pub fn pool_in(instance: &Instance, directory: &str) -> PathBuf {
    PathBuf::from(directory).join(instance.pool_dir()).join("pool")
}

/// A container's own data, relative to the pool.
pub fn data_in_pool(id: &ContainerId) -> String {
    format!("{POOL_CONTAINERS}/{id}")
}

/// A layer's root directory, relative to the pool.
pub fn layer_in_pool(id: &LayerId) -> String {
    format!("{POOL_LAYERS}/{id}")
}

/// A volume, relative to its pool.
pub fn volume_in_pool(name: &str) -> String {
    format!("{POOL_VOLUMES}/{name}")
}

/// A template's root directory, relative to the pool.
pub fn template_in_pool(id: &TemplateId) -> String {
    format!("{POOL_TEMPLATES}/{id}")
}

pub fn template_records(instance: &Instance) -> PathBuf {
    instance.state_dir().join("templates")
}

pub fn template_record(instance: &Instance, id: &TemplateId) -> PathBuf {
    template_records(instance).join(format!("{id}.toml"))
}
