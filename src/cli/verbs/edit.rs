//! `config edit` and `profile edit`.

use std::io::{self, IsTerminal};

use crate::api::config;
use crate::api::profiles;
use crate::app::App;
use crate::app::AppError;
use crate::cli::editor::{self, OnTerminal};
use crate::cli::error::{CliError, CliResult, DONE};
use crate::cli::output::{note, pending};
use crate::cli::request::ask;
use crate::cli::several::child::in_child;
use crate::model::device::Device;
use crate::model::document::read_profile;
use crate::model::name::Name;
use crate::model::profile::ProfileName;

/// Edits the settings of a container.
pub fn container(name: &Name) -> CliResult<i32> {
    text_of(
        &format!("config-{name}"),
        |app| ask(app, config::Export { name: name.clone() }),
        |_, _| Vec::new(),
        |app, text, former| {
            let request = config::Import { name: name.clone(), text, former };
            pending::of_container(name.as_str(), &ask(app, request)?);
            Ok(())
        },
    )
}

/// Edits a profile.
pub fn profile(name: &ProfileName) -> CliResult<i32> {
    text_of(
        &format!("profile-{name}"),
        |app| ask(app, profiles::Export { name: name.clone() }),
        typed_devices,
        |app, text, former| {
            let request = profiles::Import { name: name.clone(), text, former };
            pending::of_profile(&ask(app, request)?);
            Ok(())
        },
    )
}

/// The devices that the user has typed: those that stood in the text before, whoever stored it, are none of them.
fn typed_devices(text: &str, original: Option<&str>) -> Vec<Device> {
    let devices = |text: &str| read_profile(text).map(|read| read.spec.devices).unwrap_or_default();
    let before = original.map(devices).unwrap_or_default();
    let mut typed = devices(text);
    typed.retain(|device| before.iter().all(|old| old.source() != device.source()));
    typed
}

/// The editor works with the rights of whoever calls; the instance is opened by a child, because that gives root up,
/// and closed while the user thinks.
fn text_of(
    subject: &str,
    export: impl Fn(&mut App) -> CliResult<String>,
    devices: impl Fn(&str, Option<&str>) -> Vec<Device>,
    import: impl Fn(&mut App, String, Option<String>) -> CliResult<()>,
) -> CliResult<i32> {
    if !io::stdin().is_terminal() {
        let text = editor::bounded(io::stdin().lock()).map_err(CliError::Input)?;
        if text.trim().is_empty() {
            return Err(AppError::advised(
                "standard input is no terminal, and empty",
                "give the whole text there, as in: nagaya config edit NAME < FILE",
            )
            .into());
        }
        import(&mut crate::cli::open_with(&devices(&text, None))?, text, None)?;
        return Ok(DONE);
    }
    let original = in_child("read the settings", || export(&mut crate::cli::open()?))?;
    let changed = editor::edit(&OnTerminal, subject, &original, |text| {
        in_child("change the settings", || {
            let mut app = crate::cli::open_with(&devices(text, Some(&original)))?;
            import(&mut app, text.to_owned(), Some(original.clone()))
        })
    })?;
    if !changed {
        note("nothing was changed");
    }
    Ok(DONE)
}
