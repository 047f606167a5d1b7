use std::io::{self, BufRead, IsTerminal};
use std::path::{Path, PathBuf};

use crate::api::fleet::{Action, ApplyMachine, ApplyProfiles, Change, Kind, Plan, Step};
use crate::app::AppError;
use crate::cli::error::{CliError, CliResult, DONE};
use crate::cli::output::{Format, note, pending, print, print_json, text};
use crate::cli::request::ask;
use crate::cli::several::{child, share};
use crate::model::fleet::{MAX_TEXT, read};
use crate::model::name::Name;

/// More machines at once than other verbs work on: one that is made waits for the disk and the broker in between.
const AT_ONCE: usize = 2;

/// Make this host match a file that describes machines
///
/// Creates machines and profiles that are missing, changes what differs, starts and stops machines. It shows
/// first what it will do, and asks on a terminal. What matches is left alone, so it can be run again at any
/// time. Each machine is worked on by itself: where one fails, the others go on.
///
/// --prune also deletes the machines that an earlier apply of the same file has made and that the file no
/// longer names; never others. A file is known by its key 'name', or else by its path.
///
/// Examples:
///   nagaya apply fleet.toml
///   nagaya apply fleet.toml --dry-run
///   nagaya apply fleet.toml --prune --yes
///   generate-fleet | nagaya apply - --yes
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ApplyArgs {
    /// The file, TOML; '-' for standard input
    #[arg(value_hint = clap::ValueHint::AnyPath)]
    file: PathBuf,
    /// Show only what would be done
    #[arg(long)]
    dry_run: bool,
    /// Delete machines that the file has made and does not name any more
    #[arg(long)]
    prune: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Output format of what is to be done
    #[arg(short, long, value_enum, default_value = "table")]
    format: Format,
}

pub fn run(args: ApplyArgs) -> CliResult<i32> {
    let text = contents(&args.file)?;
    let in_file = |source| CliError::Fleet { path: args.file.clone(), source: Box::new(source) };
    let described = read(&text).map_err(in_file)?;
    let known = described.name.is_some();
    let file = place(&args.file)?;
    let prune = args.prune;
    if prune && !known && file.is_none() {
        return Err(AppError::advised(
            "what has made which machine is not known of standard input",
            "give the file a name: name = \"shop\"",
        )
        .into());
    }
    // In children, because opening the instance gives up root, which each machine needs anew.
    let plan = || Plan { text: text.clone(), file: file.clone(), prune };
    let steps: Vec<Step> =
        child::in_child("plan what is to be done", || ask(&mut crate::cli::open_to_make()?, plan()))?;
    match args.format {
        Format::Json => print_json(&steps)?,
        Format::Table => print(&sheet(&steps))?,
    }
    if args.dry_run || steps.is_empty() {
        return Ok(DONE);
    }
    may_go_on(&args, &steps)?;
    if steps.iter().any(|step| step.kind == Kind::Profile) {
        child::in_child("change the profiles", || {
            let waiting = ask(
                &mut crate::cli::open_to_make_from(described.devices_of_profiles())?,
                ApplyProfiles { text: text.clone() },
            )?;
            pending::of_profile(&waiting);
            Ok(())
        })?;
    }
    let apply = |name: &Name| {
        let request = ApplyMachine { text: text.clone(), file: file.clone(), prune, name: name.clone() };
        let machine = described.machines.iter().find(|machine| machine.name == *name);
        let devices = machine.into_iter().flat_map(|machine| &machine.devices);
        pending::of_container(name.as_str(), &ask(&mut crate::cli::open_to_make_from(devices)?, request)?);
        Ok(())
    };
    // What goes may have addresses that others are to get.
    let (gone, others): (Vec<_>, Vec<_>) = steps
        .iter()
        .filter(|step| step.kind == Kind::Machine)
        .partition(|step| step.action == Action::Delete);
    let mut worst = DONE;
    for part in [gone, others] {
        let names = part.iter().map(|step| crate::cli::name(&step.name)).collect::<CliResult<Vec<_>>>()?;
        worst = worst.max(share::share_out(names, AT_ONCE * share::usual(), apply));
    }
    Ok(worst)
}

fn contents(path: &Path) -> CliResult<String> {
    let text = match path.to_str() {
        Some("-") => bounded(io::stdin().lock()),
        _ => std::fs::File::open(path).and_then(bounded),
    };
    text.map_err(|source| CliError::OpenFile { path: path.to_owned(), source })
}

fn bounded(from: impl io::Read) -> io::Result<String> {
    let mut text = String::new();
    io::Read::read_to_string(&mut io::Read::take(from, MAX_TEXT as u64 + 8), &mut text)?;
    Ok(text)
}

/// Where the file is, whatever it was called; none for standard input.
fn place(path: &Path) -> CliResult<Option<String>> {
    if path.to_str() == Some("-") {
        return Ok(None);
    }
    let whole = std::fs::canonicalize(path);
    let whole = whole.map_err(|source| CliError::OpenFile { path: path.to_owned(), source })?;
    Ok(Some(whole.to_string_lossy().into_owned()))
}

/// Asks on a terminal. Elsewhere, only what deletes data has to be allowed.
fn may_go_on(args: &ApplyArgs, steps: &[Step]) -> CliResult<()> {
    if args.yes {
        return Ok(());
    }
    let deletes = steps.iter().any(|step| step.action == Action::Delete);
    if io::stdin().is_terminal() && args.file.to_str() != Some("-") {
        eprint!("Do that? [y/N] ");
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).map_err(CliError::Input)?;
        if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
            return Ok(());
        }
        note("nothing was changed");
        return Err(CliError::Reported(1));
    }
    match deletes {
        true => Err(AppError::advised("machines would be deleted", "if that is meant, add --yes").into()),
        false => Ok(()),
    }
}

/// What is to be done, for people.
fn sheet(steps: &[Step]) -> String {
    let mut lines = String::new();
    for step in steps {
        let kind = match step.kind {
            Kind::Profile => "profile ",
            Kind::Machine => "",
        };
        lines += &format!("{kind}{}: {}\n", text::line(&step.name), action(step));
        for change in &step.changes {
            lines += &format!("  {}\n", text::line(&changed(change, step.action == Action::Create)));
        }
    }
    match steps.len() {
        0 => "Everything is as the file says.\n".to_owned(),
        _ => lines + &count(steps),
    }
}

fn action(step: &Step) -> String {
    let word = match step.action {
        Action::Create => "create",
        Action::Change => "change",
        Action::Start => return "start".to_owned(),
        Action::Stop => "stop",
        Action::Delete => "delete",
        Action::Conflict => {
            return format!("cannot be so: {}", text::line(step.reason.as_deref().unwrap_or_default()));
        }
    };
    let from = step.template.as_ref().map(|template| format!(" from {}", text::line(template)));
    format!("{word}{}{}", from.unwrap_or_default(), if step.start { ", start" } else { "" })
}

fn changed(Change { key, from, to, restart }: &Change, is_new: bool) -> String {
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "(not set)".to_owned());
    let waits = if *restart { ", at its next start" } else { "" };
    match is_new {
        true => format!("{key} = {}", value(to)),
        false => format!("{key}: {} -> {}{waits}", value(from), value(to)),
    }
}

/// How many of which kind.
fn count(steps: &[Step]) -> String {
    let words = [
        (Action::Create, "to create"),
        (Action::Change, "to change"),
        (Action::Start, "to start"),
        (Action::Stop, "to stop"),
        (Action::Delete, "to delete"),
        (Action::Conflict, "that cannot be so"),
    ];
    let number = |wanted| steps.iter().filter(|step| step.action == wanted).count();
    let counts = words.iter().map(|(action, words)| (number(*action), words)).filter(|(n, _)| *n > 0);
    format!("{}.\n", counts.map(|(n, words)| format!("{n} {words}")).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fleet::{Present, plan};

    #[test]
    fn a_plan_is_told_line_by_line() {
        let fleet = read(
            "[defaults]\ntemplate = 'tiny'\nprofiles = ['gold']\n[profiles.gold]\nconfig = { limits.cpu = 2 }\n\
             [machines.a]\nconfig = { user.x = 'y' }\n[machines.b]\nprofiles = ['iron']\n",
        );
        let mut steps = plan(&fleet.unwrap(), &Present::default(), None, false);
        let change = |key: &str, from: Option<&str>, restart| Change {
            key: key.to_owned(),
            from: from.map(str::to_owned),
            to: None,
            restart,
        };
        let changes =
            vec![change("limits.kernel.nofile", Some("9"), true), change("user.x", Some("1"), false)];
        steps.push(Step { changes, action: Action::Change, name: "c".to_owned(), ..steps[2].clone() });
        snapbox::assert_data_eq!(
            sheet(&steps),
            snapbox::str![[r#"
profile gold: create
  limits.cpu = 2
a: create from tiny, start
  user.x = y
b: cannot be so: there is no profile 'iron'
c: change
  limits.kernel.nofile: 9 -> (not set), at its next start
  user.x: 1 -> (not set)
2 to create, 1 to change, 1 that cannot be so.

"#]]
        );
        assert_eq!(sheet(&[]), "Everything is as the file says.\n");
    }
}
