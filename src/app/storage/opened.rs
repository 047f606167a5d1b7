//! Trees that a worker reads, each in whatever pool it is. Whoever starts the worker may not read them, but opens the
//! directories that they are in.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::worker;
use crate::app::error::AppResult;
use crate::app::instance::layout::{POOL_LAYERS, POOL_TEMPLATES};
use crate::app::instance::{App, layout};
use crate::model::layer::{Chain, LayerId};
use crate::model::name::ContainerId;
use crate::model::pool::PoolName;
use crate::model::template::TemplateId;
use crate::sys::{Context, SysResult};

/// A tree by what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tree {
    /// What a container has written.
    Own(ContainerId),
    /// A copy of that, in a directory below the pool.
    Copy(String),
    Layer(LayerId),
    Template(TemplateId),
}

impl Tree {
    /// The trees of a chain, the topmost first.
    pub fn of_chain(chain: &Chain) -> impl Iterator<Item = Self> {
        let layers = chain.layers.iter().rev().cloned().map(Self::Layer);
        layers.chain([Self::Template(chain.template.clone())])
    }
}

/// Trees of one pool, and templates.
pub struct Opened {
    dirs: Vec<OwnedFd>,
    /// Each with the number of its directory in `dirs`.
    trees: Vec<(usize, String)>,
}

impl Opened {
    pub fn of(app: &mut App, pool: &PoolName, trees: impl IntoIterator<Item = Tree>) -> AppResult<Self> {
        let (mut dirs, mut paths, mut found) = (Vec::new(), Vec::<(bool, String)>::new(), Vec::new());
        for tree in trees {
            let is_template = matches!(tree, Tree::Template(_));
            let (dir, name) = match tree {
                Tree::Own(id) => (layout::data_in_pool(&id), "upper".to_owned()),
                Tree::Copy(dir) => (dir, "upper".to_owned()),
                Tree::Layer(id) => (POOL_LAYERS.to_owned(), id.as_str().to_owned()),
                Tree::Template(id) => (POOL_TEMPLATES.to_owned(), id.as_str().to_owned()),
            };
            let at = match paths.iter().position(|known| *known == (is_template, dir.clone())) {
                Some(at) => at,
                None => {
                    let pool = if is_template { app.templates()? } else { app.pool(pool)? };
                    dirs.push(worker::open(pool, &dir).cannot(|| format!("open {dir} in the pool"))?);
                    paths.push((is_template, dir));
                    dirs.len() - 1
                }
            };
            found.push((at, name));
        }
        Ok(Self { dirs, trees: found })
    }

    /// What the worker has to be given.
    pub fn dirs(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.dirs.iter().map(AsFd::as_fd)
    }

    /// For a worker: the trees, in their order.
    pub fn open(&self) -> SysResult<Vec<OwnedFd>> {
        self.trees.iter().map(|(dir, name)| worker::open_tree(&self.dirs[*dir], name)).collect()
    }
}
