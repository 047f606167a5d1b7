//! The journal: an operation is a procedure of steps, each of which is recorded before it is taken.

use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::model::container::Container;
use crate::model::name::ContainerId;
use crate::model::operation::{NewOperation, Operation, OperationId, OperationKind};
use crate::sys::error_text;
use crate::sys::kernel::clock::now_ms;
use crate::sys::kernel::random::random;

/// One step. Both directions are idempotent: a command that was killed may have taken it or not.
pub struct Step<C> {
    pub act: fn(&mut App, &mut C) -> AppResult<()>,
    pub undo: fn(&mut App, &mut C) -> AppResult<()>,
}

/// What an operation about a container consists of. `C` is what the steps share.
pub struct Procedure<'a, C> {
    /// In their order. Before them comes the record of the operation, which is step 0.
    pub steps: &'a [Step<C>],
    /// Ends the operation in one transaction with what becomes of its subject.
    pub finish: fn(&mut App, &OperationId, &C) -> AppResult<()>,
    /// Ends it when all steps are undone; the text says why they were.
    pub give_up: fn(&mut App, &OperationId, &C, &str) -> AppResult<()>,
    pub container: fn(&C) -> &Container,
    /// It makes the container: where it is undone, nothing of that is left.
    pub makes: bool,
}

/// For a step that has nothing to undo.
pub fn nothing<C>(_: &mut App, _: &mut C) -> AppResult<()> {
    Ok(())
}

/// The record of a new operation about a container.
pub fn of_container(
    kind: OperationKind,
    container: &ContainerId,
    subject: &str,
    params: serde_json::Value,
) -> AppResult<NewOperation> {
    Ok(NewOperation { container: Some(container.clone()), params, ..of_now(kind, subject)? })
}

/// Records a new operation in the pool, whose lock the caller holds.
pub fn of_pool(app: &mut App, kind: OperationKind, subject: &str) -> AppResult<OperationId> {
    let new = of_now(kind, subject)?;
    app.store.begin_operation(&new)?;
    Ok(new.id)
}

/// The record of a new operation about a profile, to be stored with what is changed of it.
pub fn of_profile(kind: OperationKind, subject: &str) -> AppResult<NewOperation> {
    of_now(kind, subject)
}

/// The record of an operation that this process begins now, about no container and with nothing asked for.
fn of_now(kind: OperationKind, subject: &str) -> AppResult<NewOperation> {
    Ok(NewOperation {
        id: OperationId::from_random(random()?),
        kind,
        subject: subject.to_owned(),
        container: None,
        params: serde_json::Value::Null,
        holder: std::process::id(),
        created_at: now_ms(),
    })
}

/// Takes all steps of an operation that is recorded. The caller holds its lock. Where one fails, what was done
/// is undone, and the error is that of the step.
pub fn run<C>(
    app: &mut App,
    id: &OperationId,
    procedure: &Procedure<'_, C>,
    context: &mut C,
) -> AppResult<()> {
    let Err(e) = finish(app, id, procedure, context) else { return Ok(()) };
    if let Err(left) = undo(app, id, procedure, context, &error_text(&e)) {
        let name = &(procedure.container)(context).name;
        tracing::warn!("what is left of '{name}' is removed by the next command: {left}");
    }
    Err(e)
}

/// The same for one that is never undone: where a step fails, the next command takes all of them again.
pub fn finish<C>(
    app: &mut App,
    id: &OperationId,
    procedure: &Procedure<'_, C>,
    context: &mut C,
) -> AppResult<()> {
    for (number, step) in (1..).zip(procedure.steps) {
        app.store.take_step(id, number)?;
        (step.act)(app, context)?;
    }
    (procedure.finish)(app, id, context)
}

/// Undoes all steps, the last first. That a step was recorded may be lost by a power cut, so those are undone
/// too that seem not to have been taken.
pub fn undo<C>(
    app: &mut App,
    id: &OperationId,
    procedure: &Procedure<'_, C>,
    context: &mut C,
    why: &str,
) -> AppResult<()> {
    let made = procedure.makes.then(|| &(procedure.container)(context).id);
    app.store.begin_undoing(id, made, why)?;
    for step in procedure.steps.iter().rev() {
        (step.undo)(app, context)?;
    }
    (procedure.give_up)(app, id, context, why)
}

/// All operations that are under way, and the last hundred that have ended; the latest first.
pub fn list(app: &App) -> AppResult<Vec<Operation>> {
    Ok(app.store.all_operations()?)
}

/// The operation whose id begins so.
pub fn show(app: &App, id: &str) -> AppResult<Operation> {
    let mut found: Vec<Operation> = list(app)?;
    found.retain(|operation| operation.id.as_str().starts_with(id));
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(AppError::NoOperation(id.to_owned())),
        _ => Err(AppError::SeveralOperations(id.to_owned())),
    }
}
