//! Templates: building, importing, listing, deleting.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use super::context::App;
use super::error::{AppError, AppResult};
use super::layout::{POOL_TEMPLATES, POOL_TMP};
use super::template_builder::Builder;
use super::template_record as record;
use super::{Progress, lock, pool};
use crate::model::suggest;
use crate::model::template::{Template, TemplateFacts, TemplateId, is_template_name};
use crate::store::StoreError;
use crate::sys::error_text;
use crate::sys::lock::Lock;
use crate::sys::storage_ns::{self, Job, Watch};
use crate::sys::{SysError, interrupt};
use crate::template::detect::DetectError;
use crate::template::recipe::{self, Recipe, RecipeError};
use crate::template::{detect, extract, shape};

/// One name of a template.
pub struct Entry {
    pub name: String,
    pub id: TemplateId,
    pub facts: TemplateFacts,
    /// Length of all its files.
    pub bytes: u64,
    /// Seconds since 1970.
    pub created_at: i64,
    /// Containers that stand on its content.
    pub used_by: usize,
}

/// What a worker hands back of an unpacked archive.
type Unpacked = (TemplateId, u64, TemplateFacts);

pub fn list(app: &mut App) -> AppResult<Vec<Entry>> {
    let containers = app.store.containers()?;
    let entry = |(name, template): (String, Template)| Entry {
        used_by: containers.iter().filter(|c| c.template == template.id).count(),
        name,
        id: template.id,
        facts: template.facts,
        bytes: template.bytes,
        created_at: template.created_at,
    };
    Ok(app.store.templates()?.into_iter().map(entry).collect())
}

pub fn show(app: &mut App, name: &str) -> AppResult<Entry> {
    match list(app)?.into_iter().find(|entry| entry.name == name) {
        Some(entry) => Ok(entry),
        None => Err(unknown(app, name)),
    }
}

/// Recipes that `build` and `launch` know: name, and description or what is wrong with it.
pub fn recipes() -> Vec<(String, String)> {
    let described = |a: recipe::Available| match a.recipe {
        Ok(recipe) => (a.name, recipe.description),
        Err(e) => (a.name, format!("broken: {}", error_text(&e))),
    };
    recipe::list_available(&recipe_dirs())
        .map(|all| all.into_iter().map(described).collect())
        .unwrap_or_default()
}

fn recipe_dirs() -> Vec<PathBuf> {
    recipe::search_dirs(&std::env::current_exe().unwrap_or_default())
}

fn unknown(app: &App, name: &str) -> AppError {
    let stored = app.store.templates().unwrap_or_default();
    let recipes = recipes();
    let known = stored.iter().map(|(n, _)| n.as_str()).chain(recipes.iter().map(|(n, _)| n.as_str()));
    let nearest = suggest::nearest(name, known).map(str::to_owned);
    AppError::NoTemplate { name: name.to_owned(), nearest }
}

/// The template of that name, built if it is missing and there is a recipe for it.
pub(super) fn ensure(app: &mut App, name: &str, progress: &dyn Progress) -> AppResult<Template> {
    if let Some(template) = app.store.template_by_name(name)? {
        return Ok(template);
    }
    build_recipe(app, name, false, progress)
}

/// Builds a template anew from its recipe; the name then means the new content.
pub fn build(app: &mut App, name: &str, progress: &dyn Progress) -> AppResult<Entry> {
    build_recipe(app, name, true, progress)?;
    show(app, name)
}

fn build_recipe(app: &mut App, name: &str, anew: bool, progress: &dyn Progress) -> AppResult<Template> {
    let (recipe, _) = match recipe::find(name, &recipe_dirs()) {
        Ok(found) => found,
        Err(RecipeError::Unknown { .. } | RecipeError::Name { .. }) => return Err(unknown(app, name)),
        Err(e) => return Err(failed(format!("build template '{name}'"), &e, false)),
    };
    interrupt::arm();
    let _lock = lock::template(&app.instance, name)?;
    // Whoever had the lock before may have built it.
    if let (false, Some(template)) = (anew, app.store.template_by_name(name)?) {
        return Ok(template);
    }
    progress.stage(&format!("building template {name}"), Some(0));
    with_work(app, "build", |app, work| {
        let (namespace, pool) = app.storage()?;
        let scratch = pool::open(pool, &format!("{}/scratch", pool::work_dir(work)))
            .map_err(|e| SysError::new("open the build's scratch directory", e))?;
        let mut builder = Builder::start(namespace, &scratch, &recipe, progress)?;
        let archive = builder.archive()?;
        let unpacked = unpack(app, work, archive, &mut builder);
        if interrupt::pending() {
            // Dropped, the builder is killed.
            return Err(AppError::Interrupted);
        }
        // What the builder says is the cause where both have failed.
        match (builder.finish(), unpacked) {
            (Ok(()), Ok(unpacked)) => as_described(name, &recipe, unpacked),
            (Err(complaint), _) => Err(AppError::Template {
                what: format!("build template '{name}'"),
                hint: complaint.is_offline().then(|| {
                    format!(
                        "is the mirror in reach from here? A root filesystem from elsewhere does as well: nagaya \
                         template import FILE --name {name}"
                    )
                }),
                lacking: complaint.lacking,
                reason: complaint.text,
            }),
            (Ok(()), Err(e)) => Err(e),
        }
    })
    .and_then(|(work, unpacked)| publish(app, &work, name, unpacked, true))
}

/// What came out must be what the recipe says of its init and network, or guests would be stopped
/// and configured wrongly.
fn as_described(name: &str, recipe: &Recipe, unpacked: Unpacked) -> AppResult<Unpacked> {
    let facts = &unpacked.2;
    if (facts.init, facts.network) == (recipe.init, recipe.network) {
        return Ok(unpacked);
    }
    Err(AppError::Template {
        what: format!("build template '{name}'"),
        reason: format!(
            "it came out with init {:?} and network {:?}, and its recipe says {:?} and {:?}",
            facts.init, facts.network, recipe.init, recipe.network
        ),
        hint: None,
        lacking: false,
    })
}

/// Takes a root filesystem from an archive: tar, plain or compressed. `archive` was opened with
/// the caller's rights.
pub fn import(
    app: &mut App,
    archive: OwnedFd,
    size: Option<u64>,
    name: &str,
    progress: &dyn Progress,
) -> AppResult<Entry> {
    if !is_template_name(name) {
        return Err(StoreError::BadTemplateName { name: name.to_owned() }.into());
    }
    interrupt::arm();
    let _lock = lock::template(&app.instance, name)?;
    if app.store.template_by_name(name)?.is_some() {
        return Err(StoreError::TemplateNameTaken { name: name.to_owned() }.into());
    }
    progress.stage(&format!("importing template {name}"), None);
    let (work, unpacked) =
        with_work(app, "import", |app, work| unpack(app, work, archive, &mut Bytes { size, progress }))?;
    publish(app, &work, name, unpacked, false)?;
    show(app, name)
}

/// Shows how much of an archive is read.
struct Bytes<'a> {
    size: Option<u64>,
    progress: &'a dyn Progress,
}

impl Watch for Bytes<'_> {
    fn progress(&mut self, done: u64) -> bool {
        self.progress.bytes(done, self.size);
        !interrupt::pending()
    }
    fn side(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    fn side_ready(&mut self) {}
}

/// A piece of work that is under way: recorded, with a directory, and locked against the cleaner.
struct Work {
    id: String,
    _lock: Lock,
}

/// Runs `body` in a temporary directory that is recorded before it is made, and removed again if
/// it fails.
fn with_work<T>(
    app: &mut App,
    kind: &str,
    body: impl FnOnce(&mut App, &str) -> AppResult<T>,
) -> AppResult<(Work, T)> {
    let _lock = lock::pool_work(&app.instance)?;
    let id = app.store.begin_work(kind)?;
    let work = Work { id, _lock };
    let outcome = pool::begin(app, &work.id).and_then(|()| body(app, &work.id));
    match outcome {
        Ok(value) => Ok((work, value)),
        Err(e) => {
            abandon(app, &work);
            Err(e)
        }
    }
}

fn abandon(app: &mut App, work: &Work) {
    let undone = pool::discard(app, &work.id).and_then(|()| Ok(app.store.finish_work(&work.id)?));
    if let Err(e) = undone {
        tracing::warn!("what is left of an unfinished template is removed by the next command: {e}");
    }
}

/// Unpacks an archive into the work's tree, as the storage slice and with nothing else in reach.
fn unpack(app: &mut App, work: &str, archive: OwnedFd, watch: &mut dyn Watch) -> AppResult<Unpacked> {
    let (namespace, pool) = app.storage()?;
    let tree = pool::open(pool, &format!("{}/tree", pool::work_dir(work)))
        .map_err(|e| SysError::new("open the template's directory", e))?;
    let job = Job { namespace, root: &tree, input: Some(&archive) };
    let outcome = storage_ns::run_with(
        &job,
        |tell| {
            let failed = |e: &dyn std::error::Error| (error_text(e), None);
            let archive = archive.as_fd().try_clone_to_owned().map_err(|e| failed(&e))?;
            // The worker's root is the tree: were there a fault in what follows, this is all of the host
            // that it could see.
            let root = File::open("/").map_err(|e| failed(&e))?;
            let done = extract::extract(File::from(archive), root.as_fd(), &extract::Limits::default(), tell)
                .map_err(|e| (error_text(&e), e.hint()))?;
            let facts = detect::detect(root.as_fd()).map_err(|e| lacks(&e, root.as_fd()))?;
            Ok((done.id, done.bytes, facts))
        },
        watch,
    );
    match outcome {
        Ok(Ok(unpacked)) => Ok(unpacked),
        Ok(Err((reason, hint))) => {
            Err(AppError::Template { what: "unpack the template".to_owned(), reason, hint, lacking: false })
        }
        Err(_) if interrupt::pending() => Err(AppError::Interrupted),
        Err(e) => Err(e.into()),
    }
}

/// What a tree that is no system lacks, and what to do about it.
fn lacks(error: &DetectError, root: BorrowedFd<'_>) -> (String, Option<String>) {
    let text = error_text(error);
    let DetectError::NoInit = error else { return (text, None) };
    let shape = shape::of(root);
    let text = if shape.what.is_empty() { text } else { format!("{text}: {}", shape.what) };
    (text, Some(shape.hint))
}

/// Makes unpacked content a template, known by `name`.
fn publish(app: &mut App, work: &Work, name: &str, unpacked: Unpacked, replace: bool) -> AppResult<Template> {
    let (id, bytes, facts) = unpacked;
    let done =
        place(app, work, name, Template { id, facts, bytes, created_at: super::launch::now() }, replace);
    abandon(app, work);
    done
}

fn place(app: &mut App, work: &Work, name: &str, new: Template, replace: bool) -> AppResult<Template> {
    let known = app.store.template(&new.id)?;
    if known.is_none() {
        pool::publish(app, &work.id, &new.id)?;
    }
    let template = known.unwrap_or(new);
    app.store.add_template(name, &template, replace)?;
    record::write(app, &template.id)?;
    Ok(template)
}

/// Takes a name away, and the content with the last of its names.
pub fn delete(app: &mut App, name: &str) -> AppResult<()> {
    match app.store.delete_template_name(name) {
        Err(StoreError::NoSuchTemplate { .. }) => return Err(unknown(app, name)),
        Ok(Some(_)) => clean(app)?,
        Ok(None) => {
            let _lock = lock::pool_work(&app.instance)?;
            let work = app.store.begin_work("records")?;
            for (_, template) in app.store.templates()? {
                record::write(app, &template.id)?;
            }
            app.store.finish_work(&work)?;
        }
        Err(e) => return Err(e.into()),
    }
    Ok(())
}

/// Deletes the content of templates without a name, and what killed commands have left in the
/// pool. Where another command is at work there, that is left to a later one.
pub(super) fn clean(app: &mut App) -> AppResult<()> {
    let Some(_lock) = lock::try_whole_pool(&app.instance)? else { return Ok(()) };
    lock::sweep(&app.instance);
    for name in pool::names(app, POOL_TMP)? {
        pool::delete_in(app, POOL_TMP, &name)?;
    }
    for id in app.store.doomed_templates()? {
        pool::delete_template(app, &id)?;
        record::delete(app, &id)?;
        app.store.forget_template(&id)?;
    }
    for name in pool::names(app, POOL_TEMPLATES)? {
        // Put in place by a command that was killed before it could say so.
        let id = TemplateId::new(&name).ok();
        let known = id.as_ref().map(|id| app.store.template(id)).transpose()?.flatten();
        if known.is_none() {
            pool::delete_in(app, POOL_TEMPLATES, &name)?;
            id.map_or(Ok(()), |id| record::delete(app, &id))?;
        }
    }
    record::sweep(app);
    for work in app.store.unfinished_work()? {
        app.store.finish_work(&work.id)?;
    }
    Ok(())
}

fn failed(what: String, e: &dyn std::error::Error, lacking: bool) -> AppError {
    AppError::Template { what, reason: error_text(e), hint: None, lacking }
}
