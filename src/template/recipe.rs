//! Recipes: TOML files that describe builds, those of the operator and those that nagaya brings. Their
//! values become arguments and words of hooks, so each is held to a narrow alphabet.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::model::template::{InitKind, NetworkStyle};

const EXTENSION: &str = "toml";
const FILE_MAX: u64 = 64 << 10;
const CONTENT_MAX: usize = 16 << 10;
const BUILT_IN: [(&str, &str); 3] = [
    ("debian11", include_str!("../../templates/debian11.toml")),
    ("debian12", include_str!("../../templates/debian12.toml")),
    ("debian13", include_str!("../../templates/debian13.toml")),
];

/// How to build one template. Every string in it has been checked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    pub description: String,
    pub builder: Builder,
    /// The release's code name, as its mirror calls it.
    pub suite: String,
    #[serde(default)]
    pub variant: Variant,
    /// Empty: the builder's own choice for the suite.
    #[serde(default)]
    pub mirrors: Vec<String>,
    /// Empty: `main`.
    #[serde(default)]
    pub components: Vec<String>,
    pub packages: Vec<String>,
    #[serde(default)]
    pub tweaks: Tweaks,
    #[serde(default)]
    pub files: Vec<RecipeFile>,
    /// What the finished tree is expected to turn out to have.
    pub init: InitKind,
    pub network: NetworkStyle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Builder {
    Mmdebstrap,
}

/// Sets of packages to begin with; the names are mmdebstrap's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    Essential,
    Apt,
    #[default]
    Minbase,
    Important,
    Standard,
}

impl Variant {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Essential => "essential",
            Self::Apt => "apt",
            Self::Minbase => "minbase",
            Self::Important => "important",
            Self::Standard => "standard",
        }
    }
}

/// Changes to the finished system: units by name, and root's password.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tweaks {
    pub enable: Vec<String>,
    pub disable: Vec<String>,
    pub mask: Vec<String>,
    pub lock_root: bool,
}

/// A file written into the finished system, owned by root.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeFile {
    pub path: String,
    pub content: String,
    #[serde(default = "default_mode")]
    pub mode: u32,
}

fn default_mode() -> u32 {
    0o644
}

/// Where a recipe was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    BuiltIn,
    File(PathBuf),
}

/// One line of a list of templates that can be built. A broken recipe is listed with its fault.
#[derive(Debug)]
pub struct Available {
    pub name: String,
    pub recipe: Result<Recipe, RecipeError>,
}

#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    #[error("'{name}' is not a template name: lower case letters, digits, '.' and '-', at most 63")]
    Name { name: String },
    #[error("there is no template recipe '{name}'")]
    Unknown { name: String },
    #[error("cannot read the template recipe '{}'", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the template recipe '{name}' is not valid TOML of the expected form")]
    Parse { name: String, source: Box<toml::de::Error> },
    #[error("the template recipe '{name}' has a bad {field}: '{}'", value.escape_debug())]
    Value { name: String, field: &'static str, value: String },
}

/// Directories with recipes, the one that counts first at the front. The one beside the program is left out
/// where this user cannot reach it: the service user sees nothing of a checkout in root's home.
pub fn search_dirs(exe: &Path) -> Vec<PathBuf> {
    dirs(std::env::var_os("NAGAYA_TEMPLATE_DIR"), exe)
}

fn dirs(own: Option<OsString>, exe: &Path) -> Vec<PathBuf> {
    let own = own.filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let shared = exe.parent().map(|dir| dir.join("../share/nagaya/templates"));
    let is_closed = |dir: &PathBuf| {
        std::fs::metadata(dir).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    };
    let shared = shared.filter(|dir| !is_closed(dir));
    own.into_iter().chain([PathBuf::from("/etc/nagaya/templates")]).chain(shared).collect()
}

/// The recipe `name` of the first directory that has one, else the one built in.
pub fn find(name: &str, dirs: &[PathBuf]) -> Result<(Recipe, Origin), RecipeError> {
    if !is_template_name(name) {
        return Err(RecipeError::Name { name: name.to_owned() });
    }
    for dir in dirs {
        let path = dir.join(format!("{name}.{EXTENSION}"));
        if let Some(text) = read(&path)? {
            return Ok((parse(name, &text)?, Origin::File(path)));
        }
    }
    match BUILT_IN.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => Ok((parse(name, text)?, Origin::BuiltIn)),
        None => Err(RecipeError::Unknown { name: name.to_owned() }),
    }
}

/// Every recipe that `find` would find, by name.
pub fn list_available(dirs: &[PathBuf]) -> Result<Vec<Available>, RecipeError> {
    let mut names = BTreeSet::new();
    for dir in dirs {
        let failed = |source| RecipeError::Read { path: dir.clone(), source };
        let entries = match std::fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(failed)?,
        };
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
            if path.extension().is_some_and(|extension| extension == EXTENSION) && is_template_name(&name) {
                names.insert(name);
            }
        }
    }
    for (name, _) in BUILT_IN {
        names.insert(name.to_owned());
    }
    let available = names.into_iter().map(|name| {
        let recipe = find(&name, dirs).map(|(recipe, _)| recipe);
        Available { name, recipe }
    });
    Ok(available.collect())
}

fn read(path: &Path) -> Result<Option<String>, RecipeError> {
    let failed = |source| RecipeError::Read { path: path.to_owned(), source };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed)?,
    };
    let mut text = String::new();
    file.take(FILE_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_MAX {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(Some(text))
}

/// `name` is for errors alone.
pub fn parse(name: &str, text: &str) -> Result<Recipe, RecipeError> {
    let recipe: Recipe = toml::from_str(text)
        .map_err(|source| RecipeError::Parse { name: name.to_owned(), source: Box::new(source) })?;
    match first_bad_value(&recipe) {
        None => Ok(recipe),
        Some((field, value)) => {
            Err(RecipeError::Value { name: name.to_owned(), field, value: value.to_owned() })
        }
    }
}

fn first_bad_value(recipe: &Recipe) -> Option<(&'static str, &str)> {
    type Check = fn(&str) -> bool;
    let lists: [(&'static str, &[String], Check); 6] = [
        ("mirror", &recipe.mirrors, is_mirror),
        ("component", &recipe.components, is_component),
        ("package", &recipe.packages, is_package),
        ("unit to enable", &recipe.tweaks.enable, is_unit),
        ("unit to disable", &recipe.tweaks.disable, is_unit),
        ("unit to mask", &recipe.tweaks.mask, is_unit),
    ];
    if !is_text(&recipe.description) {
        return Some(("description", &recipe.description));
    }
    if !is_suite(&recipe.suite) {
        return Some(("suite", &recipe.suite));
    }
    for (field, values, is_good) in lists {
        if let Some(bad) = values.iter().find(|value| !is_good(value)) {
            return Some((field, bad));
        }
    }
    recipe.files.iter().find_map(|file| {
        if !is_path(&file.path) {
            Some(("file path", file.path.as_str()))
        } else if file.content.len() > CONTENT_MAX || file.content.contains('\0') {
            Some(("file content of", file.path.as_str()))
        } else if file.mode & !0o777 != 0 {
            Some(("file mode of", file.path.as_str()))
        } else {
            None
        }
    })
}

/// Starts with a letter or digit (so it is no option), goes on with those and `others`.
fn is_word(text: &str, others: &str, max: usize) -> bool {
    text.len() <= max
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

fn is_template_name(text: &str) -> bool {
    is_word(text, ".-", 63) && !text.contains(|c: char| c.is_ascii_uppercase())
}

fn is_suite(text: &str) -> bool {
    is_word(text, ".-", 63)
}

fn is_component(text: &str) -> bool {
    is_word(text, "-", 63)
}

/// Debian policy, 5.6.1; `:arch` and `=version` are not package names.
fn is_package(text: &str) -> bool {
    is_word(text, "+.-", 128)
}

fn is_unit(text: &str) -> bool {
    const KINDS: [&str; 6] = [".service", ".socket", ".timer", ".target", ".mount", ".path"];
    is_word(text, "@._-", 128) && KINDS.iter().any(|kind| text.ends_with(kind))
}

/// An http(s) address. A one-line entry of sources.list could turn off the signature check.
fn is_mirror(text: &str) -> bool {
    text.strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"))
        .is_some_and(|rest| is_word(rest, "-._~/:", 255))
}

fn is_path(text: &str) -> bool {
    let good = |component: &str| {
        !matches!(component, "" | "." | "..")
            && component.chars().all(|c| c.is_ascii_alphanumeric() || "._@+-".contains(c))
    };
    text.len() <= 255 && text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(good))
}

fn is_text(text: &str) -> bool {
    text.len() <= 200 && !text.is_empty() && text.chars().all(|c| !c.is_control())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    const GOOD: &str = r#"
        description = "x"
        builder = "mmdebstrap"
        suite = "bookworm"
        packages = ["libstdc++6"]
        init = "systemd"
        network = "networkd"
    "#;

    #[test]
    fn the_built_in_recipes_are_good() {
        for (name, suite) in [("debian11", "bullseye"), ("debian12", "bookworm"), ("debian13", "trixie")] {
            let (recipe, origin) = find(name, &[]).unwrap();
            assert_eq!((recipe.suite.as_str(), origin), (suite, Origin::BuiltIn));
            assert_eq!((recipe.init, recipe.network), (InitKind::Systemd, NetworkStyle::Networkd));
            assert!(!recipe.packages.iter().any(|package| package.contains("ssh")));
        }
    }

    #[test]
    fn values_that_could_be_more_than_values_are_refused() {
        assert!(parse("t", GOOD).is_ok());
        for (good, bad) in [
            ("\"bookworm\"", "\"-oX\""),
            ("\"bookworm\"", "\"a b\""),
            ("\"bookworm\"", "\"\""),
            ("\"libstdc++6\"", "\"--help\""),
            ("\"libstdc++6\"", "\"a;b\""),
            ("\"libstdc++6\"", "\"a\\nb\""),
            ("\"libstdc++6\"", "\"a,b\""),
            ("\"libstdc++6\"", "\"?essential\""),
            ("\"libstdc++6\"", "\"./x.deb\""),
            ("\"x\"", "\"\\u001b[2J\""),
        ] {
            assert!(matches!(parse("t", &GOOD.replace(good, bad)), Err(RecipeError::Value { .. })), "{bad}");
        }
        for extra in [
            "mirrors = [\"deb [trusted=yes] http://x y main\"]",
            "mirrors = [\"http://\"]",
            "mirrors = [\"file:///etc\"]",
            "mirrors = [\"http://a b\"]",
            "components = [\"main contrib\"]",
            "[tweaks]\nenable = [\"a.service;reboot\"]",
            "[tweaks]\nmask = [\"$(id).service\"]",
            "[tweaks]\ndisable = [\"--root=/.service\"]",
            "[tweaks]\nenable = [\"networkd\"]",
            "[[files]]\npath = \"etc/x\"\ncontent = \"\"",
            "[[files]]\npath = \"/etc/../x\"\ncontent = \"\"",
            "[[files]]\npath = \"/etc/$x\"\ncontent = \"\"",
            "[[files]]\npath = \"/etc/x y\"\ncontent = \"\"",
            "[[files]]\npath = \"/etc/x\"\ncontent = \"a\\u0000b\"",
            "[[files]]\npath = \"/etc/x\"\ncontent = \"\"\nmode = 0o4755",
        ] {
            assert!(
                matches!(parse("t", &format!("{GOOD}{extra}")), Err(RecipeError::Value { .. })),
                "{extra}"
            );
        }
        for extra in ["surprise = 1", "[tweaks]\nrun = \"x\"", "variant = \"custom\""] {
            assert!(
                matches!(parse("t", &format!("{GOOD}{extra}")), Err(RecipeError::Parse { .. })),
                "{extra}"
            );
        }
        let fine = "mirrors = [\"https://deb.example.org:8080/debian\"]\ncomponents = [\"non-free-firmware\"]\n\
                    [[files]]\npath = \"/etc/a\"\ncontent = \"'$x'\\n\"\nmode = 0o600";
        assert!(parse("t", &format!("{GOOD}{fine}")).is_ok());
    }

    #[test]
    fn directories_come_before_what_is_built_in() {
        let (first, second) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let dirs = [first.path().to_owned(), PathBuf::from("/nonexistent"), second.path().to_owned()];
        fs::write(first.path().join("mine.toml"), GOOD).unwrap();
        fs::write(second.path().join("mine.toml"), "broken").unwrap();
        fs::write(second.path().join("debian12.toml"), "broken").unwrap();
        fs::write(second.path().join("notes.txt"), "").unwrap();
        fs::write(second.path().join("-x.toml"), GOOD).unwrap();

        let (recipe, origin) = find("mine", &dirs).unwrap();
        assert_eq!(
            (recipe.suite.as_str(), origin),
            ("bookworm", Origin::File(first.path().join("mine.toml")))
        );
        assert!(matches!(find("debian12", &dirs), Err(RecipeError::Parse { .. })));
        assert!(matches!(find("debian99", &dirs), Err(RecipeError::Unknown { .. })));

        let list = list_available(&dirs).unwrap();
        let names: Vec<_> = list.iter().map(|item| (item.name.as_str(), item.recipe.is_ok())).collect();
        assert_eq!(names, [("debian11", true), ("debian12", false), ("debian13", true), ("mine", true)]);
    }

    #[test]
    fn names_do_not_lead_elsewhere() {
        for name in ["../etc/x", "a/b", "", ".", "..", "-x", "A", "a\0", "a\n", &"a".repeat(64)] {
            assert!(
                matches!(find(name, &[PathBuf::from("/etc")]), Err(RecipeError::Name { .. })),
                "{name:?}"
            );
        }
    }

    #[test]
    fn recipes_of_any_size_are_not_read() {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("big.toml"), "#".repeat(70_000)).unwrap();
        assert!(matches!(find("big", &[dir.path().to_owned()]), Err(RecipeError::Read { .. })));
    }

    #[test]
    fn the_users_own_directory_is_searched_first() {
        let exe = Path::new("/usr/bin/nagaya");
        let rest = ["/etc/nagaya/templates", "/usr/bin/../share/nagaya/templates"].map(PathBuf::from);
        assert_eq!(dirs(Some("/own".into()), exe)[0], Path::new("/own"));
        assert_eq!(dirs(Some("".into()), exe), rest);
        assert_eq!(dirs(None, exe), rest);
    }
}
