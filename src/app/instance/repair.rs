//! `repair`: a new database, from what stands beside containers and templates.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;

use super::{App, layout};
use crate::app::containers::running;
use crate::app::error::{AppError, AppResult};
use crate::app::firewall;
use crate::app::images::record;
use crate::app::operations;
use crate::app::storage::{pools, trees, volumes};
use crate::model::container::Container;
use crate::model::firewall::Block;
use crate::model::instance::Instance;
use crate::model::layer::LayerId;
use crate::model::manifest::{self, Manifest};
use crate::model::name::ContainerId;
use crate::model::network::Network;
use crate::model::operation::{Operation, OperationKind};
use crate::model::pool::{Pool, Volume};
use crate::model::profile::Profile;
use crate::model::template::TemplateId;
use crate::store::Store;
use crate::sys::kernel::clock::now;
use crate::sys::{Context, error_text};

/// What only a database has, as far as the present one can be read.
#[derive(Default)]
struct Kept {
    networks: Vec<Network>,
    profiles: Vec<Profile>,
    pools: Vec<Pool>,
    volumes: Vec<Volume>,
    blocks: Vec<Block>,
    /// What could not be ended of what is half made or half deleted. It has a manifest, too.
    unfinished: Vec<Operation>,
    starting: Vec<Container>,
    doomed: Vec<TemplateId>,
}

impl Kept {
    fn of(present: &Store) -> Self {
        Self {
            networks: present.networks().unwrap_or_default(),
            profiles: present.profiles().unwrap_or_default(),
            pools: present.pools().unwrap_or_default(),
            volumes: present.volumes(None).unwrap_or_default(),
            blocks: present.blocks(now()).unwrap_or_default(),
            unfinished: present.unfinished_operations().unwrap_or_default(),
            starting: present.starting().unwrap_or_default(),
            doomed: present.doomed_templates().unwrap_or_default(),
        }
    }

    /// Puts back what the next command has to undo or to finish.
    fn put_unfinished(&self, app: &mut App) -> AppResult<()> {
        for operation in &self.unfinished {
            let Some(id) = &operation.container else { continue };
            if app.store.container_by_id(id)?.is_none() {
                continue;
            }
            match operation.kind.leaves_container() {
                true => app.store.begin_operation(&operation.anew())?,
                false => app.store.begin_deleting(id, &operation.anew())?,
            }
        }
        for Container { id, phase, .. } in &self.starting {
            if app.store.container_by_id(id)?.is_some() {
                app.store.set_phase(id, *phase, None)?;
            }
        }
        Ok(())
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
///
/// # Errors
/// `Newer` where a later nagaya has written one of them, which would be lost: nothing is changed then.
pub fn repair(instance: &Instance) -> AppResult<Vec<String>> {
    let (mut app, present) = super::open_for_repair(instance.clone())?;
    let kept = present.map(|present| Kept::of(&present)).unwrap_or_default();
    let mut lines = Vec::new();
    let records = record::read_all(&app)?;
    lines.extend(records.broken);
    for (template, names) in records.templates.into_iter().filter(|(t, _)| !kept.doomed.contains(&t.id)) {
        for name in names {
            app.store.add_template(&name, &template, false)?;
            lines.push(format!("template {name}"));
        }
    }
    let mut manifests: Vec<Manifest> = Vec::new();
    let dir = instance.state_dir().join("containers");
    for entry in std::fs::read_dir(&dir).cannot(|| format!("list {}", dir.display()))?.flatten() {
        let path = entry.path().join("manifest.toml");
        match std::fs::read_to_string(&path).map(|text| manifest::from_toml(&text)) {
            Ok(Ok(manifest)) => manifests.push(manifest),
            // The new database would not know of its container.
            Ok(Err(e)) if e.is_newer() => return Err(AppError::Newer(path)),
            Ok(Err(e)) => lines.push(format!("left out {}: {}", path.display(), error_text(&e))),
            Err(e) => lines.push(format!("left out {}: {e}", path.display())),
        }
    }
    // What the present database says of a pool is newer than what a manifest does.
    let pools: Vec<Pool> = manifests.iter().filter_map(|manifest| manifest.pool.clone()).collect();
    for pool in pools.iter().chain(&kept.pools) {
        app.store.put_pool(pool)?;
    }
    for volume in &kept.volumes {
        app.store.put_volume(volume)?;
    }
    for manifest in &mut manifests {
        if let Some(layer) = drop_unmade(&app, manifest) {
            lines.push(format!("container {} had not got its layer {layer} yet", manifest.container.name));
        }
    }
    for network in &kept.networks {
        app.store.add_network(network)?;
    }
    for profile in &kept.profiles {
        app.store.put_profile(profile)?;
    }
    let rejected = app.store.rebuild(&manifests)?;
    for container in manifests.iter().map(|manifest| &manifest.container) {
        let line = match rejected.iter().find(|r| r.name == container.name) {
            Some(r) => format!("left out container {}: {}", container.name, error_text(&r.reason)),
            None => format!("container {}", container.name),
        };
        lines.push(line);
    }
    for pool in pools::names(&app)? {
        let of_pool = manifests.iter().filter(|manifest| manifest.container.pool == pool);
        let tops: Vec<_> = of_pool.map(|m| (m.container.id.clone(), m.layers.last().cloned())).collect();
        match trees::restore_uppers(&mut app, &pool, &tops) {
            // Its disk may be there again later.
            Err(e @ AppError::PoolUnavailable { .. }) => lines.push(error_text(&e)),
            other => other?,
        }
        if app.pool(&pool).is_ok() {
            let found = volumes::find_again(&mut app, &pool)?;
            lines.extend(found.iter().map(|name| format!("volume {pool}/{name}")));
        }
    }
    kept.put_unfinished(&mut app)?;
    // Has the next command look what killed ones have left in the pool.
    operations::of_pool(&mut app, OperationKind::Repair, instance.name())?;
    lines.extend(firewall::restore(&mut app)?);
    kept.put_blocks(&mut app)?;
    // The kernel's rules may differ from those of the new database.
    drop(firewall::expect(&app));
    // They say what the present one does.
    running::forget_all(&app.instance);
    app.store.take_place()?;
    Ok(lines)
}

/// A manifest names a layer before the layer is made, see `layering`. One that was not made is taken out and returned.
fn drop_unmade(app: &App, manifest: &mut Manifest) -> Option<LayerId> {
    let top = manifest.layers.last()?;
    // Nothing can be said of a pool whose disk is not mounted.
    let pool = pools::path(app, &manifest.container.pool).ok().filter(|pool| pool.is_dir())?;
    let path = pool.join(layout::layer_in_pool(top));
    let is_missing = path.symlink_metadata().is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound);
    is_missing.then(|| manifest.layers.pop()).flatten()
}
