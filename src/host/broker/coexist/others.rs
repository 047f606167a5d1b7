//! Other firewalls of the host. What they drop is dropped, whatever our own tables accept. So where one
//! would drop guests' traffic, it gets an exception in its own form; our own tables still filter that
//! traffic.

#[cfg(test)]
mod tests;

use std::path::Path;

use super::finding::{Finding, Who};
use super::{firewalld, iptables};
use crate::host::services::bus::{self, BusError};
use crate::model::instance::Instance;
use crate::model::network::is_interface_name;
use crate::render::iptables::Chains;
pub use crate::render::iptables::Link;
use crate::sys::error_text;
use crate::sys::net::nft::{self, BaseChain, BaseHook, NftError};

/// Why other firewalls could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum CoexistError {
    #[error("'{0}' cannot be an interface")]
    Name(String),
    #[error(transparent)]
    Nft(#[from] NftError),
}

/// Lets the traffic of guests behind `links`, which are all of this owner's, through whatever would
/// drop it. Cheap where nothing does: one question to the kernel and one to the system bus.
///
/// # Errors
/// Where the kernel does not tell its chains. What could not be let through is in the findings, as
/// not handled: the caller warns.
pub async fn ensure(instance: &Instance, links: &[Link]) -> Result<Vec<Finding>, CoexistError> {
    ensure_with(Path::new(bus::SYSTEM), instance, links).await
}

async fn ensure_with(bus: &Path, instance: &Instance, links: &[Link]) -> Result<Vec<Finding>, CoexistError> {
    links.iter().try_for_each(|link| check(&link.name))?;
    if instance.is_daemonless() {
        // Nobody else is in that network namespace.
        return Ok(Vec::new());
    }
    let chains = nft::chains()?;
    let mut findings = iptables::ensure(&chains, &own(instance), links);
    findings.extend(of_firewalld(firewalld::ensure(bus, links).await));
    findings.extend(unknown(&chains, instance));
    Ok(findings)
}

/// Looks without changing anything. `names` are the links of guests that are known.
pub async fn look(instance: &Instance, names: &[String]) -> Result<Vec<Finding>, CoexistError> {
    look_with(Path::new(bus::SYSTEM), instance, names).await
}

async fn look_with(bus: &Path, instance: &Instance, names: &[String]) -> Result<Vec<Finding>, CoexistError> {
    if instance.is_daemonless() {
        return Ok(Vec::new());
    }
    let chains = nft::chains()?;
    let mut findings = iptables::look(&chains, &own(instance));
    findings.extend(of_firewalld(firewalld::look(bus, names).await));
    findings.extend(unknown(&chains, instance));
    Ok(findings)
}

/// Removes the exceptions for the links of these names.
pub async fn remove(instance: &Instance, names: &[String]) -> Result<(), CoexistError> {
    remove_with(Path::new(bus::SYSTEM), instance, names).await
}

async fn remove_with(bus: &Path, instance: &Instance, names: &[String]) -> Result<(), CoexistError> {
    names.iter().try_for_each(|name| check(name))?;
    if instance.is_daemonless() {
        return Ok(());
    }
    iptables::forget(&nft::chains()?, &own(instance), names);
    if let Err(e) = firewalld::forget(bus, names).await {
        tracing::warn!("{}", error_text(&e));
    }
    Ok(())
}

fn own(instance: &Instance) -> Chains {
    Chains::of(&instance.nft_table())
}

/// Names come from callers, and go into lines of rules.
fn check(name: &str) -> Result<(), CoexistError> {
    match is_interface_name(name) {
        true => Ok(()),
        false => Err(CoexistError::Name(name.to_owned())),
    }
}

/// A firewalld that does not answer has let nothing through.
fn of_firewalld(found: Result<Vec<Finding>, BusError>) -> Vec<Finding> {
    found.unwrap_or_else(|e| {
        tracing::warn!("{}", error_text(&e));
        vec![Finding { who: Who::Firewalld, place: "firewalld".to_owned(), is_handled: false }]
    })
}

/// Chains that drop what is forwarded and that nobody but their author may change.
fn unknown(chains: &[BaseChain], instance: &Instance) -> Vec<Finding> {
    let ours = |table: &str| {
        let rest = table.strip_prefix(instance.name());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    chains
        .iter()
        .filter(|chain| chain.hook == Some(BaseHook::Forward) && chain.drops)
        .filter(|chain| ["ip", "ip6", "inet", "bridge"].contains(&chain.family))
        .filter(|chain| !ours(&chain.table) && !iptables::is_of_iptables(chain))
        .map(|chain| Finding {
            who: Who::Unknown,
            place: format!("{} {} {}", chain.family, chain.table, chain.name),
            is_handled: false,
        })
        .collect()
}
