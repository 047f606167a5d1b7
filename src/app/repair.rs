//! `repair`: a new database, from what stands beside containers and templates.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;

use super::context::App;
use super::error::AppResult;
use super::launch::now;
use super::{firewall, template_record};
use crate::model::container::Container;
use crate::model::firewall::Block;
use crate::model::instance::Instance;
use crate::model::manifest;
use crate::model::name::ContainerId;
use crate::model::network::Network;
use crate::model::template::TemplateId;
use crate::store::Store;
use crate::sys::{Context, error_text};

/// What stands in a database alone, as far as the present one can be read.
#[derive(Default)]
struct Kept {
    networks: Vec<Network>,
    blocks: Vec<Block>,
    /// What is half made or half deleted, and could not be tidied up. It has a manifest, too.
    unsettled: Vec<Container>,
    doomed: Vec<TemplateId>,
}

impl Kept {
    fn of(present: &Store) -> Self {
        Self {
            networks: present.networks().unwrap_or_default(),
            blocks: present.blocks(now()).unwrap_or_default(),
            unsettled: present.unsettled().unwrap_or_default(),
            doomed: present.doomed_templates().unwrap_or_default(),
        }
    }

    /// Puts the blocks back: those for one container where that is there.
    fn put_blocks(&self, app: &mut App) -> AppResult<()> {
        type Said = (Option<i64>, Option<String>, i64);
        let containers = app.store.containers()?;
        let mut alike: BTreeMap<Said, Vec<(IpNetwork, Option<ContainerId>)>> = BTreeMap::new();
        for block in &self.blocks {
            let id = match &block.container {
                None => None,
                Some(name) => match containers.iter().find(|container| container.name == *name) {
                    Some(container) => Some(container.id.clone()),
                    None => continue,
                },
            };
            let said = (block.until, block.reason.clone(), block.created_at);
            alike.entry(said).or_default().push((block.address, id));
        }
        for ((until, reason, created_at), blocks) in alike {
            app.store.add_blocks(&blocks, until, reason.as_deref(), created_at)?;
        }
        Ok(())
    }
}

/// Rebuilds the database from what stands beside containers and templates. The old one is kept
/// under another name. One line for each thing that was put back or could not be.
pub fn repair(instance: &Instance) -> AppResult<Vec<String>> {
    let (mut app, present) = App::open_for_repair(instance.clone())?;
    let kept = present.map(|present| Kept::of(&present)).unwrap_or_default();
    let mut lines = Vec::new();
    let records = template_record::read_all(&app)?;
    lines.extend(records.broken);
    for (template, names) in records.templates.into_iter().filter(|(t, _)| !kept.doomed.contains(&t.id)) {
        for name in names {
            app.store.add_template(&name, &template, false)?;
            lines.push(format!("template {name}"));
        }
    }
    let mut manifests = Vec::new();
    let dir = instance.state_dir().join("containers");
    for entry in std::fs::read_dir(&dir).cannot(|| format!("list {}", dir.display()))?.flatten() {
        let path = entry.path().join("manifest.toml");
        match std::fs::read_to_string(&path).map(|text| manifest::from_toml(&text)) {
            Ok(Ok(manifest)) => manifests.push(manifest),
            Ok(Err(e)) => lines.push(format!("left out {}: {}", path.display(), error_text(&e))),
            Err(e) => lines.push(format!("left out {}: {e}", path.display())),
        }
    }
    for network in &kept.networks {
        app.store.add_network(network)?;
    }
    let rejected = app.store.rebuild(&manifests)?;
    for container in manifests.iter().map(|manifest| &manifest.container) {
        let line = match rejected.iter().find(|r| r.name == container.name) {
            Some(r) => format!("left out container {}: {}", container.name, error_text(&r.reason)),
            None => format!("container {}", container.name),
        };
        lines.push(line);
    }
    for Container { id, phase, .. } in &kept.unsettled {
        if app.store.container_by_id(id)?.is_some() {
            app.store.set_phase(id, *phase, None)?;
        }
    }
    // Has the next command look what killed ones have left in the pool.
    app.store.begin_work("repair")?;
    lines.extend(firewall::restore(&mut app)?);
    kept.put_blocks(&mut app)?;
    // Its rules may be others than those of the database that was.
    drop(firewall::expect(&app));
    app.store.take_place()?;
    Ok(lines)
}
