//! What is written beside the pool of each template, from which the database can be rebuilt.

use serde::{Deserialize, Serialize};

use super::context::App;
use super::error::AppResult;
use super::layout;
use crate::model::template::{Template, TemplateFacts, TemplateId, is_template_name};
use crate::sys::Context;
use crate::sys::atomic_file::{self, Lasting};

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: u32,
    id: TemplateId,
    names: Vec<String>,
    bytes: u64,
    created_at: i64,
    facts: TemplateFacts,
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

/// Removes what killed commands have written and not put in its place. Nobody is at work there.
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

pub fn read_all(app: &App) -> AppResult<Records> {
    let dir = layout::template_records(&app.instance);
    let mut records = Records::default();
    let entries = match std::fs::read_dir(&dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(records),
        other => other.cannot(|| format!("list {}", dir.display()))?,
    };
    for path in entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "toml")) {
        let text = std::fs::read_to_string(&path).cannot(|| format!("read {}", path.display()))?;
        match toml::from_str::<Record>(&text) {
            Ok(r) if r.version == VERSION && r.names.iter().all(|n| is_template_name(n)) => {
                let template =
                    Template { id: r.id, facts: r.facts, bytes: r.bytes, created_at: r.created_at };
                records.templates.push((template, r.names));
            }
            _ => records.broken.push(format!("{} is not a template's record", path.display())),
        }
    }
    Ok(records)
}
