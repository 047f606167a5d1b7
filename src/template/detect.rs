//! What an unpacked tree says of itself: its init, what configures its network, its name and architecture.
//! Nothing of it is trusted: it chooses defaults, never permissions.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::guest::tools::network_style;
use crate::model::template::{InitKind, TemplateFacts};
use crate::sys::fs::rooted::Rooted;

/// What a container executes as its first process, always.
const INIT: &str = "sbin/init";
/// Where other systems keep an init; only to say so.
const OTHER_INITS: [&str; 4] = ["etc/init", "bin/init", "lib/systemd/systemd", "usr/lib/systemd/systemd"];
/// What a boot mounts on, and never through a link.
const MOUNTED_ON: [&str; 4] = ["dev", "proc", "run", "sys"];
const OS_RELEASE_MAX: u64 = 64 << 10;
/// The largest init searched for strings, busybox linked statically, has 1 to 3 MiB.
const INIT_MAX: u64 = 8 << 20;
const NAME_MAX: usize = 100;

#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    #[error("the tree has no executable file /sbin/init")]
    NoInit,
    #[error("the tree has no executable file /sbin/init, only /{other}")]
    InitElsewhere { other: &'static str },
    #[error("/{path} of the tree is {what}: it must be a directory, or missing, for a container to boot")]
    NoPlace { path: &'static str, what: &'static str },
    #[error("cannot look at '/{path}' in the tree")]
    Look { path: &'static str, source: std::io::Error },
}

/// Reads the tree below `root`; nothing outside of it is looked at, whatever its links say.
pub fn detect(root: BorrowedFd<'_>) -> Result<TemplateFacts, DetectError> {
    let tree = Rooted::new(root);
    if !is_program(&tree, INIT)? {
        for other in OTHER_INITS {
            if is_program(&tree, other)? {
                return Err(DetectError::InitElsewhere { other });
            }
        }
        return Err(DetectError::NoInit);
    }
    for path in MOUNTED_ON {
        if let Some(what) = tree.kind_unless_directory(path).map_err(at(path))? {
            return Err(DetectError::NoPlace { path, what });
        }
    }
    let program = tree.read_start(INIT, INIT_MAX).map_err(at(INIT))?.unwrap_or_default();
    let init = init_kind(&tree, &program)?;
    let arch = match elf_machine(&program) {
        Some(arch) => arch,
        // An init that is a script: its shell tells.
        None => {
            let shell = tree.read_start("bin/sh", 64).map_err(at("bin/sh"))?.unwrap_or_default();
            elf_machine(&shell).unwrap_or("unknown")
        }
    };
    Ok(TemplateFacts {
        init,
        network: network_style(&tree, init).map_err(at("etc"))?,
        os: os_name(&tree)?,
        arch: arch.to_owned(),
    })
}

fn is_program(tree: &Rooted<'_>, path: &'static str) -> Result<bool, DetectError> {
    Ok(tree.regular_file(path).map_err(at(path))?.is_some_and(|file| file.is_executable))
}

/// Decides by the path that `/sbin/init` leads to if that is a known one, else by words in the program.
fn init_kind(tree: &Rooted<'_>, program: &[u8]) -> Result<InitKind, DetectError> {
    const PLACES: [(&str, InitKind); 8] = [
        ("lib/systemd/systemd", InitKind::Systemd),
        ("usr/lib/systemd/systemd", InitKind::Systemd),
        ("sbin/openrc-init", InitKind::Openrc),
        ("usr/sbin/openrc-init", InitKind::Openrc),
        ("usr/bin/openrc-init", InitKind::Openrc),
        ("bin/busybox", InitKind::Busybox),
        ("usr/bin/busybox", InitKind::Busybox),
        ("sbin/busybox", InitKind::Busybox),
    ];
    const WORDS: [(&[u8], InitKind); 4] = [
        (b"libsystemd-shared", InitKind::Systemd),
        (b"openrc-init", InitKind::Openrc),
        (b"BusyBox v", InitKind::Busybox),
        (b"/run/initctl", InitKind::Sysvinit),
    ];
    let init = tree.regular_file(INIT).map_err(at(INIT))?.map(|file| file.identity);
    for (path, kind) in PLACES {
        let there = tree.regular_file(path).map_err(at(path))?.map(|file| file.identity);
        if there.is_some() && there == init {
            return Ok(kind);
        }
    }
    // Scripts mention other programs: only machine code is searched.
    if elf_machine(program).is_some() {
        for (word, kind) in WORDS {
            if program.windows(word.len()).any(|window| window == word) {
                return Ok(kind);
            }
        }
    }
    Ok(InitKind::Unknown)
}

fn os_name(tree: &Rooted<'_>) -> Result<String, DetectError> {
    for path in ["etc/os-release", "usr/lib/os-release"] {
        if let Some(text) = tree.read_start(path, OS_RELEASE_MAX).map_err(at(path))? {
            return Ok(pretty_name(&String::from_utf8_lossy(&text)));
        }
    }
    Ok(String::new())
}

/// os-release(5): assignments as a shell reads them; the last one counts.
fn pretty_name(text: &str) -> String {
    let value =
        text.lines().filter_map(|line| line.trim().strip_prefix("PRETTY_NAME=")).next_back().unwrap_or("");
    let quoted = ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
    let mut plain = String::new();
    let mut escaped = false;
    for c in quoted.unwrap_or(value).chars() {
        if c == '\\' && !escaped {
            escaped = true;
            continue;
        }
        escaped = false;
        if is_printable(c) {
            plain.push(c);
        }
    }
    plain.chars().take(NAME_MAX).collect::<String>().trim().to_owned()
}

/// Neither a control character nor one that reorders or breaks the line it stands in.
fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The machine of an ELF header, in uname's words.
fn elf_machine(program: &[u8]) -> Option<&'static str> {
    let header = program.first_chunk::<20>()?;
    if header[..4] != *b"\x7fELF" {
        return None;
    }
    let is_64 = header[4] == 2;
    let is_little = header[5] == 1;
    let machine = [header[18], header[19]];
    let machine = if is_little { u16::from_le_bytes(machine) } else { u16::from_be_bytes(machine) };
    Some(match (machine, is_64) {
        (62, true) => "x86_64",
        (3, false) => "i686",
        (183, true) if is_little => "aarch64",
        (40, false) => "armv7l",
        (243, true) => "riscv64",
        (21, true) => {
            if is_little {
                "ppc64le"
            } else {
                "ppc64"
            }
        }
        (22, true) => "s390x",
        (258, true) => "loongarch64",
        _ => "unknown",
    })
}

fn at(path: &'static str) -> impl Fn(Errno) -> DetectError {
    move |errno| DetectError::Look { path, source: errno.into() }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use tempfile::TempDir;

    use super::*;
    use crate::guest::tools;
    use crate::model::guest_tools::Resolved;
    use crate::model::template::NetworkStyle;

    struct Tree(TempDir);

    impl Tree {
        fn new() -> Self {
            Self(TempDir::new().unwrap())
        }

        fn file(self, path: &str, content: &[u8], mode: u32) -> Self {
            let full = self.0.path().join(path);
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            fs::write(&full, content).unwrap();
            fs::set_permissions(full, fs::Permissions::from_mode(mode)).unwrap();
            self
        }

        fn link(self, path: &str, target: &str) -> Self {
            let full = self.0.path().join(path);
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            symlink(target, full).unwrap();
            self
        }

        fn fifo(self, path: &str) -> Self {
            let full = self.0.path().join(path);
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            rustix::fs::mkfifoat(rustix::fs::CWD, full, rustix::fs::Mode::from_raw_mode(0o666)).unwrap();
            self
        }

        fn systemd() -> Self {
            Self::new()
                .file("usr/lib/systemd/systemd", &elf(62, b""), 0o755)
                .link("lib", "usr/lib")
                .link("sbin", "usr/sbin")
                .link("usr/sbin/init", "../lib/systemd/systemd")
        }

        fn detect(&self) -> Result<TemplateFacts, DetectError> {
            detect(File::open(self.0.path()).unwrap().as_fd())
        }
    }

    fn elf(machine: u8, content: &[u8]) -> Vec<u8> {
        [b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0", &[machine, 0][..], content].concat()
    }

    #[test]
    fn inits_are_known_by_place_or_by_content() {
        assert_eq!(Tree::systemd().detect().unwrap().init, InitKind::Systemd);
        let alpine = Tree::new().file("bin/busybox", &elf(62, b""), 0o755).link("sbin/init", "/bin/busybox");
        assert_eq!(alpine.detect().unwrap().init, InitKind::Busybox);
        let gentoo =
            Tree::new().file("sbin/openrc-init", &elf(62, b""), 0o755).link("sbin/init", "openrc-init");
        assert_eq!(gentoo.detect().unwrap().init, InitKind::Openrc);
        for (content, kind) in [
            (&b"xx/run/initctl\0"[..], InitKind::Sysvinit),
            (b"BusyBox v1.36", InitKind::Busybox),
            (b"nothing", InitKind::Unknown),
        ] {
            let tree = Tree::new().file("sbin/init", &elf(183, content), 0o755);
            assert_eq!(tree.detect().unwrap().init, kind);
            assert_eq!(tree.detect().unwrap().arch, "aarch64");
        }
        let script = Tree::new().file("sbin/init", b"#!/bin/sh\n: BusyBox v1\n", 0o755);
        let script = script.file("bin/sh", &elf(243, b""), 0o755).detect().unwrap();
        assert_eq!((script.init, script.arch.as_str()), (InitKind::Unknown, "riscv64"));
    }

    #[test]
    fn a_tree_without_init_is_refused() {
        assert!(matches!(Tree::new().detect(), Err(DetectError::NoInit)));
        let dull = Tree::new().file("sbin/init", &elf(62, b""), 0o644);
        assert!(matches!(dull.detect(), Err(DetectError::NoInit)));
        assert!(matches!(Tree::new().link("sbin/init", "init").detect(), Err(DetectError::NoInit)));
        assert!(matches!(Tree::new().fifo("sbin/init").detect(), Err(DetectError::NoInit)));
        let elsewhere = Tree::new().file("lib/systemd/systemd", &elf(62, b""), 0o755).detect();
        assert!(matches!(elsewhere, Err(DetectError::InitElsewhere { other: "lib/systemd/systemd" })));
    }

    #[test]
    fn links_do_not_lead_out_of_the_tree() {
        assert!(Path::new("/bin/sh").exists() && Path::new("/etc/os-release").exists());
        for up in ["/bin/sh", "../../../../../../bin/sh"] {
            assert!(matches!(Tree::new().link("sbin/init", up).detect(), Err(DetectError::NoInit)));
        }
        let tree = Tree::systemd().link("etc/os-release", "../../../../../../../etc/os-release");
        assert_eq!(tree.detect().unwrap().os, "");
        let magic = Tree::systemd().link("etc/os-release", "/proc/self/exe");
        assert_eq!(magic.detect().unwrap().os, "");
    }

    #[test]
    fn nothing_hangs_and_nothing_large_is_read() {
        let tree = Tree::systemd().fifo("etc/os-release").file("usr/lib/os-release", b"PRETTY_NAME=X", 0o644);
        assert_eq!(tree.detect().unwrap().os, "X");
        let tree = Tree::new().file("sbin/init", &elf(62, b""), 0o755).file("etc/os-release", b"", 0o644);
        for path in ["sbin/init", "etc/os-release"] {
            let file = File::options().write(true).open(tree.0.path().join(path)).unwrap();
            file.set_len(10 << 30).unwrap();
        }
        let started = std::time::Instant::now();
        assert_eq!(tree.detect().unwrap().init, InitKind::Unknown);
        assert!(started.elapsed().as_secs() < 20);
    }

    #[test]
    fn pretty_names_are_made_plain() {
        for (text, name) in [
            ("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n", "Debian GNU/Linux 12 (bookworm)"),
            ("PRETTY_NAME='Alpine Linux v3.20'", "Alpine Linux v3.20"),
            ("PRETTY_NAME=Void\r\n", "Void"),
            ("PRETTY_NAME=\"a \\\"b\\\" \\\\ c\"", "a \"b\" \\ c"),
            ("PRETTY_NAME=\"\x1b[31mred\u{202e}\x07\"", "[31mred"),
            ("PRETTY_NAME=one\nPRETTY_NAME=two", "two"),
            ("ID=x", ""),
        ] {
            assert_eq!(pretty_name(text), name);
        }
        assert_eq!(pretty_name(&format!("PRETTY_NAME={}", "é".repeat(500))).chars().count(), 100);
    }

    #[test]
    fn the_network_is_configured_by_what_is_there() {
        let networkd = || Tree::systemd().file("usr/lib/systemd/systemd-networkd", b"", 0o755);
        let ifupdown =
            |tree: Tree| tree.file("usr/sbin/ifup", b"", 0o755).file("etc/network/interfaces", b"", 0o644);
        let wants = "etc/systemd/system/multi-user.target.wants/systemd-networkd.service";
        // What nothing starts sets nothing up.
        assert_eq!(networkd().detect().unwrap().network, NetworkStyle::None);
        assert_eq!(ifupdown(networkd()).detect().unwrap().network, NetworkStyle::Ifupdown);
        let enabled = ifupdown(networkd()).link(wants, "/lib/systemd/system/systemd-networkd.service");
        assert_eq!(enabled.detect().unwrap().network, NetworkStyle::Networkd);
        assert_eq!(Tree::systemd().detect().unwrap().network, NetworkStyle::None);
        let hollow = ifupdown(Tree::systemd()).link(wants, "/lib/systemd/system/systemd-networkd.service");
        assert_eq!(hollow.detect().unwrap().network, NetworkStyle::Ifupdown);
    }

    #[test]
    fn of_several_tools_the_one_with_the_last_word_counts() {
        let link = |tree: Tree, unit: &str| {
            tree.link(&format!("etc/systemd/system/multi-user.target.wants/{unit}"), "/lib/systemd/system/x")
        };
        let program = |tree: Tree, path: &str| tree.file(path, b"", 0o755);
        let manager = || link(program(Tree::systemd(), "usr/sbin/NetworkManager"), "NetworkManager.service");
        let networkd = |tree| program(tree, "usr/lib/systemd/systemd-networkd");
        let ifupdown = |tree: Tree| program(tree, "usr/sbin/ifup").file("etc/network/interfaces", b"", 0o644);
        let scripts = |tree: Tree| {
            tree.file("etc/sysconfig/network-scripts/ifup-eth", b"", 0o755).file(
                "etc/rc.d/init.d/network",
                b"",
                0o755,
            )
        };
        let netplan = |tree: Tree| {
            program(tree, "usr/share/netplan/netplan.script")
                .link("usr/sbin/netplan", "../share/netplan/netplan.script")
        };
        let enabled = |tree| link(tree, "systemd-networkd.service");
        let style = |tree: Tree| tree.detect().unwrap().network;

        assert_eq!(style(manager()), NetworkStyle::NetworkManager);
        assert_eq!(style(program(Tree::systemd(), "usr/sbin/NetworkManager")), NetworkStyle::None);
        assert_eq!(style(networkd(manager())), NetworkStyle::NetworkManager);
        assert_eq!(style(link(networkd(Tree::systemd()), "systemd-networkd.socket")), NetworkStyle::Networkd);
        let vendor = "usr/lib/systemd/system/multi-user.target.wants/systemd-networkd.service";
        let shipped = || networkd(Tree::systemd()).link(vendor, "../systemd-networkd.service");
        assert_eq!(style(shipped()), NetworkStyle::Networkd);
        let masked = shipped().link("etc/systemd/system/systemd-networkd.service", "/dev/null");
        assert_eq!(style(masked), NetworkStyle::None);
        assert_eq!(style(enabled(networkd(manager()))), NetworkStyle::Networkd);
        assert_eq!(style(ifupdown(manager())), NetworkStyle::Ifupdown);
        assert_eq!(style(scripts(manager())), NetworkStyle::Ifcfg);
        let only_directory = Tree::systemd().file("etc/sysconfig/network-scripts/ifcfg-lo", b"", 0o644);
        assert_eq!(style(only_directory), NetworkStyle::None);
        let planned = |tree: Tree| netplan(tree).file("etc/netplan/10-lxc.yaml", b"", 0o600);
        assert_eq!(style(planned(enabled(networkd(ifupdown(Tree::systemd()))))), NetworkStyle::Netplan);
        assert_eq!(style(planned(manager())), NetworkStyle::Netplan);
        assert_eq!(style(netplan(enabled(networkd(Tree::systemd())))), NetworkStyle::Networkd);
        assert_eq!(style(planned(Tree::systemd())), NetworkStyle::None);
    }

    #[test]
    fn places_to_mount_on_are_directories_or_missing() {
        for path in MOUNTED_ON {
            let link = Tree::systemd().link(path, "var/run").detect().unwrap_err();
            assert!(link.to_string().contains(&format!("/{path} of the tree is a symbolic link")), "{link}");
            let file = Tree::systemd().file(path, b"", 0o644).detect().unwrap_err();
            assert!(matches!(file, DetectError::NoPlace { what: "a file", .. }), "{file}");
            let inside = Tree::systemd().file(&format!("{path}/x"), b"", 0o644);
            assert!(inside.detect().is_ok());
        }
    }

    #[test]
    fn what_looks_up_names_is_seen() {
        let look = |tree: &Tree, init| {
            let root = File::open(tree.0.path()).unwrap();
            tools::look(&Rooted::new(root.as_fd()), init)
        };
        let tree = Tree::systemd().file("usr/lib/systemd/systemd-resolved", b"", 0o755);
        assert_eq!(look(&tree, InitKind::Systemd).resolved, Resolved::Idle);
        assert_eq!(look(&tree, InitKind::Sysvinit).resolved, Resolved::Absent);
        let wants = "etc/systemd/system/sysinit.target.wants/systemd-resolved.service";
        let tree = tree.link(wants, "/usr/lib/systemd/system/systemd-resolved.service");
        assert_eq!(look(&tree, InitKind::Systemd).resolved, Resolved::Enabled);
        assert!(!look(&tree, InitKind::Systemd).has_resolvconf);
        assert!(look(&tree, InitKind::Systemd).is_interfaces_d_free);
        let tree = tree.file("etc/resolvconf/resolv.conf.d/base", b"", 0o644);
        let tree = tree.file("etc/network/interfaces.d/50-cloud-init", b"", 0o644);
        assert!(look(&tree, InitKind::Systemd).has_resolvconf);
        assert!(!look(&tree, InitKind::Systemd).is_interfaces_d_free);
    }

    #[test]
    fn alpine_is_known_by_its_release() {
        let alpine = || {
            Tree::new()
                .file("bin/busybox", &elf(62, b""), 0o755)
                .link("sbin/init", "/bin/busybox")
                .link("sbin/ifup", "/bin/busybox")
                .file("etc/network/interfaces", b"", 0o644)
        };
        assert_eq!(alpine().detect().unwrap().network, NetworkStyle::Ifupdown);
        let released = alpine().file("etc/alpine-release", b"3.20.3\n", 0o644);
        assert_eq!(released.detect().unwrap().network, NetworkStyle::Alpine);
    }
}
