//! The structure of the source: no circle of files, no layer that uses one above it, no code in a
//! folder's face. What uses what is read from the paths in the text, those within macros too.

#[path = "structure/graph.rs"]
mod graph;
#[path = "structure/source.rs"]
mod source;
#[path = "structure/tokens.rs"]
mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use graph::{Graph, circles};
use source::Source;

static SOURCE: LazyLock<Source> =
    LazyLock::new(|| Source::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")));
static GRAPH: LazyLock<Graph> = LazyLock::new(|| Graph::of(&SOURCE));

fn text(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The layers, topmost first, as the comment of lib.rs has them.
fn layers() -> Vec<String> {
    let text = text("src/lib.rs");
    let comment: String = text.lines().map_while(|line| line.strip_prefix("//!")).collect();
    let (_, list) = comment.split_once("topmost first").expect("lib.rs tells the layers, topmost first");
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What the table in docs/design.md says that each layer uses, in the table's order.
fn documented() -> Vec<(String, String)> {
    let text = text("docs/design.md");
    let (_, section) =
        text.split_once("\n## Layers of the code\n").expect("docs/design.md tells of the layers");
    let rows = section.lines().map_while(|line| (!line.starts_with("## ")).then_some(line));
    let cells = rows.filter(|line| line.starts_with("| `")).map(|line| line.split('|').collect::<Vec<_>>());
    cells.map(|cells| (cells[1].trim().trim_matches('`').to_owned(), cells[3].trim().to_owned())).collect()
}

#[test]
fn there_is_no_circle_of_files() {
    let found = circles(&GRAPH);
    assert!(found.is_empty(), "circles of files:\n{}", found.concat());
}

#[test]
fn a_layer_uses_only_those_below_it() {
    let layers = layers();
    let place = |layer: &str| layers.iter().position(|known| known == layer);
    let mut wrong = BTreeSet::new();
    for (file, uses) in &GRAPH.edges {
        for (other, names) in uses {
            let of = |file: &str| file.split("::").next().unwrap_or_default().to_owned();
            match (place(&of(file)), place(&of(other))) {
                (Some(own), Some(used)) if used >= own => {}
                (None, _) => drop(wrong.insert(format!("{file} is in no layer that lib.rs tells of"))),
                _ => drop(wrong.insert(format!("{file} uses {other} ({})", join(names)))),
            }
        }
    }
    assert!(wrong.is_empty(), "against the layers of lib.rs:\n{}", lines(&wrong));
}

#[test]
fn the_layers_are_documented_as_they_are() {
    let (layers, documented) = (layers(), documented());
    assert_eq!(
        documented.iter().map(|(layer, _)| layer).collect::<Vec<_>>(),
        layers.iter().collect::<Vec<_>>()
    );
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, others) in &GRAPH.edges {
        let of = |file: &str| file.split("::").next().unwrap_or_default().to_owned();
        let others = others.keys().map(|other| of(other)).filter(|other| *other != of(file));
        uses.entry(of(file)).or_default().extend(others);
    }
    for (layer, said) in documented.iter().filter(|(_, said)| said != "all below") {
        let said: BTreeSet<String> = said.split(", ").map(str::to_owned).collect();
        let more: BTreeSet<_> = uses.remove(layer).unwrap_or_default().difference(&said).cloned().collect();
        assert!(more.is_empty(), "docs/design.md does not say that {layer} uses {more:?}");
    }
}

#[test]
fn a_folders_mod_rs_is_its_face_alone() {
    let mut wrong = BTreeSet::new();
    for file in SOURCE.files.values().filter(|file| file.is_face()) {
        let defined = file.defined();
        if !defined.is_empty() {
            wrong.insert(format!("{} defines {}", file.path.display(), join(&defined)));
        }
    }
    assert!(wrong.is_empty(), "a mod.rs has a paragraph, `mod` and `use` lines:\n{}", lines(&wrong));
}

/// Each of these would be a fault in the source: the tests above must find them.
#[test]
fn a_made_up_tree_with_every_fault_is_seen_through() {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("lib.rs", "mod low;\nmod high;\n");
    write(
        "low/mod.rs",
        "//! Face.\nmod a;\nmod b;\nmod c;\nmod d;\nmod plain;\npub use a::A;\npub use b::make;\nfn f() {}\n",
    );
    // By the face, and by a path within a macro.
    write("low/a.rs", "use super::make;\npub struct A;\n");
    write("low/b.rs", "pub fn make() { println!(\"{:?} //\", crate::low::A) }\n");
    // By a module's name.
    write(
        "low/c.rs",
        "use crate::low::d;\nfn g() { d::h() }\n#[cfg(test)]\nmod tests { use crate::low::plain::P; }\n",
    );
    write("low/d.rs", "use super::c::{self, g as other};\n/// crate::low::plain::P\npub fn h() { c::g() }\n");
    // Comments, strings and tests are no use.
    write(
        "low/plain.rs",
        "const S: &str = \"crate::low::c::g\"; // crate::low::d::h\n#[cfg(test)]\nuse super::c;\n",
    );
    write("high.rs", "use crate::low::A;\n");
    let source = Source::read(dir.path());
    let graph = Graph::of(&source);
    let found = circles(&graph);
    assert_eq!(
        found,
        [
            "  low::a uses low::b (make)\n  low::b uses low::a (A)\n",
            "  low::c uses low::d (h)\n  low::d uses low::c (g)\n"
        ]
    );
    assert_eq!(graph.edges["high"].keys().collect::<Vec<_>>(), ["low::a"]);
    assert!(graph.edges["low::plain"].is_empty(), "{:?}", graph.edges["low::plain"]);
    let faces: Vec<_> =
        source.files.values().filter(|file| file.is_face()).map(|file| file.defined()).collect();
    assert_eq!(faces, [BTreeSet::from(["fn f".to_owned()])]);
}

fn join(names: &BTreeSet<String>) -> String {
    names.iter().cloned().collect::<Vec<_>>().join(", ")
}

fn lines(all: &BTreeSet<String>) -> String {
    all.iter().map(|line| format!("  {line}\n")).collect()
}
