//! `network repair`: puts back what other programs on the host have changed in networks, links and
//! firewall.

use std::time::Instant;

use crate::app::containers::{attached, state};
use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::app::instance::lock;
use crate::app::{firewall, network};
use crate::model::container::{Container, Phase, State};
use crate::model::name::Name;
use crate::model::network::Network;
use crate::model::nic::NicOrder;
use crate::model::waits;
use crate::sys::error_text;
use crate::sys::fs::lock::Lock;

/// The result so far.
#[derive(Default)]
struct Outcome {
    /// What was repaired, a sentence for each.
    mended: Vec<String>,
    failed: Vec<String>,
    cut_off: Vec<Name>,
}

impl Outcome {
    fn try_to(&mut self, what: impl FnOnce() -> String, done: AppResult<()>) {
        if let Err(e) = done {
            self.failed.push(format!("{}: {}", what(), error_text(&e)));
        }
    }
}

/// Puts back what is missing of the networks that running containers are on, of the host's side of their
/// links, and of the firewall; lets their traffic through firewalls that have come meanwhile. Goes on past
/// what cannot be done. Returns what was repaired in links.
///
/// # Errors
/// `CutOff` where a link is gone for good, `Unrepaired` where something else could not be put back.
pub fn repair(app: &mut App) -> AppResult<Vec<String>> {
    let mut outcome = Outcome::default();
    let mut running = app.store.containers()?;
    running.retain(|container| state::of(app, container) != State::Stopped);
    let networks = networks(app, &running)?;
    for network in &networks {
        let done = app.broker.ensure_network(network).map(drop).map_err(AppError::from);
        outcome.try_to(|| format!("network '{}'", network.name), done);
    }
    // Before the links, because some of these may have to wait for other commands.
    outcome.try_to(|| "firewall".to_owned(), firewall::repair(app));
    let deadline = Instant::now() + waits::LOCK_CONTAINER_TO_REPAIR;
    for container in &running {
        let done = links(app, container, deadline, &mut outcome);
        outcome.try_to(|| format!("container '{}'", container.name), done);
    }
    network::answer_for(app, &networks);
    let Outcome { mended, failed, cut_off } = outcome;
    match (failed.is_empty(), cut_off.is_empty()) {
        (true, true) => Ok(mended),
        (true, false) => Err(AppError::CutOff(cut_off)),
        (false, true) => Err(AppError::Unrepaired(failed.join("; "))),
        (false, false) => {
            Err(AppError::Unrepaired([failed.join("; "), AppError::CutOff(cut_off).to_string()].join("; ")))
        }
    }
}

/// Those that the containers are on, and those that they were on when they were started.
fn networks(app: &App, running: &[Container]) -> AppResult<Vec<Network>> {
    let mut bridges = Vec::new();
    let mut networks: Vec<Network> = Vec::new();
    for container in running {
        bridges.extend(attached::orders(app, container)?.0.into_iter().map(|order| order.bridge));
        let more = network::of(app, container)?;
        bridges.extend(more.into_iter().map(|network| network.bridge));
    }
    for network in app.store.networks()? {
        if bridges.contains(&network.bridge) {
            networks.push(network);
        }
    }
    Ok(networks)
}

/// The host's side of a running container's links.
fn links(app: &mut App, container: &Container, deadline: Instant, outcome: &mut Outcome) -> AppResult<()> {
    let Some(_lock) = locked(app, container, deadline)? else { return Ok(()) };
    // It may have ended, or been started anew, before we had the lock.
    let Some(container) = app.store.container(&container.name)? else { return Ok(()) };
    if state::of(app, &container) == State::Stopped || container.phase != Phase::Settled {
        return Ok(());
    }
    let (orders, is_known) = attached::orders(app, &container)?;
    for order in orders.iter().filter(|order| order.nic.has_host_end()) {
        match app.broker.mend_link(container.id.as_str(), order) {
            Ok((true, found)) => outcome.mended.extend(told(&container, order, &found)),
            // The links of a guest that has just ended go with it.
            Ok((false, _)) if is_known && state::guest_lives(app, &container.id) => {
                if !outcome.cut_off.contains(&container.name) {
                    outcome.cut_off.push(container.name.clone());
                }
            }
            Ok((false, _)) => {}
            Err(e) => {
                let what = || format!("device '{}' of container '{}'", order.nic.device, container.name);
                outcome.try_to(what, Err(e.into()));
            }
        }
    }
    Ok(())
}

fn told(container: &Container, order: &NicOrder, found: &[String]) -> Option<String> {
    (!found.is_empty()).then(|| {
        let (name, device) = (&container.name, &order.nic.device);
        format!("container '{name}': the link of device '{device}' {}: put right", found.join(", "))
    })
}

fn locked(app: &App, container: &Container, deadline: Instant) -> AppResult<Option<Lock>> {
    loop {
        let lock = lock::try_container(&app.instance, &container.id)?;
        if lock.is_some() || Instant::now() >= deadline {
            return Ok(lock);
        }
        std::thread::sleep(waits::REPAIR_LOCK_POLL);
    }
}
