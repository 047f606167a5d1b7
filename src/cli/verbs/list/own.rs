//! The containers of one owner.

use super::filter::Filter;
use crate::api::containers::{Container, List};
use crate::app::App;
use crate::cli::error::CliResult;
use crate::cli::request::ask;

/// All containers, before they are filtered.
pub fn rows(app: &mut App, filter: &Filter) -> CliResult<Vec<Container>> {
    let names = if filter.is_names_only() { filter.names.as_slice() } else { &[] };
    ask(app, List { names: names.to_vec() })
}
