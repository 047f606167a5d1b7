//! Templates: building, importing, listing, deleting.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use super::builder::Builder;
use super::record;
use crate::app::Progress;
use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::app::instance::layout::{POOL_TEMPLATES, POOL_TMP};
use crate::app::instance::lock;
use crate::app::operations;
use crate::app::progress::Bytes;
use crate::app::storage::{contents, layers, pool_admin, pools, volumes};
use crate::model::fault::Code;
use crate::model::operation::{OperationId, OperationKind};
use crate::model::pool::PoolName;
use crate::model::suggest;
use crate::model::template::{Template, TemplateFacts, TemplateId, is_template_name};
use crate::store::StoreError;
use crate::sys::SysError;
use crate::sys::error_text;
use crate::sys::fs::lock::Lock;
use crate::sys::kernel::clock::now;
use crate::sys::lack_of;
use crate::sys::process::interrupt;
use crate::sys::process::report::Watch;
use crate::sys::process::storage_ns;
use crate::sys::process::storage_ns::Job;
use crate::template::detect::DetectError;
use crate::template::recipe::{self, Recipe, RecipeError};
use crate::template::{archive, detect, shape};

/// One name of a template.
pub struct Entry {
    pub name: String,
    pub id: TemplateId,
    pub facts: TemplateFacts,
    /// Length of all its files.
    pub bytes: u64,
    /// Seconds since 1970.
    pub created_at: i64,
    /// Containers that use its content.
    pub used_by: usize,
}

/// What a file worker returns for an unpacked archive.
pub type Unpacked = (TemplateId, u64, TemplateFacts);

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
pub fn ensure(app: &mut App, name: &str, progress: &dyn Progress) -> AppResult<Template> {
    if let Some(template) = app.store.template_by_name(name)? {
        return Ok(template);
    }
    build_recipe(app, name, false, progress)
}

/// Builds a template again from its recipe; the name then stands for the new content.
pub fn build(app: &mut App, name: &str, progress: &dyn Progress) -> AppResult<Entry> {
    build_recipe(app, name, true, progress)?;
    show(app, name)
}

fn build_recipe(app: &mut App, name: &str, anew: bool, progress: &dyn Progress) -> AppResult<Template> {
    let (recipe, _) = match recipe::find(name, &recipe_dirs()) {
        Ok(found) => found,
        Err(RecipeError::Unknown { .. } | RecipeError::Name { .. }) => return Err(unknown(app, name)),
        Err(e) => return Err(failed(format!("build template '{name}'"), &e)),
    };
    interrupt::arm();
    let _lock = lock::template(&app.instance, name)?;
    // The previous holder of the lock may have built it.
    if let (false, Some(template)) = (anew, app.store.template_by_name(name)?) {
        return Ok(template);
    }
    progress.stage(&format!("building template {name}"), Some(0));
    with_work(app, OperationKind::TemplateBuild, name, |app, work| {
        let (namespace, pool) = app.storage(&PoolName::default_one())?;
        let scratch = contents::open(pool, &format!("{}/scratch", contents::work_dir(work)))
            .map_err(|e| SysError::new("open the build's scratch directory", e))?;
        let mut builder = Builder::start(namespace, &scratch, &recipe, progress)?;
        let archive = builder.archive()?;
        let unpacked = unpack(app, work, archive, &mut builder);
        if interrupt::pending() {
            // Dropped, the builder is killed.
            return Err(AppError::Interrupted);
        }
        // If both have failed, the builder's error is the cause.
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
                lack: complaint.lack,
                reason: complaint.text,
            }),
            (Ok(()), Err(e)) => Err(e),
        }
    })
    .and_then(|(work, unpacked)| publish(app, &work, name, unpacked, true))
}

/// The tree must have the init and the network tools that the recipe names, or guests would be stopped and
/// configured wrongly.
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
        lack: None,
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
    progress.stage(&format!("importing template {name}"), None);
    make(app, OperationKind::TemplateImport, name, false, |app, work| {
        unpack(app, work, archive, &mut Bytes::of(progress, size))
    })
}

/// Makes a template of the tree that `fill` makes in the directory of a piece of work. `replace`: the name may stand
/// for another one.
pub fn make(
    app: &mut App,
    kind: OperationKind,
    name: &str,
    replace: bool,
    fill: impl FnOnce(&mut App, &str) -> AppResult<Unpacked>,
) -> AppResult<Entry> {
    if !is_template_name(name) {
        return Err(StoreError::BadTemplateName { name: name.to_owned() }.into());
    }
    interrupt::arm();
    let _lock = lock::template(&app.instance, name)?;
    if !replace && app.store.template_by_name(name)?.is_some() {
        return Err(StoreError::TemplateNameTaken { name: name.to_owned() }.into());
    }
    let (work, unpacked) = with_work(app, kind, name, fill)?;
    publish(app, &work, name, unpacked, replace)?;
    show(app, name)
}

/// An operation in the pool that is under way: recorded, with a directory, and locked against the cleaner.
struct Work {
    id: OperationId,
    _lock: Lock,
}

/// Runs `body` in a temporary directory, which is removed again if it fails.
fn with_work<T>(
    app: &mut App,
    kind: OperationKind,
    name: &str,
    body: impl FnOnce(&mut App, &str) -> AppResult<T>,
) -> AppResult<(Work, T)> {
    let _lock = lock::pool_work(&app.instance)?;
    let id = operations::of_pool(app, kind, name)?;
    let work = Work { id, _lock };
    app.store.take_step(&work.id, 1)?;
    let outcome = contents::begin(app, work.id.as_str()).and_then(|()| body(app, work.id.as_str()));
    match outcome {
        Ok(value) => Ok((work, value)),
        Err(e) => {
            end(app, &work, Some(&error_text(&e)));
            Err(e)
        }
    }
}

/// Removes the directory and ends the operation: one that failed, where `error` says why.
fn end(app: &mut App, work: &Work, error: Option<&str>) {
    let ended = contents::discard(app, work.id.as_str())
        .and_then(|()| Ok(app.store.end_operation(&work.id, error)?));
    if let Err(e) = ended {
        tracing::warn!("what is left of an unfinished template is removed by the next command: {e}");
    }
}

/// Unpacks an archive into the work's tree, as root of the storage ids, with nothing else in reach.
fn unpack(app: &mut App, work: &str, archive: OwnedFd, watch: &mut dyn Watch) -> AppResult<Unpacked> {
    let (namespace, pool) = app.storage(&PoolName::default_one())?;
    let tree = contents::open(pool, &format!("{}/tree", contents::work_dir(work)))
        .map_err(|e| SysError::new("open the template's directory", e))?;
    let job = Job { namespace, root: &tree, kept: &[archive.as_fd()] };
    let outcome = storage_ns::run_with(
        &job,
        |tell| {
            let failed = |e: &(dyn std::error::Error + 'static)| (error_text(e), None, lack_of(e));
            let archive = archive.as_fd().try_clone_to_owned().map_err(|e| failed(&e))?;
            // The worker's root directory is the tree, so even a fault in what follows could reach nothing
            // else of the host.
            let root = File::open("/").map_err(|e| failed(&e))?;
            let done = archive::extract(File::from(archive), root.as_fd(), &archive::Limits::default(), tell)
                .map_err(|e| (error_text(&e), e.hint(), lack_of(&e)))?;
            let facts = detect::detect(root.as_fd()).map_err(|e| lacks(&e, root.as_fd()))?;
            Ok((done.id, done.bytes, facts))
        },
        watch,
    );
    match outcome {
        Ok(Ok(unpacked)) => Ok(unpacked),
        Ok(Err((reason, hint, lack))) => {
            Err(AppError::Template { what: "unpack the template".to_owned(), reason, hint, lack })
        }
        Err(_) if interrupt::pending() => Err(AppError::Interrupted),
        Err(e) => Err(e.into()),
    }
}

/// What a tree lacks that is not a whole system, and what to do about it.
fn lacks(error: &DetectError, root: BorrowedFd<'_>) -> (String, Option<String>, Option<Code>) {
    let text = error_text(error);
    let DetectError::NoInit = error else { return (text, None, lack_of(error)) };
    let shape = shape::of(root);
    let text = if shape.what.is_empty() { text } else { format!("{text}: {}", shape.what) };
    (text, Some(shape.hint), None)
}

/// Makes unpacked content a template, known by `name`.
fn publish(app: &mut App, work: &Work, name: &str, unpacked: Unpacked, replace: bool) -> AppResult<Template> {
    let (id, bytes, facts) = unpacked;
    app.store.take_step(&work.id, 2)?;
    let done = place(app, work, name, Template { id, facts, bytes, created_at: now() }, replace);
    end(app, work, done.as_ref().err().map(|e| error_text(e)).as_deref());
    done
}

fn place(app: &mut App, work: &Work, name: &str, new: Template, replace: bool) -> AppResult<Template> {
    let known = app.store.template(&new.id)?;
    if known.is_none() {
        contents::publish(app, work.id.as_str(), &new.id)?;
    }
    let template = known.unwrap_or(new);
    app.store.add_template(name, &template, replace)?;
    record::write(app, &template.id)?;
    Ok(template)
}

/// Deletes a name, and with the last name the content.
pub fn delete(app: &mut App, name: &str) -> AppResult<()> {
    match app.store.delete_template_name(name) {
        Err(StoreError::NoSuchTemplate { .. }) => return Err(unknown(app, name)),
        Ok(Some(_)) => clean(app)?,
        Ok(None) => {
            let _lock = lock::pool_work(&app.instance)?;
            let work = operations::of_pool(app, OperationKind::TemplateDelete, name)?;
            for (_, template) in app.store.templates()? {
                record::write(app, &template.id)?;
            }
            app.store.end_operation(&work, None)?;
        }
        Err(e) => return Err(e.into()),
    }
    Ok(())
}

/// Deletes the layers and templates that nobody needs any more, if there are any.
pub fn clean_doomed(app: &mut App) -> AppResult<()> {
    match app.store.doomed_templates()?.is_empty() {
        true => layers::clean(app),
        false => clean(app),
    }
}

/// Deletes the content of templates without a name, and what killed commands have left in the pool. If
/// another command is working there, a later command does it.
pub fn clean(app: &mut App) -> AppResult<()> {
    let Some(_lock) = lock::try_whole_pool(&app.instance)? else { return Ok(()) };
    lock::sweep(&app.instance);
    for pool in pools::present(app)? {
        for name in contents::names(app, &pool, POOL_TMP)? {
            contents::delete_in(app, &pool, POOL_TMP, &name)?;
        }
    }
    for id in app.store.doomed_templates()? {
        contents::delete_template(app, &id)?;
        record::delete(app, &id)?;
        app.store.forget_template(&id)?;
    }
    layers::clean(app)?;
    layers::sweep(app)?;
    let templates = PoolName::default_one();
    for name in contents::names(app, &templates, POOL_TEMPLATES)? {
        // A command renamed it into place and was killed before it stored that.
        let id = TemplateId::new(&name).ok();
        let known = id.as_ref().map(|id| app.store.template(id)).transpose()?.flatten();
        if known.is_none() {
            contents::delete_in(app, &templates, POOL_TEMPLATES, &name)?;
            id.map_or(Ok(()), |id| record::delete(app, &id))?;
        }
    }
    record::sweep(app);
    // With the whole pool locked, nobody is at work there.
    for left in app.store.unfinished_operations()?.into_iter().filter(|left| left.kind.is_about_pool()) {
        let settled = match left.kind {
            OperationKind::StorageCreate | OperationKind::StorageDelete => pool_admin::settle(app, &left),
            OperationKind::VolumeCreate | OperationKind::VolumeDelete => volumes::settle(app, &left),
            _ => Ok(()),
        };
        if let Err(e) = settled {
            // The next command tries again.
            tracing::warn!("cannot finish what a killed command has begun with {}: {e}", left.subject);
            continue;
        }
        let is_finished = left.kind == OperationKind::Repair || left.kind.is_finished_later();
        let killed = (!is_finished).then_some("its command was killed");
        app.store.end_operation(&left.id, left.error.as_deref().or(killed))?;
    }
    Ok(())
}

fn failed(what: String, e: &(dyn std::error::Error + 'static)) -> AppError {
    AppError::Template { what, reason: error_text(e), hint: None, lack: lack_of(e) }
}
