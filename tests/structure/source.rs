//! The crate's files, as its modules name them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::tokens::{after_group, tokens, without_tests};

/// A module's path below the crate; empty for the crate itself.
pub type Module = Vec<String>;

/// A file without its tests.
pub struct File {
    pub path: PathBuf,
    pub module: Module,
    pub tokens: Vec<String>,
    /// Modules in files of their own.
    pub children: BTreeSet<String>,
}

pub struct Source {
    pub files: BTreeMap<Module, File>,
}

impl Source {
    /// All files that lib.rs in `root` leads to.
    pub fn read(root: &Path) -> Self {
        let mut source = Self { files: BTreeMap::new() };
        source.visit(root.join("lib.rs"), Module::new());
        source
    }

    fn visit(&mut self, path: PathBuf, module: Module) {
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let tokens = without_tests(&tokens(&text));
        let is_top = path.ends_with("lib.rs") || path.ends_with("mod.rs");
        let below = if is_top { path.parent().unwrap().to_owned() } else { path.with_extension("") };
        let declared = tokens.windows(3).filter(|window| window[0] == "mod" && window[2] == ";");
        let children: BTreeSet<String> = declared.map(|window| window[1].clone()).collect();
        for child in &children {
            let plain = below.join(format!("{child}.rs"));
            let path = if plain.exists() { plain } else { below.join(child).join("mod.rs") };
            self.visit(path, [&module[..], std::slice::from_ref(child)].concat());
        }
        self.files.insert(module.clone(), File { path, module, tokens, children });
    }

    /// The longest part of `path` that is a file's module, and the rest.
    pub fn split<'a>(&self, path: &'a [String]) -> (&'a [String], &'a [String]) {
        let at = (0..=path.len()).rev().find(|at| self.files.contains_key(&path[..*at])).unwrap_or(0);
        path.split_at(at)
    }
}

impl File {
    pub fn is_face(&self) -> bool {
        self.path.ends_with("mod.rs")
    }

    /// What it defines at its top besides modules and uses.
    pub fn defined(&self) -> BTreeSet<String> {
        const ITEMS: [&str; 9] =
            ["fn", "struct", "enum", "union", "trait", "impl", "static", "type", "macro_rules"];
        let (mut found, mut at) = (BTreeSet::new(), 0);
        while at < self.tokens.len() {
            match self.tokens[at].as_str() {
                "(" | "[" | "{" => at = after_group(&self.tokens, at),
                word if ITEMS.contains(&word) => {
                    let name = self.tokens[at + 1..].iter().find(|token| *token != "!").cloned();
                    found.insert(format!("{word} {}", name.unwrap_or_default()));
                    at += 1;
                }
                _ => at += 1,
            }
        }
        found
    }
}
