//! Logins of OpenRC and runit, put at the console once.

use std::collections::BTreeSet;

use super::links::end_of_links;
use super::writer::Writer;
use crate::model::guest_file::{GuestFile, When};
use crate::render::guest_files::{Logins, for_console, logins};
use crate::sys::fs::rooted::Rooted;

/// Where OpenRC and runit have links to the services that they start.
const DIRS: [&str; 4] =
    ["/etc/runlevels/default", "/etc/runit/runsvdir/default", "/etc/service", "/var/service"];

pub fn move_to_console(writer: &mut Writer<'_>, tree: &Rooted<'_>) {
    // Each directory once: one may be a link to the other.
    let dirs: BTreeSet<_> = DIRS.iter().filter_map(|dir| end_of_links(tree, dir)).collect();
    for dir in &dirs {
        let names = tree.names(dir).unwrap_or_default();
        let links = names.into_iter().filter_map(|name| String::from_utf8(name).ok());
        let links: Vec<_> = links.filter(|name| target(tree, dir, name).is_some()).collect();
        let links: Vec<_> = links.iter().map(String::as_str).collect();
        if let Some(logins) = logins(&links) {
            move_in(writer, tree, dir, &logins);
        }
    }
}

fn move_in(writer: &mut Writer<'_>, tree: &Rooted<'_>, dir: &str, logins: &Logins<'_>) {
    if !writer.is_first(dir, "logins are at the console") {
        return;
    }
    if let (Some(name), Some(target)) = (&logins.at_console, target(tree, dir, logins.first)) {
        let at_console = for_console(&target, logins.terminal);
        make_service(writer, tree, &below(dir, &target), &below(dir, &at_console), logins.terminal);
        writer.link(&format!("{dir}/{name}"), &at_console);
    }
    for service in &logins.out {
        writer.unlink(&format!("{dir}/{service}"));
    }
}

/// The service at the console, made of the one at a terminal: a link beside it as OpenRC has them, a
/// directory with the program `run` as runit has them, or a script. An existing one is left as it is.
fn make_service(writer: &mut Writer<'_>, tree: &Rooted<'_>, from: &str, to: &str, terminal: &str) {
    let (dir, name) = from.rsplit_once('/').unwrap_or((".", from));
    if let Some(script) = target(tree, dir, name) {
        return writer.link(to, &for_console(&script, terminal));
    }
    let (from, to) = match tree.is_directory(from) {
        Ok(true) => (format!("{from}/run"), format!("{to}/run")),
        _ => (from.to_owned(), to.to_owned()),
    };
    if tree.is_regular_file(&to).unwrap_or(true) {
        return;
    }
    if let Some(text) = writer.read(&from) {
        let content = for_console(&text, terminal);
        writer.put(&GuestFile { path: to, content, mode: 0o755, when: When::UnlessChanged });
    }
}

/// Where a link in a directory leads; none where it is no link.
fn target(tree: &Rooted<'_>, dir: &str, name: &str) -> Option<String> {
    String::from_utf8(tree.link_target(dir, name).ok()??).ok()
}

/// A link's target, as seen from the root.
fn below(dir: &str, target: &str) -> String {
    if target.starts_with('/') { target.to_owned() } else { format!("{dir}/{target}") }
}
