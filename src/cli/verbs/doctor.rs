use crate::api::doctor::{Check, CheckHost, Status};
use crate::cli::error::{CliResult, DONE, LACKING};
use crate::cli::output::table::Table;
use crate::cli::output::text;
use crate::cli::output::{Colour, Format, print, print_json};
use crate::cli::request::ask_host;

/// Check what this host offers and what it lacks
///
/// It changes nothing. The exit code is 3 if something is missing that containers need to run. What
/// is degraded works, but less well.
///
/// Examples:
///   nagaya doctor
///   nagaya doctor --format json | jq '.[] | select(.status != "ok")'
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct DoctorArgs {
    /// How to print it
    #[arg(short, long, value_enum, default_value = "table")]
    format: Format,
}

pub fn run(args: DoctorArgs) -> CliResult<i32> {
    let checks = ask_host(CheckHost {})?;
    match args.format {
        Format::Json => print_json(&checks)?,
        Format::Table => print(&sheet(&checks))?,
    }
    let lacking = checks.iter().any(|c| matches!(c.status, Status::Missing));
    Ok(if lacking { LACKING } else { DONE })
}

fn sheet(checks: &[Check]) -> String {
    let mut table = Table::new(&["status", "area", "check", "detail"]).paint(0, colour);
    for check in checks {
        let status = word(&check.status).to_owned();
        table.row(vec![status, check.area.to_owned(), check.name.to_owned(), check.detail.clone()]);
    }
    let mut out = table.text();
    let mut fixes = checks
        .iter()
        .filter(|c| c.status >= Status::Degraded)
        .filter_map(|c| c.fix.as_ref().map(|fix| format!("  {}: {}\n", text::line(c.name), text::line(fix))))
        .peekable();
    if fixes.peek().is_some() {
        out.push_str("\nWhat to do:\n");
        out.extend(fixes);
    }
    out
}

fn word(status: &Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Later => "later",
        Status::Untried => "untried",
        Status::Degraded => "degraded",
        Status::Missing => "missing",
    }
}

fn colour(status: &str) -> Option<Colour> {
    match status {
        "ok" => Some(Colour::Green),
        "degraded" => Some(Colour::Yellow),
        "missing" => Some(Colour::Red),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_comes_with_what_to_do() {
        let check = |name, status, fix: Option<&str>| Check {
            area: "kernel",
            name,
            status,
            detail: "as found".to_owned(),
            fix: fix.map(str::to_owned),
        };
        let checks = [
            check("overlayfs", Status::Ok, Some("nothing")),
            check("cgroup2", Status::Missing, Some("mount it")),
            check("quota", Status::Degraded, None),
        ];
        snapbox::assert_data_eq!(
            sheet(&checks),
            snapbox::str![[r#"
STATUS     AREA     CHECK       DETAIL
ok         kernel   overlayfs   as found
missing    kernel   cgroup2     as found
degraded   kernel   quota       as found

What to do:
  cgroup2: mount it

"#]]
        );
    }
}
