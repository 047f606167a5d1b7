//! Everybody's containers, for root.

use super::filter::Filter;
use super::own;
use crate::api::containers::Container;
use crate::api::owners::List;
use crate::app::instance::owner::Wish;
use crate::app::run::Place;
use crate::cli::error::{CliError, CliResult, DONE};
use crate::cli::output::note;
use crate::cli::report::report;
use crate::cli::request::ask_host;
use crate::model::instance::Instance;
use crate::model::waits;
use crate::sys::process::fork::Fork;
use crate::sys::process::report::Running;
use crate::sys::{SysResult, error_text};

/// The containers that `filter` takes, by owner, and the highest exit code of those that failed. A process
/// of its own lists each owner's containers, and becomes that owner for it.
pub fn all(filter: &Filter) -> CliResult<(Vec<Container>, i32)> {
    let mut found = Vec::new();
    let mut worst = DONE;
    let base = crate::cli::base_instance()?;
    let asked: Vec<_> = ask_host(List {})?
        .into_iter()
        .map(|owner| {
            let asked = ask(&base, &owner);
            (owner, asked)
        })
        .collect();
    for (owner, asked) in asked {
        match asked.and_then(Running::finish) {
            Ok(Ok(rows)) => {
                found.extend(rows.into_iter().map(|row| Container { owner: Some(owner.clone()), ..row }));
            }
            // It has said why.
            Ok(Err(code)) => worst = worst.max(code),
            Err(error) => {
                note(&format!("{owner}: {}", error_text(&error)));
                worst = worst.max(CliError::Fork(error).code());
            }
        }
    }
    filter.check_named(&found)?;
    found.retain(|listed| filter.takes(listed));
    Ok((found, worst))
}

/// A process that lists one owner's containers. It becomes that owner, who can hold it up; a failure it
/// tells of by itself, and returns its exit code.
fn ask(base: &Instance, owner: &str) -> SysResult<Running<Result<Vec<Container>, i32>>> {
    let wish = Wish { owner: Some(owner.to_owned()), daemonless: false };
    let place = Place { base: base.clone(), wish };
    Fork::new("list its containers").deadline(waits::OWNERS_LIST).begin(|_| {
        let opened = place.instance().and_then(crate::app::instance::open);
        let rows = opened.map_err(CliError::from).and_then(|mut app| own::rows(&mut app, &Filter::default()));
        rows.map_err(|error| report(&error, None))
    })
}
