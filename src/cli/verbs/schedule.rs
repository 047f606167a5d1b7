use crate::api::schedules::{List, Run};
use crate::cli::error::{CliError, CliResult, DONE};
use crate::cli::output::table::Table;
use crate::cli::output::{RowsArgs, note, print_rows, time};
use crate::cli::report::report;
use crate::cli::request::ask;
use crate::cli::several::owners;

/// Make snapshots by themselves, and let them expire
///
/// 'snapshots.schedule' says when a container's snapshots are made, 'snapshots.retention' and
/// 'snapshots.expiry' which of them are kept. nagaya-schedule.timer runs 'nagaya schedule run' every
/// minute; where there is no systemd, any cron does.
///
/// Examples:
///   nagaya config set web01 snapshots.schedule='@hourly' snapshots.retention='24 hourly, 7 daily'
///   nagaya schedule list
///   * * * * * root nagaya schedule run                      a line of /etc/cron.d
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ScheduleArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    Run(RunArgs),
    /// List the containers that have a schedule
    ///
    /// Examples:
    ///   nagaya schedule list
    #[command(verbatim_doc_comment, visible_alias = "ls")]
    List(RowsArgs),
}

/// Delete what has expired, and make the snapshots that are due
///
/// What was due while the host was down is made up for, once. As root, it does this for every owner.
///
/// Exit codes: 0 when all is done, 1 or more when something could not be.
///
/// Examples:
///   nagaya schedule run
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct RunArgs {
    /// For one owner only
    #[arg(long, hide = true)]
    own: bool,
}

pub fn run(args: ScheduleArgs) -> CliResult<i32> {
    match args.verb {
        Verb::Run(args) if owners::for_all(args.own) => owners::each(&["schedule", "run"]),
        Verb::Run(_) => see_to(),
        Verb::List(args) => {
            let plans = ask(&mut crate::cli::open()?, List {})?;
            let mut table = Table::new(&["name", "schedule", "next"]);
            for plan in &plans {
                let next = plan.next.map(|at| time::rfc3339(at.0)).unwrap_or_default();
                table.row(vec![plan.container.clone(), plan.schedule.clone(), next]);
            }
            print_rows(args.format, &plans, &table)?;
            Ok(DONE)
        }
    }
}

fn see_to() -> CliResult<i32> {
    let mut worst = DONE;
    for done in ask(&mut crate::cli::open()?, Run {})? {
        let name = done.container;
        if !done.deleted.is_empty() {
            note(&format!("{name}: deleted {}", done.deleted.join(", ")));
        }
        if let Some(made) = done.made {
            note(&format!("{name}: made {made}"));
        }
        if let Some(error) = done.error {
            worst = worst.max(report(&CliError::App(error), Some(&name)));
        }
    }
    Ok(worst)
}
