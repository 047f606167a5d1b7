//! The record of each template, beside the pool. The database can be rebuilt from these records.

use serde::{Deserialize, Serialize};

use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::app::instance::{later, layout};
use crate::model::stored::{self, StoredError};
use crate::model::template::{Template, TemplateFacts, TemplateId, is_template_name};
use crate::sys::Context;
use crate::sys::fs::atomic_file;
use crate::sys::fs::atomic_file::Lasting;

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Record {
    #[serde(default)]
    version: u32,
    id: TemplateId,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    created_at: i64,
    facts: TemplateFacts,
}

impl Record {
    fn read(text: &str) -> Result<Self, StoredError> {
        stored::check_version(text, VERSION)?;
        toml::from_str(text).map_err(StoredError::syntax)
    }
}

/// Writes the record of content `id` as the database has it now.
pub fn write(app: &App, id: &TemplateId) -> AppResult<()> {
    let Some(template) = app.store.template(id)? else { return Ok(()) };
    let names = app.store.templates()?.into_iter().filter(|(_, t)| t.id == *id).map(|(n, _)| n).collect();
    let record = Record {
        version: VERSION,
        id: template.id,
        names,
        bytes: template.bytes,
        created_at: template.created_at,
        facts: template.facts,
    };
    let path = layout::template_record(&app.instance, id);
    if later::has_written(app, &path, VERSION) {
        return Ok(());
    }
    let what = || format!("write {}", path.display());
    let text = toml::to_string(&record).map_err(std::io::Error::other).cannot(what)?;
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).cannot(what)?;
    }
    Ok(atomic_file::replace(&path, text, 0o600, Lasting::OnDisk)?)
}

pub fn delete(app: &App, id: &TemplateId) -> AppResult<()> {
    let path = layout::template_record(&app.instance, id);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).cannot(|| format!("delete {}", path.display()))?
        }
        _ => Ok(()),
    }
}

/// Removes records that killed commands have written but not renamed into place. No command is writing
/// there now.
pub fn sweep(app: &App) {
    atomic_file::sweep(&layout::template_records(&app.instance), None);
}

/// What the records say.
#[derive(Default)]
pub struct Records {
    /// A template, and its names.
    pub templates: Vec<(Template, Vec<String>)>,
    /// A line for each file that is no record.
    pub broken: Vec<String>,
}

/// All records.
///
/// # Errors
/// `Newer` where one is of a later version: a database that is made without it would lack its templates.
pub fn read_all(app: &App) -> AppResult<Records> {
    let dir = layout::template_records(&app.instance);
    let mut records = Records::default();
    let entries = match std::fs::read_dir(&dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(records),
        other => other.cannot(|| format!("list {}", dir.display()))?,
    };
    for path in entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "toml")) {
        let text = std::fs::read_to_string(&path).cannot(|| format!("read {}", path.display()))?;
        match Record::read(&text) {
            Err(e) if e.is_newer() => return Err(AppError::Newer(path)),
            Ok(r) if r.names.iter().all(|n| is_template_name(n)) => {
                let template =
                    Template { id: r.id, facts: r.facts, bytes: r.bytes, created_at: r.created_at };
                records.templates.push((template, r.names));
            }
            _ => records.broken.push(format!("{} is not a template's record", path.display())),
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stored::tests::outlives;
    use crate::model::template::InitKind;

    fn released() -> Vec<String> {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/released/0.1.0/var/lib/released/templates");
        let entries = std::fs::read_dir(dir).unwrap().flatten();
        entries.map(|entry| std::fs::read_to_string(entry.path()).unwrap()).collect()
    }

    #[test]
    fn records_of_version_0_1_0_are_as_they_were() {
        let records: Vec<Record> = released().iter().map(|text| Record::read(text).unwrap()).collect();
        let tiny = records.iter().find(|record| record.names.len() == 2).unwrap();
        assert_eq!(
            (records.len(), &*tiny.names),
            (2, &["centos/7:latest".to_owned(), "tiny".to_owned()][..])
        );
        assert_eq!((tiny.facts.os.as_str(), tiny.facts.init), ("Tiny 1", InitKind::Systemd));
        assert!(tiny.bytes > 1 << 20 && tiny.created_at > 1_700_000_000);
    }

    #[test]
    fn a_record_outlives_versions() {
        for text in released() {
            let document: serde_json::Value = toml::from_str(&text).unwrap();
            let read = |value: serde_json::Value| {
                Record::read(&toml::to_string(&value).unwrap()).map(|record| record.id.to_string())
            };
            outlives(&document, read, &["id", "facts", "facts.init"], &[]);
            let later = text.replace("version = 1", "version = 2");
            assert!(Record::read(&later).err().unwrap().is_newer());
        }
    }
}
