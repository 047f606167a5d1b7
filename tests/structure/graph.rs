//! Which file uses which.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{File, Module, Source};

/// By file: the files that it uses, and what of them.
pub struct Graph {
    pub edges: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
}

/// A path in a file, from the crate on.
struct Use {
    path: Module,
    /// By what name the file knows it.
    name: String,
    /// `pub use`: others find it by this file.
    is_passed_on: bool,
}

/// Names that a module passes on, and where they are from.
type PassedOn = BTreeMap<(Module, String), Module>;

impl Graph {
    pub fn of(source: &Source) -> Self {
        let uses: BTreeMap<&Module, Vec<Use>> =
            source.files.iter().map(|(module, file)| (module, uses(file))).collect();
        let mut passed_on = PassedOn::new();
        for (module, uses) in &uses {
            for found in uses.iter().filter(|found| found.is_passed_on) {
                passed_on.insert(((*module).clone(), found.name.clone()), found.path.clone());
            }
        }
        let mut graph = Self { edges: BTreeMap::new() };
        for file in source.files.values().filter(|file| !file.module.is_empty()) {
            let mut edges = BTreeMap::new();
            for found in &uses[&file.module] {
                // A face is looked through; it uses nothing itself.
                if !(found.is_passed_on && file.is_face()) {
                    add_use(source, &passed_on, file, found, &mut edges);
                }
            }
            graph.edges.insert(file.module.join("::"), edges);
        }
        graph
    }
}

type Edges = BTreeMap<String, BTreeSet<String>>;

/// A use of a module is one of what is named through it.
fn add_use(source: &Source, passed_on: &PassedOn, file: &File, found: &Use, edges: &mut Edges) {
    if !source.files.contains_key(&resolved(source, passed_on, &found.path)) {
        return add(source, passed_on, file, &found.path, edges);
    }
    let module = resolved(source, passed_on, &found.path);
    for (at, window) in file.tokens.windows(3).enumerate() {
        let is_first = at == 0 || file.tokens[at - 1] != "::";
        if window[0] == found.name && window[1] == "::" && is_first && is_word(&window[2]) {
            add(source, passed_on, file, &[&module[..], &[window[2].clone()]].concat(), edges);
        }
    }
}

/// Where the path leads, with what is passed on looked through.
fn resolved(source: &Source, passed_on: &PassedOn, path: &[String]) -> Module {
    let mut path = path.to_vec();
    // As many times as no sound source would pass a thing on.
    for _ in 0..8 {
        let (module, rest) = source.split(&path);
        let Some(name) = rest.first() else { break };
        let Some(target) = passed_on.get(&(module.to_vec(), name.clone())) else { break };
        path = [&target[..], &rest[1..]].concat();
    }
    path
}

fn add(source: &Source, passed_on: &PassedOn, file: &File, path: &[String], edges: &mut Edges) {
    let path = resolved(source, passed_on, path);
    let (module, rest) = source.split(&path);
    if module != file.module && !module.is_empty() {
        let what = rest.first().map_or("the module", String::as_str);
        edges.entry(module.join("::")).or_default().insert(what.to_owned());
    }
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// All paths of a file that lead to the crate's modules: of its `use` lines, and in the midst of code.
fn uses(file: &File) -> Vec<Use> {
    let tokens = &file.tokens;
    let (mut found, mut at) = (Vec::new(), 0);
    // Modules within the file, and the depth of brackets at which each ends.
    let (mut inner, mut depth): (Vec<(String, usize)>, usize) = (Vec::new(), 0);
    while at < tokens.len() {
        let module: Module =
            file.module.iter().cloned().chain(inner.iter().map(|(name, _)| name.clone())).collect();
        match tokens[at].as_str() {
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                inner.pop_if(|(_, at)| *at == depth);
            }
            "mod" if tokens.get(at + 2).is_some_and(|token| token == "{") => {
                inner.push((tokens[at + 1].clone(), depth));
            }
            "use" if tokens.get(at + 1).is_none_or(|token| token != "<") => {
                let (leaves, end) = tree(tokens, at + 1);
                let is_passed_on = at > 0 && ["pub", ")"].contains(&tokens[at - 1].as_str());
                for (path, name) in leaves {
                    let Some(path) = absolute(file, &module, path) else { continue };
                    found.push(Use { path, name, is_passed_on });
                }
                at = end;
                continue;
            }
            word if at == 0 || !["::", "mod"].contains(&tokens[at - 1].as_str()) => {
                let begins = ["crate", "super", "self"].contains(&word) || file.children.contains(word);
                if begins
                    && tokens.get(at + 1).is_some_and(|token| token == "::")
                    && !is_visibility(tokens, at)
                {
                    let mut path = vec![tokens[at].clone()];
                    while tokens[at + 1] == "::" && is_word(&tokens[at + 2]) {
                        path.push(tokens[at + 2].clone());
                        at += 2;
                    }
                    let name = String::new();
                    found.extend(absolute(file, &module, path).map(|path| Use {
                        path,
                        name,
                        is_passed_on: false,
                    }));
                }
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// `pub(in super::…)`.
fn is_visibility(tokens: &[String], at: usize) -> bool {
    at > 1 && tokens[at - 1] == "in" && tokens[at - 2] == "("
}

/// The leaves of the tree that begins here, each with the name that it has in the file; and where the
/// tree ends.
fn tree(tokens: &[String], start: usize) -> (Vec<(Module, String)>, usize) {
    let (mut path, mut at) = (Module::new(), start);
    loop {
        match tokens[at].as_str() {
            "{" => {
                at += 1;
                let mut leaves = Vec::new();
                while tokens[at] != "}" {
                    let (found, end) = tree(tokens, at);
                    leaves.extend(found);
                    at = if tokens[end] == "," { end + 1 } else { end };
                }
                let below = |(rest, name): (Module, String)| match rest.as_slice() {
                    [own] if own == "self" => {
                        let name =
                            if name == "self" { path.last().cloned().unwrap_or_default() } else { name };
                        (path.clone(), name)
                    }
                    _ => ([&path[..], &rest[..]].concat(), name),
                };
                return (leaves.into_iter().map(below).collect(), at + 1);
            }
            "::" => at += 1,
            word => {
                path.push(word.to_owned());
                at += 1;
                if tokens[at] == "as" {
                    return (vec![(path, tokens[at + 1].clone())], at + 2);
                }
                if tokens[at] != "::" {
                    let name = path.last().cloned().unwrap_or_default();
                    return (vec![(path, name)], at);
                }
            }
        }
    }
}

/// From the crate on; none where it leads to another crate.
fn absolute(file: &File, module: &[String], path: Module) -> Option<Module> {
    let first = path.first()?.as_str();
    match first {
        "crate" => Some(path[1..].to_vec()),
        "self" => Some([module, &path[1..]].concat()),
        "super" => {
            let up = path.iter().take_while(|segment| *segment == "super").count();
            Some([module.get(..module.len().checked_sub(up)?)?, &path[up..]].concat())
        }
        child if file.children.contains(child) => Some([&file.module[..], &path[..]].concat()),
        _ => None,
    }
}

/// Every circle of files, told by what its files use of one another.
pub fn circles(graph: &Graph) -> Vec<String> {
    let reach: BTreeMap<&String, BTreeSet<&String>> =
        graph.edges.keys().map(|file| (file, reached(graph, file))).collect();
    let mut told = BTreeSet::new();
    let mut found = Vec::new();
    for file in graph.edges.keys().filter(|file| reach[file].contains(file)) {
        if told.contains(file) {
            continue;
        }
        let circle: BTreeSet<&String> =
            reach[file].iter().copied().filter(|other| reach[other].contains(file)).collect();
        let mut text = String::new();
        for own in &circle {
            for (other, names) in graph.edges[*own].iter().filter(|(other, _)| circle.contains(other)) {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                text.push_str(&format!("  {own} uses {other} ({})\n", names.join(", ")));
            }
        }
        told.extend(circle);
        found.push(text);
    }
    found
}

fn reached<'a>(graph: &'a Graph, from: &String) -> BTreeSet<&'a String> {
    let mut found = BTreeSet::new();
    let mut to_see: Vec<&String> = graph.edges[from].keys().collect();
    while let Some(file) = to_see.pop() {
        if found.insert(file) {
            to_see.extend(graph.edges.get(file).into_iter().flat_map(BTreeMap::keys));
        }
    }
    found
}
