//! What a command is about: whose containers, which instance, and opening it.

use std::sync::OnceLock;

use super::error::CliResult;
use super::output;
use crate::app::instance::open_allowing;
use crate::app::instance::owner::{self, Wish};
use crate::app::run::Place;
use crate::app::{App, Lazy};
use crate::host::sources::Source;
use crate::model::config::value::boolean;
use crate::model::device::{Device, is_clean_path};
use crate::model::instance::Instance;
use crate::model::monitor::NODES;
use crate::model::name::Name;

/// Whose containers the command is about, as its options say.
static WISH: OnceLock<Wish> = OnceLock::new();

/// Whether an ordinary user asks for daemonless mode.
pub fn is_daemonless() -> bool {
    // The second was its name until version 0.1.0.
    ["NAGAYA_DAEMONLESS", "NAGAYA_PRIVATE"]
        .into_iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

/// Keeps what the options say. Called once, before any verb.
pub fn set_wish(wish: Wish) {
    let _ = WISH.set(wish);
}

/// Whose containers the command is about.
pub fn wish() -> Wish {
    WISH.get().cloned().unwrap_or_default()
}

/// The instance that the user means.
pub fn instance() -> CliResult<Instance> {
    Ok(place()?.instance()?)
}

/// The instance's name and whose containers are meant, before anybody is looked up.
pub fn place() -> CliResult<Place> {
    Ok(Place { base: base_instance()?, wish: wish() })
}

/// The service user's instance; those of ordinary users have names derived from it.
pub fn base_instance() -> CliResult<Instance> {
    match std::env::var_os("NAGAYA_INSTANCE").filter(|name| !name.is_empty()) {
        Some(name) => Ok(Instance::new(&name.to_string_lossy())?),
        None => Ok(Instance::default()),
    }
}

/// The options that make another command work on the same owner's containers.
pub fn owner_arguments() -> Vec<String> {
    let owner = WISH.get().and_then(|wish| wish.owner.clone());
    owner.into_iter().flat_map(|owner| ["--owner".to_owned(), owner]).collect()
}

/// Opens the instance and gives up root. What needs the caller's own rights must come before.
pub fn open() -> CliResult<App> {
    let instance = instance()?;
    owner::must_be_there(&instance)?;
    opened(instance)
}

/// The same for a command in which devices are typed: root allows the directories that they name. What the keys of
/// one say that are not all there is seen later.
pub fn open_with_devices<'a>(devices: impl IntoIterator<Item = &'a [(String, String)]>) -> CliResult<App> {
    let instance = instance()?;
    owner::must_be_there(&instance)?;
    told(open_allowing(instance, &sources(devices))?)
}

/// The same as `open_to_make`.
pub fn open_to_make_with<'a>(devices: impl IntoIterator<Item = &'a [(String, String)]>) -> CliResult<App> {
    let instance = instance()?;
    owner::may_be_set_up(&instance)?;
    told(open_allowing(instance, &sources(devices))?)
}

/// The same for a command in which a directory for a storage pool is typed.
pub fn open_with_directory(directory: &str) -> CliResult<App> {
    let instance = instance()?;
    owner::may_be_set_up(&instance)?;
    let source = Source { path: directory.to_owned(), is_shared: false, may_be_missing: false };
    told(open_allowing(instance, &[source])?)
}

/// The same for devices that stand in a text which was typed.
pub fn open_with<'a>(devices: impl IntoIterator<Item = &'a Device>) -> CliResult<App> {
    let pairs: Vec<Vec<(String, String)>> = devices.into_iter().map(disk_pairs).collect();
    open_with_devices(pairs.iter().map(Vec::as_slice))
}

/// The same as `open_to_make`.
pub fn open_to_make_from<'a>(devices: impl IntoIterator<Item = &'a Device>) -> CliResult<App> {
    let pairs: Vec<Vec<(String, String)>> = devices.into_iter().map(disk_pairs).collect();
    open_to_make_with(pairs.iter().map(Vec::as_slice))
}

fn disk_pairs(device: &Device) -> Vec<(String, String)> {
    if device.disk().is_some() { device.config().into_iter().collect() } else { Vec::new() }
}

fn sources<'a>(devices: impl IntoIterator<Item = &'a [(String, String)]>) -> Vec<Source> {
    devices.into_iter().filter_map(source).collect()
}

/// The directory that keys name, if they name one.
fn source(pairs: &[(String, String)]) -> Option<Source> {
    let said =
        |key: &str| pairs.iter().rev().find(|(known, _)| known == key).map(|(_, value)| value.as_str());
    let path = said("source")?;
    let path = path.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(path);
    let is_directory = (path == "/" || is_clean_path(path)) && NODES.iter().all(|node| node.path != path);
    let is = |key: &str, value: bool| said(key).and_then(boolean) == Some(value);
    is_directory.then(|| Source {
        path: path.to_owned(),
        // A key that is not said may have been set before: the start looks again.
        is_shared: said("path").is_some() && !is("readonly", true) && !is("shift", false),
        may_be_missing: is("required", false),
    })
}

/// The same for what may do without the database: it is opened when something asks for it.
pub fn open_lazily() -> CliResult<Lazy> {
    let instance = instance()?;
    owner::must_be_there(&instance)?;
    Ok(Lazy::begin(instance, output::note)?)
}

/// The same for verbs that may make an owner's first things: the owner is set up if necessary.
pub fn open_to_make() -> CliResult<App> {
    let instance = instance()?;
    owner::may_be_set_up(&instance)?;
    opened(instance)
}

fn opened(instance: Instance) -> CliResult<App> {
    told(crate::app::instance::open(instance)?)
}

fn told(mut app: App) -> CliResult<App> {
    app.tell = output::note;
    Ok(app)
}

pub fn name(text: &str) -> CliResult<Name> {
    Ok(Name::new(text)?)
}
