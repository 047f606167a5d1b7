//! A recipe turned into a run of mmdebstrap, and its messages into progress.
//!
//! The run belongs to uid 0 of a user namespace over the owner's storage ids, never to real root. Of
//! mmdebstrap's modes it takes `unshare`: as uid 0 that unshares no further user namespace, only mounts,
//! and unlike `root` it binds what cannot be mounted anew (/sys). The caller sets up:
//! - the user namespace with ids 0 to 65535 and `setgroups` allowed (apt gives up its own groups);
//! - fresh mount and pid namespaces, and this process the first of the latter: when it or whoever it
//!   is tied to dies, every dpkg and every mount goes with it;
//! - `tmp`: a directory of uid 0 of that namespace, mode 0711 (apt's own user passes through it). All
//!   that the run writes is below it, so whoever removes it has removed everything;
//! - the archive's pipe as standard output, a pipe for `Stage::of_line` as standard error.

use std::ffi::{CStr, OsString};
use std::io;
use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};

use super::recipe::{Builder, Recipe, RecipeFile};

const PROGRAM: &str = "mmdebstrap";
/// Where mmdebstrap works.
pub const TMP: &CStr = c"/tmp";
/// apt and mmdebstrap read their proxies from these.
const PASSED_ON: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"];

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("cannot separate the build's mounts from the host's")]
    Propagation(#[source] io::Error),
    #[error("cannot bind '{dir}' to /tmp for the build")]
    Tmp { dir: String, source: io::Error },
    #[error("cannot mount /proc for the build")]
    Proc(#[source] io::Error),
}

/// Makes the mounts among which mmdebstrap runs; see the module's text for what must hold before.
pub fn mount_around(tmp: &Path) -> Result<(), BuildError> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(|errno| BuildError::Propagation(errno.into()))?;
    mount_bind(tmp, TMP)
        .map_err(|errno| BuildError::Tmp { dir: tmp.display().to_string(), source: errno.into() })?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", flags, None).map_err(|errno| BuildError::Proc(errno.into()))
}

/// The program and its arguments; the archive goes to standard output.
pub fn argv(recipe: &Recipe) -> Vec<OsString> {
    let Builder::Mmdebstrap = recipe.builder;
    let mut words = vec![
        PROGRAM.to_owned(),
        "--mode=unshare".to_owned(),
        "--format=tar".to_owned(),
        format!("--variant={}", recipe.variant.as_str()),
        // dpkg's syncs are most of the time on a disk, and an unfinished build is thrown away.
        "--dpkgopt=force-unsafe-io".to_owned(),
    ];
    if !recipe.components.is_empty() {
        words.push(format!("--components={}", recipe.components.join(",")));
    }
    if !recipe.packages.is_empty() {
        words.push(format!("--include={}", recipe.packages.join(",")));
    }
    words.extend(hooks(recipe).into_iter().map(|hook| format!("--customize-hook={hook}")));
    words.push(recipe.suite.clone());
    words.push("-".to_owned());
    words.extend(recipe.mirrors.iter().cloned());
    words.into_iter().map(OsString::from).collect()
}

/// What mmdebstrap and apt see of the environment. `get` reads the caller's; in `path` they look for programs.
pub fn environment(get: impl Fn(&str) -> Option<OsString>, path: &str) -> Vec<(&'static str, OsString)> {
    let tmp = "/tmp";
    let fixed = [("PATH", path), ("HOME", tmp), ("TMPDIR", tmp), ("LC_ALL", "C.UTF-8")];
    let proxies = PASSED_ON.into_iter().filter_map(|name| Some((name, get(name)?)));
    fixed.into_iter().map(|(name, value)| (name, OsString::from(value))).chain(proxies).collect()
}

/// Shell commands, `$1` the tree. The words come from a checked recipe; what touches the tree does so
/// from inside it, where its links cannot lead out.
fn hooks(recipe: &Recipe) -> Vec<String> {
    let tweaks = &recipe.tweaks;
    let units = [("enable", &tweaks.enable), ("disable", &tweaks.disable), ("mask", &tweaks.mask)];
    let mut hooks: Vec<String> = units
        .into_iter()
        .filter(|(_, units)| !units.is_empty())
        .map(|(verb, units)| format!(r#"chroot "$1" systemctl {verb} {}"#, units.join(" ")))
        .collect();
    if tweaks.lock_root {
        hooks.push(r#"chroot "$1" passwd --lock root"#.to_owned());
    }
    hooks.extend(recipe.files.iter().map(write_file));
    // mmdebstrap copies the first two from this host, and keeps its own options in the others.
    hooks.push(
        r#"chroot "$1" rm -f /etc/resolv.conf /etc/hostname /etc/dpkg/dpkg.cfg.d/99mmdebstrap /etc/apt/apt.conf.d/99mmdebstrap"#
            .to_owned(),
    );
    // Backups of the package tools: nothing reads them in a fresh system.
    hooks.push(
        r#"chroot "$1" rm -f /var/lib/dpkg/status-old /var/lib/dpkg/diversions-old /var/cache/debconf/config.dat-old /var/cache/debconf/templates.dat-old"#
            .to_owned(),
    );
    hooks
}

/// The content travels as octal escapes, so that no byte of it means anything to the shell.
fn write_file(file: &RecipeFile) -> String {
    let path = &file.path;
    let parent =
        path.rsplit_once('/').map_or("/", |(parent, _)| if parent.is_empty() { "/" } else { parent });
    let content: String = file
        .content
        .bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("\\{byte:03o}") }
        })
        .collect();
    let mode = file.mode;
    format!(
        r#"chroot "$1" mkdir -p {parent} && printf '{content}' | chroot "$1" tee {path} >/dev/null && chroot "$1" chmod {mode:04o} {path}"#
    )
}

/// The stage of a build. The shares of the time are those of a minimal Debian on a fast mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Updating,
    Downloading,
    Unpacking,
    Essential,
    Packages,
    Customizing,
    Cleaning,
    Packing,
    Done,
}

impl Stage {
    /// The stage that begins with this line of mmdebstrap's standard error, if one does.
    pub fn of_line(line: &str) -> Option<Self> {
        const STARTS: [(&str, Stage); 9] = [
            ("running apt-get update", Stage::Updating),
            ("downloading packages", Stage::Downloading),
            ("extracting archives", Stage::Unpacking),
            ("installing essential packages", Stage::Essential),
            ("installing remaining packages", Stage::Packages),
            ("running --customize-hook", Stage::Customizing),
            ("cleaning package lists", Stage::Cleaning),
            ("creating tarball", Stage::Packing),
            ("success in", Stage::Done),
        ];
        let message = line.trim().strip_prefix("I: ")?;
        STARTS.iter().find(|(start, _)| message.starts_with(start)).map(|&(_, stage)| stage)
    }

    /// How much of the build is done when the stage begins, in percent.
    pub fn percent(self) -> u8 {
        match self {
            Self::Updating => 1,
            Self::Downloading => 9,
            Self::Unpacking => 12,
            Self::Essential => 22,
            Self::Packages => 50,
            Self::Customizing => 90,
            Self::Cleaning => 92,
            Self::Packing => 93,
            Self::Done => 100,
        }
    }

    pub fn label(self) -> &'static str {
        match self {
            Self::Updating => "reading package lists",
            Self::Downloading => "downloading packages",
            Self::Unpacking => "unpacking the base system",
            Self::Essential => "installing the base system",
            Self::Packages => "installing packages",
            Self::Customizing => "customizing",
            Self::Cleaning => "cleaning up",
            Self::Packing => "packing",
            Self::Done => "built",
        }
    }
}

/// Whether a line of mmdebstrap's standard error is worth keeping for the error report.
pub fn is_complaint(line: &str) -> bool {
    ["E: ", "W: ", "Err:", "dpkg: "].iter().any(|start| line.trim_start().starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::super::recipe::{self, parse};
    use super::*;

    fn words(recipe: &Recipe) -> Vec<String> {
        argv(recipe).into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn a_recipe_becomes_arguments() {
        let text = r#"
            description = "x"
            builder = "mmdebstrap"
            suite = "trixie"
            variant = "apt"
            mirrors = ["http://a.example/debian"]
            components = ["main", "contrib"]
            packages = ["less", "nano"]
            init = "systemd"
            network = "none"
            [tweaks]
            mask = ["a.service", "b.timer"]
        "#;
        let words = words(&parse("t", text).unwrap());
        assert_eq!(
            words[..5],
            ["mmdebstrap", "--mode=unshare", "--format=tar", "--variant=apt", "--dpkgopt=force-unsafe-io"]
        );
        assert_eq!(words[5..7], ["--components=main,contrib", "--include=less,nano"]);
        assert_eq!(words[7], r#"--customize-hook=chroot "$1" systemctl mask a.service b.timer"#);
        assert_eq!(words[words.len() - 3..], ["trixie", "-", "http://a.example/debian"]);
    }

    #[test]
    fn built_in_recipes_end_with_suite_and_output() {
        for name in ["debian11", "debian12", "debian13"] {
            let (recipe, _) = recipe::find(name, &[]).unwrap();
            let words = words(&recipe);
            assert_eq!(words[words.len() - 2..], [recipe.suite.as_str(), "-"]);
            assert!(words.iter().any(|word| word.ends_with("systemctl enable systemd-networkd.service")));
        }
    }

    #[test]
    fn file_contents_pass_the_shell_unchanged() {
        let content: String = (1..=0x7f_u8).map(char::from).collect::<String>() + "é%s\\n'$(id)`\"";
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("sub/file");
        let file =
            RecipeFile { path: path.to_str().unwrap().to_owned(), content: content.clone(), mode: 0o640 };
        // `chroot / ...`: the hook as mmdebstrap runs it, with this system as the tree.
        let status =
            std::process::Command::new("sh").args(["-c", &write_file(&file), "exec", "/"]).status().unwrap();
        assert!(status.success());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&path.metadata().unwrap()) & 0o7777, 0o640);
    }

    #[test]
    fn the_environment_is_built_anew() {
        let caller = |name: &str| (name != "all_proxy" && name != "ftp_proxy").then(|| OsString::from("v"));
        let names: Vec<_> = environment(caller, "/bin").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["PATH", "HOME", "TMPDIR", "LC_ALL", "http_proxy", "https_proxy", "no_proxy"]);
    }

    #[test]
    fn messages_become_stages_in_order() {
        let log = "I: chroot architecture amd64 is equal to the host's architecture\n\
                   I: running apt-get update...\n\
                   I: downloading packages with apt...\n\
                   I: extracting archives...\n\
                   I: installing essential packages...\n\
                   I: installing remaining packages inside the chroot...\n\
                   I: running --customize-hook in shell: sh -c 'I: success in' exec /tmp/x\n\
                   Created symlink /etc/x\n\
                   I: cleaning package lists and apt cache...\n\
                   I: creating tarball...\n\
                   I: success in 18.8613 seconds\n";
        let stages: Vec<_> = log.lines().filter_map(Stage::of_line).collect();
        assert_eq!(stages.len(), 9);
        assert!(stages.is_sorted_by(|a, b| a < b && a.percent() < b.percent()));
        assert_eq!(Stage::of_line("success in 3"), None);
        assert!(is_complaint("E: apt-get update failed") && !is_complaint("I: done"));
    }
}
