use crate::api::operations::{List, Show};
use crate::cli::error::{CliResult, DONE};
use crate::cli::open;
use crate::cli::output::table::{Table, pairs};
use crate::cli::output::{Format, RowsArgs, RowsFormat, print, print_json, print_rows, time};
use crate::cli::request::ask;
use crate::model::operation::Operation;

/// See what is under way and what was done last
///
/// Whatever takes several steps is an operation: making and deleting containers, building, importing
/// and deleting templates. Each step is recorded before it is taken. Where a command was killed, the
/// next command finishes the operation or undoes it. The last hundred that have ended are kept.
///
/// Examples:
///   nagaya operation list
///   nagaya operation list --format json
///   nagaya operation show 3f2a
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct OperationArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// List operations, the latest first
    List(RowsArgs),
    /// Show one operation
    Show(ShowArgs),
}

#[derive(clap::Args)]
struct ShowArgs {
    /// Its id, or how that begins
    #[arg(value_name = "ID")]
    operation: String,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "table")]
    format: Format,
}

pub fn run(args: OperationArgs) -> CliResult<i32> {
    let mut app = open()?;
    match args.verb {
        Verb::List(RowsArgs { format }) => list(&ask(&mut app, List {})?, format),
        Verb::Show(args) => show(&*ask(&mut app, Show { id: args.operation })?, args.format),
    }
}

fn list(all: &[Operation], format: RowsFormat) -> CliResult<i32> {
    let mut table = Table::new(&["id", "kind", "subject", "status", "step", "begun", "took"]);
    for operation in all {
        table.row(vec![
            operation.id.to_string(),
            operation.kind.as_str().to_owned(),
            operation.subject.clone(),
            operation.status.as_str().to_owned(),
            operation.step_name().to_owned(),
            time::age(time::now(), operation.created_at / 1000),
            operation.duration().map(took).unwrap_or_default(),
        ]);
    }
    print_rows(format, &all, &table)?;
    Ok(DONE)
}

fn show(operation: &Operation, format: Format) -> CliResult<i32> {
    if format == Format::Json {
        print_json(operation)?;
        return Ok(DONE);
    }
    let mut rows = vec![
        ("id", operation.id.to_string()),
        ("kind", operation.kind.as_str().to_owned()),
        ("subject", operation.subject.clone()),
        ("status", operation.status.as_str().to_owned()),
        (
            "step",
            format!("{} ({} of {})", operation.step_name(), operation.step + 1, operation.kind.steps().len()),
        ),
        ("begun", time::rfc3339(operation.created_at / 1000)),
        ("process", operation.holder.to_string()),
    ];
    if let Some(container) = &operation.container {
        rows.insert(3, ("container id", container.to_string()));
    }
    if let (Some(end), Some(duration)) = (operation.ended_at, operation.duration()) {
        rows.push(("ended", time::rfc3339(end / 1000)));
        rows.push(("took", took(duration)));
    }
    if let Some(asked) = operation.params.as_object().filter(|asked| !asked.is_empty()) {
        let asked: Vec<String> = asked.iter().map(|(key, value)| format!("{key}={value}")).collect();
        rows.push(("asked for", asked.join(" ")));
    }
    if let Some(error) = &operation.error {
        rows.push(("error", error.clone()));
    }
    print(&pairs(&rows))?;
    Ok(DONE)
}

/// Milliseconds as people read them: `31 ms`, `2.4 s`.
fn took(milliseconds: i64) -> String {
    if milliseconds < 1000 {
        format!("{milliseconds} ms")
    } else {
        format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        for (milliseconds, text) in [(0, "0 ms"), (999, "999 ms"), (1000, "1.0 s"), (61_250, "61.2 s")] {
            assert_eq!(took(milliseconds), text);
        }
    }
}
