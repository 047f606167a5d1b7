//! The policy's copy beside the database, from which `nagaya repair` has it: the policy as it is typed, in
//! pieces, each with a version at its head. Version 0.1.0 wrote none.

use std::path::Path;

use serde::Serialize;

use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::app::instance::{later, layout};
use crate::model::firewall::Policy;
use crate::model::stored;
use crate::sys::fs::atomic_file;
use crate::sys::fs::atomic_file::Lasting;
use crate::sys::{Context, SysError, error_text};

const VERSION: u32 = 1;

/// A piece, as it stands in its file.
#[derive(Serialize)]
struct Piece<'a> {
    version: u32,
    #[serde(flatten)]
    policy: &'a Policy,
}

/// Brings the copy from one policy to another, and writes only what differs. As with manifests, it does not
/// wait until they are on disk, and a copy that cannot be written is no reason to fail.
pub(super) fn keep(app: &App, old: &Policy, new: &Policy) {
    if let Err(e) = write(app, old, new) {
        tracing::warn!("{}", error_text(&e));
    }
}

fn write(app: &App, old: &Policy, new: &Policy) -> AppResult<()> {
    let (old, new) = (old.parts(), new.parts());
    let dir = layout::policy_copy(&app.instance);
    std::fs::create_dir_all(&dir).cannot(|| format!("make {}", dir.display()))?;
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    let differing = new.iter().filter(|(name, part)| old.get(*name) != Some(part));
    for (name, part) in differing {
        let path = dir.join(file_name(name));
        if later::has_written(app, &path, VERSION) {
            continue;
        }
        let piece = Piece { version: VERSION, policy: part };
        let text = toml::to_string(&piece).map_err(|e| AppError::Refused(e.to_string()))?;
        atomic_file::replace(&path, text, 0o600, Lasting::UntilPowerCut)?;
    }
    gone.map(|name| dir.join(file_name(name))).try_for_each(|path| remove(&path))
}

fn remove(path: &Path) -> AppResult<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(SysError::new(format!("remove {}", path.display()), e).into())
        }
        _ => Ok(()),
    }
}

/// Makes the copy what `policy` says, whatever it was.
pub(super) fn renew(app: &App, policy: &Policy) -> AppResult<()> {
    write(app, &Policy::default(), policy)?;
    let names: Vec<String> = policy.parts().keys().map(|part| file_name(part)).collect();
    let all = std::fs::read_dir(layout::policy_copy(&app.instance)).into_iter().flatten().flatten();
    let strange = all.filter(|entry| !names.iter().any(|name| entry.file_name() == **name));
    strange.map(|entry| entry.path()).try_for_each(|path| remove(&path))
}

/// Removes the copy's part about a container that is deleted.
pub(super) fn drop(app: &App, container: &str) {
    if let Err(e) = remove(&layout::policy_copy(&app.instance).join(file_name(container))) {
        tracing::warn!("{}", error_text(&e));
    }
}

/// No container's name has a '_'.
fn file_name(part: &str) -> String {
    if part.is_empty() { "_.toml".to_owned() } else { format!("{part}.toml") }
}

/// # Errors
/// `Newer` where a later nagaya has written it. Where it is no piece of a policy, why.
fn read(path: &Path) -> AppResult<Result<Policy, String>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) => return Ok(Err(e.to_string())),
    };
    match stored::check_version(&text, VERSION) {
        Ok(_) => Ok(understand(&text)),
        Err(e) if e.is_newer() => Err(AppError::Newer(path.to_owned())),
        Err(e) => Ok(Err(error_text(&e))),
    }
}

fn understand(text: &str) -> Result<Policy, String> {
    let mut piece: serde_json::Value = toml::from_str(text).map_err(|e| e.to_string())?;
    if let Some(fields) = piece.as_object_mut() {
        fields.remove("version");
    }
    stored::known_of(piece).map_err(|e| e.to_string())
}

/// Puts the copy into a database that was made anew, without its parts about containers and networks that
/// no longer exist. Returns lines about what was done; none if there was no policy.
///
/// # Errors
/// The database cannot be written, or a later nagaya has written the copy.
pub fn restore(app: &mut App) -> AppResult<Vec<String>> {
    let (mut policy, mut lines) = (Policy::default(), Vec::new());
    let entries = std::fs::read_dir(layout::policy_copy(&app.instance)).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()).filter(|path| path.extension() == Some("toml".as_ref())) {
        match read(&path)? {
            Ok(part) => policy.join(part),
            Err(e) => lines.push(format!("left out {}: {}", path.display(), e.trim_end())),
        }
    }
    let containers = app.store.containers()?;
    let is_there = |name: &str| containers.iter().any(|container| container.name.as_str() == name);
    policy.containers.retain(|name, _| is_there(name));
    policy.forwards.retain(|forward| is_there(&forward.container));
    let networks = app.store.networks()?;
    policy.networks.retain(|name, _| networks.iter().any(|network| network.name == *name));
    if policy != Policy::default() {
        app.store.set_policy(&policy)?;
        lines.push("the firewall's policy".to_owned());
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::firewall::policy::{Action, Proto};

    #[test]
    fn pieces_of_every_version_are_read() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/released/0.1.0/var/lib/released/firewall");
        let mut policy = Policy::default();
        for part in ["", "web01"] {
            let piece = read(&Path::new(dir).join(file_name(part))).unwrap().unwrap();
            let text = toml::to_string(&Piece { version: VERSION, policy: &piece }).unwrap();
            assert!(text.starts_with("version = 1\n"), "{text}");
            assert_eq!(understand(&text).unwrap(), piece);
            let more = format!(
                "news = 1\n{text}\n[[forwards]]\ncontainer = \"x\"\nproto = \"tcp\"\nlisten = \"1\"\nnews = 1\n"
            );
            let more = understand(&more).unwrap();
            assert_eq!((more.forwards.len(), &more.sets), (piece.forwards.len() + 1, &piece.sets));
            policy.join(piece);
        }
        assert_eq!((policy.sets["office"].len(), policy.networks["lan"].default_in), (2, Some(Action::Deny)));
        assert_eq!((policy.forwards[0].to.as_str(), policy.forwards[1].proto), ("80", Proto::Udp));
    }

    #[test]
    fn a_piece_of_a_later_version_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("_.toml");
        std::fs::write(&path, "version = 2\nsets = 1\n").unwrap();
        assert!(matches!(read(&path), Err(AppError::Newer(found)) if found == path));
        for damaged in ["sets = 1\n", "version = 1\nsets = 1\n", "version = \"x"] {
            std::fs::write(&path, damaged).unwrap();
            assert!(read(&path).unwrap().is_err(), "{damaged}");
        }
    }
}
