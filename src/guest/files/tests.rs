use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::model::guest_file::{BEGIN, END, MARKER};
use crate::model::guest_settings::GuestSettings;
use crate::model::mac::Mac;
use crate::model::name::Name;
use crate::model::nic::{Nic, NicKind, NicSettings};
use crate::model::template::InitKind;

/// A guest's tree between two boots.
struct Guest {
    tree: TempDir,
    name: Name,
    init_kind: InitKind,
    settings: GuestSettings,
    nics: Vec<Nic>,
}

impl Guest {
    fn new() -> Self {
        let settings =
            GuestSettings { hostname: None, resolvers: vec!["192.0.2.53".parse().unwrap()], domain: None };
        Self {
            tree: TempDir::new().unwrap(),
            name: Name::new("web01").unwrap(),
            init_kind: InitKind::Systemd,
            settings,
            nics: vec![nic("eth0", "10.9.0.2/24"), nic("eth1", "10.8.0.2/24")],
        }
    }

    fn ifupdown() -> Self {
        let guest = Self::new();
        guest.write("sbin/ifup", "");
        guest.write("etc/network/interfaces", "auto eth0\niface eth0 inet dhcp\n");
        guest
    }

    fn networkd() -> Self {
        let guest = Self::new();
        guest.write("usr/lib/systemd/systemd-networkd", "");
        guest.link("etc/systemd/system/multi-user.target.wants/systemd-networkd.service", "/x");
        guest
    }

    fn path(&self, path: &str) -> PathBuf {
        let full = self.tree.path().join(path);
        fs::create_dir_all(full.parent().unwrap()).unwrap();
        full
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.path(path), text).unwrap();
    }

    fn append(&self, path: &str, text: &str) {
        self.write(path, &(self.read(path) + text));
    }

    fn link(&self, path: &str, target: &str) {
        let path = self.path(path);
        let _ = fs::remove_file(&path);
        symlink(target, path).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// A boot: /run is fresh. Returns the host name and what is told.
    fn boots(&self) -> (String, Vec<String>) {
        let _ = fs::remove_dir_all(self.tree.path().join("run"));
        fs::create_dir(self.tree.path().join("run")).unwrap();
        let root = fs::File::open(self.tree.path()).unwrap().into();
        let guest = place::Guest {
            name: &self.name,
            uuid: &"0".repeat(32),
            init_kind: self.init_kind,
            settings: &self.settings,
            nics: &self.nics,
        };
        let placed = place(&root, &guest);
        (placed.hostname, placed.notes)
    }

    /// One of which nothing is to be told.
    fn boots_well(&self) {
        assert_eq!(self.boots().1, Vec::<String>::new());
    }
}

fn nic(name: &str, ipv4: &str) -> Nic {
    Nic {
        device: name.into(),
        name: name.into(),
        slot: 0,
        kind: NicKind::Bridged { network: "lan".into() },
        mac: Mac::guest([1, 2, 3, 4, 5]),
        ipv4: Some(ipv4.parse().unwrap()),
        gateway4: None,
        ipv6: None,
        gateway6: None,
        settings: NicSettings::default(),
    }
}

const OWN_RESOLVER: &str = "# --- BEGIN nagaya ---\nnameserver 192.0.2.53\n# --- END nagaya ---\n";

#[test]
fn a_fresh_guest_gets_all_and_a_second_boot_changes_nothing() {
    let guest = Guest::ifupdown();
    guest.write("etc/resolv.conf", "nameserver 10.0.2.3\n");
    guest.write("etc/hostname", "image\n");
    guest.write("etc/hosts", "127.0.0.1 localhost\n");
    assert_eq!(guest.boots(), ("web01".to_owned(), Vec::new()));
    assert_eq!(guest.read("etc/hostname"), "web01\n");
    assert_eq!(guest.read("etc/resolv.conf"), OWN_RESOLVER);
    assert_eq!(guest.read("etc/hosts"), format!("127.0.0.1 localhost\n{BEGIN}\n127.0.1.1 web01\n{END}\n"));
    let interfaces = guest.read("etc/network/interfaces");
    assert!(interfaces.ends_with("source /etc/network/interfaces.d/*\n"), "{interfaces}");
    assert!(!interfaces.contains("dhcp"), "{interfaces}");
    let inode = |path: &str| std::os::unix::fs::MetadataExt::ino(&fs::metadata(guest.path(path)).unwrap());
    let files =
        ["etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/network/interfaces", "etc/.nagaya.json"];
    let before = files.map(inode);
    guest.boots_well();
    assert_eq!(files.map(inode), before);
}

#[test]
fn a_host_name_is_written_until_the_guest_chooses_one() {
    let mut guest = Guest::new();
    guest.boots_well();
    // A renamed container has its new name.
    guest.name = Name::new("web02").unwrap();
    assert_eq!(guest.boots().0, "web02");
    assert!(guest.read("etc/hosts").contains("127.0.1.1 web02\n"));
    guest.write("etc/hostname", "# mine\nmail.customer.example\n");
    assert_eq!(guest.boots(), ("mail.customer.example".to_owned(), Vec::new()));
    assert!(guest.read("etc/hosts").contains("127.0.1.1 mail.customer.example mail\n"));
    // What is no host name is not passed on.
    guest.write("etc/hostname", "a b\n");
    assert_eq!(guest.boots().0, "web02");
    // The operator's word is the last one.
    guest.settings.hostname = Some("set.example".into());
    assert_eq!(guest.boots().0, "set.example");
    assert_eq!(guest.read("etc/hostname"), "set.example\n");
}

#[test]
fn what_the_guest_adds_to_a_file_stays_and_ours_follows_the_settings() {
    let mut guest = Guest::ifupdown();
    guest.boots_well();
    guest.append("etc/resolv.conf", "options timeout:1\n");
    guest.append("etc/network/interfaces", "iface eth0:1 inet static\n    address 10.9.0.9/24\n");
    fs::set_permissions(guest.path("etc/network/interfaces"), fs::Permissions::from_mode(0o600)).unwrap();
    guest.nics[0] = nic("eth0", "10.9.0.7/24");
    guest.settings.resolvers = vec!["192.0.2.99".parse().unwrap()];
    guest.boots_well();
    let interfaces = guest.read("etc/network/interfaces");
    assert!(interfaces.contains("10.9.0.7") && !interfaces.contains("10.9.0.2"), "{interfaces}");
    assert!(interfaces.ends_with("    address 10.9.0.9/24\n"), "{interfaces}");
    let mode = fs::metadata(guest.path("etc/network/interfaces")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let resolv = guest.read("etc/resolv.conf");
    assert_eq!(resolv, OWN_RESOLVER.replace(".53", ".99") + "options timeout:1\n");
}

#[test]
fn what_the_guest_changes_is_the_guests_and_that_is_told() {
    let mut guest = Guest::networkd();
    guest.boots_well();
    let file = "etc/systemd/network/05-nagaya-eth0.network";
    let edited =
        guest.read(file).replace("Address=10.9.0.2/24\n", "Address=10.9.0.2/24\nAddress=10.9.0.3/24\n");
    guest.write(file, &edited);
    guest.write("etc/resolv.conf", "nameserver 192.0.2.1\n");
    guest.boots_well();
    assert_eq!(guest.read(file), edited);
    assert_eq!(guest.read("etc/resolv.conf"), "nameserver 192.0.2.1\n");
    guest.nics[0] = nic("eth0", "10.9.0.7/24");
    let told = guest.boots().1;
    assert!(
        told.len() == 1 && told[0].contains("05-nagaya-eth0.network was changed in the guest"),
        "{told:?}"
    );
    assert_eq!(guest.read(file), edited);
    fs::remove_file(guest.path(file)).unwrap();
    guest.boots_well();
    assert!(guest.read(file).contains("Address=10.9.0.7/24"));
}

#[test]
fn a_file_beside_it_keeps_hands_off() {
    let guest = Guest::ifupdown();
    for (dir, name) in
        [("etc", "resolv.conf"), ("etc", "hosts"), ("etc", "hostname"), ("etc/network", "interfaces")]
    {
        guest.write(&format!("{dir}/.nagaya-ignore.{name}"), "");
        guest.write(&format!("{dir}/{name}"), "mine\n");
    }
    assert_eq!(guest.boots(), ("mine".to_owned(), Vec::new()));
    for file in ["etc/resolv.conf", "etc/hosts", "etc/hostname", "etc/network/interfaces"] {
        assert_eq!(guest.read(file), "mine\n");
    }
}

#[test]
fn nothing_in_the_way_of_a_file_is_worth_a_boot() {
    let files = ["etc/hostname", "etc/hosts", "etc/machine-id", "etc/resolv.conf", "etc/network/interfaces"];
    let guest = Guest::ifupdown();
    for file in files {
        let _ = fs::remove_file(guest.path(file));
        fs::create_dir(guest.path(file)).unwrap();
    }
    // ifupdown is known by its file.
    let (hostname, told) = guest.boots();
    assert_eq!(hostname, "web01");
    for file in &files[..4] {
        assert!(
            told.iter().any(|note| note.contains(&format!("cannot write the guest's /{file}: "))),
            "{told:?}"
        );
    }
    let guest = Guest::ifupdown();
    for file in files {
        let _ = fs::remove_file(guest.path(file));
        guest.link(file, "/nowhere/at/all");
    }
    guest.boots_well();
    for file in ["etc/hostname", "etc/machine-id"] {
        assert!(!guest.path(file).is_symlink(), "{file}");
    }
    let guest = Guest::ifupdown();
    for file in files {
        let _ = fs::remove_file(guest.path(file));
        rustix::fs::mkfifoat(rustix::fs::CWD, guest.path(file), rustix::fs::Mode::from_raw_mode(0o666))
            .unwrap();
    }
    guest.boots_well();
    for file in &files[..4] {
        assert!(guest.path(file).is_file(), "{file}");
    }
    let guest = Guest::new();
    guest.write("etc", "");
    let told = guest.boots().1;
    assert!(told.iter().any(|note| note.contains("cannot open the guest's /etc: ")), "{told:?}");
}

#[test]
fn resolvers_go_where_the_link_leads() {
    let read = |link: &str, file: &str| {
        let guest = Guest::new();
        guest.link("etc/resolv.conf", link);
        guest.boots_well();
        let text = guest.read(file);
        guest.boots_well();
        assert_eq!(guest.read(file), text);
        text
    };
    for (link, file) in [
        ("/tmp/resolv.conf", "tmp/resolv.conf"),
        ("../tmp/./x/resolv.conf", "tmp/x/resolv.conf"),
        ("../../../run/NetworkManager/resolv.conf", "run/NetworkManager/resolv.conf"),
        // Of a resolved that nothing starts.
        ("/run/systemd/resolve/stub-resolv.conf", "run/systemd/resolve/stub-resolv.conf"),
    ] {
        assert_eq!(read(link, file), OWN_RESOLVER, "{link}");
    }
    let guest = Guest::new();
    guest.link("etc/resolv.conf", "resolv.conf");
    let told = guest.boots().1;
    assert!(told.len() == 1 && told[0].contains("leads nowhere"), "{told:?}");
    // A file that the guest has put there is its own.
    let guest = Guest::new();
    guest.link("etc/resolv.conf", "/etc/resolv.mine");
    guest.write("etc/resolv.mine", "nameserver 192.0.2.1\n");
    guest.boots_well();
    assert_eq!(guest.read("etc/resolv.mine"), "nameserver 192.0.2.1\n");
}

#[test]
fn a_guest_that_installs_resolved_or_resolvconf_has_resolvers_at_its_next_boot() {
    let guest = Guest::ifupdown();
    guest.boots_well();
    let drop_in = "run/systemd/resolved.conf.d/00-nagaya.conf";
    assert!(!guest.path(drop_in).exists());
    guest.write("usr/lib/systemd/systemd-resolved", "");
    guest.link("etc/systemd/system/sysinit.target.wants/systemd-resolved.service", "/x");
    guest.link("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf");
    guest.boots_well();
    assert_eq!(guest.read(drop_in), "[Resolve]\nDNS=192.0.2.53\n");
    // It makes this directory, and insists on that.
    assert!(!guest.tree.path().join("run/systemd/resolve").exists());

    let guest = Guest::networkd();
    guest.boots_well();
    guest.write("etc/resolvconf/resolv.conf.d/base", "");
    guest.link("etc/resolvconf/run", "/run/resolvconf");
    guest.link("etc/resolv.conf", "/etc/resolvconf/run/resolv.conf");
    guest.boots_well();
    assert_eq!(guest.read("etc/resolvconf/resolv.conf.d/base"), OWN_RESOLVER);
}

#[test]
fn files_of_interfaces_that_are_gone_go_and_nothing_else_does() {
    let mut guest = Guest::networkd();
    let (dir, scripts) = ("etc/systemd/network", "etc/sysconfig/network-scripts");
    guest.boots_well();
    let [first, second] = ["eth0", "eth1"].map(|name| format!("{dir}/05-nagaya-{name}.network"));
    // As 0.1.0 wrote them; and others'.
    guest.write(&format!("{scripts}/ifcfg-eth1"), &format!("{MARKER}\nDEVICE=eth1\n"));
    guest.write(&format!("{scripts}/ifcfg-lo"), "DEVICE=lo\n");
    guest.write(&format!("{dir}/05-mine.network"), "");
    guest.link(&format!("{scripts}/ifcfg-eth9"), "ifcfg-lo");
    guest.nics.pop();
    guest.boots_well();
    let exists = |path: &str| guest.tree.path().join(path).exists();
    assert!(exists(&first) && !exists(&second) && !exists(&format!("{scripts}/ifcfg-eth1")));
    assert!(["ifcfg-lo", "ifcfg-eth9"].iter().all(|name| exists(&format!("{scripts}/{name}"))));
    assert!(exists(&format!("{dir}/05-mine.network")));
    // Where the directories are links out of the tree, nobody's file is touched.
    let outside = TempDir::new().unwrap();
    let theirs = outside.path().join("05-nagaya-eth7.network");
    fs::write(&theirs, format!("{MARKER}\n")).unwrap();
    fs::remove_dir_all(guest.path(dir)).unwrap();
    symlink(outside.path(), guest.path(dir)).unwrap();
    guest.boots();
    assert!(theirs.exists());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn units_that_fail_in_every_container_are_masked_where_they_are() {
    let guest = Guest::new();
    guest.write("lib/systemd/system/run-rpc_pipefs.mount", "");
    guest.boots_well();
    let mask = |unit: &str| fs::read_link(guest.tree.path().join("run/systemd/system").join(unit)).ok();
    assert_eq!(mask("run-rpc_pipefs.mount"), Some("/dev/null".into()));
    assert_eq!(mask("proc-fs-nfsd.mount"), None);
}

#[test]
fn logins_are_moved_to_the_console_once() {
    let mut guest = Guest::new();
    let machines = "1:2345:respawn:/sbin/getty 38400 tty1\n";
    guest.write("etc/inittab", machines);
    guest.boots_well();
    assert_eq!(guest.read("etc/inittab"), machines);
    guest.init_kind = InitKind::Sysvinit;
    guest.boots_well();
    assert!(guest.read("etc/inittab").contains("respawn:/sbin/getty 38400 console\n"));
    guest.write("etc/inittab", machines);
    guest.boots_well();
    assert_eq!(guest.read("etc/inittab"), machines);
}

/// Links with where they lead, programs with their text, below these directories.
fn listed(guest: &Guest, dirs: &[&str]) -> String {
    let mut lines = Vec::new();
    for dir in dirs {
        for entry in fs::read_dir(guest.path(dir).join(".")).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            let run = fs::read_to_string(entry.path().join("run"));
            lines.push(match (fs::read_link(entry.path()), run) {
                (Ok(target), _) => format!("/{dir}/{name} -> {}\n", target.display()),
                (_, Ok(text)) => {
                    let mode = fs::metadata(entry.path().join("run")).unwrap().permissions().mode();
                    format!("/{dir}/{name}/run {:o}\n{text}", mode & 0o777)
                }
                _ => format!("/{dir}/{name}\n"),
            });
        }
    }
    lines.sort();
    lines.concat()
}

#[test]
fn logins_that_are_services_are_moved_to_the_console_once() {
    let mut all = String::new();
    for (what, services, dir) in [
        ("OpenRC", "etc/init.d", "etc/runlevels/default"),
        ("runit as Void has it", "etc/sv", "etc/runit/runsvdir/default"),
        ("runit as Debian has it", "etc/sv", "etc/runit/runsvdir/default"),
    ] {
        let mut guest = Guest::new();
        guest.init_kind = InitKind::Unknown;
        for name in ["tty1", "tty2", "ttyS0"] {
            let (name, target) = match what {
                "OpenRC" => (format!("agetty.{name}"), format!("/etc/init.d/agetty.{name}")),
                "runit as Void has it" => (format!("agetty-{name}"), format!("/etc/sv/agetty-{name}")),
                _ => (format!("getty-{name}"), format!("../../../sv/getty-{name}")),
            };
            guest.link(&format!("{dir}/{name}"), &target);
            match what {
                "OpenRC" => guest.link(&format!("{services}/{name}"), "agetty"),
                _ => guest
                    .write(&format!("{services}/{name}/run"), &format!("exec {}\n", name.replace('-', " "))),
            }
        }
        match what {
            "OpenRC" => guest.write("etc/init.d/agetty", ""),
            "runit as Void has it" => guest.write("etc/sv/agetty-console/run", "the guest's own\n"),
            _ => guest.link("etc/service", "runit/runsvdir/default"),
        }
        guest.link(&format!("{dir}/sshd"), "/x");
        let machines = listed(&guest, &[dir, services]);
        guest.init_kind = InitKind::Systemd;
        guest.boots_well();
        assert_eq!(listed(&guest, &[dir, services]), machines, "another init does not read them");
        guest.init_kind = InitKind::Unknown;
        guest.boots_well();
        let moved = listed(&guest, &[dir, services]);
        all.push_str(&format!("######## {what}\n{moved}"));
        // What the guest puts there is its own.
        guest.link(&format!("{dir}/agetty.tty5"), "/etc/init.d/agetty.tty5");
        let own = listed(&guest, &[dir, services]);
        guest.boots_well();
        assert_eq!(listed(&guest, &[dir, services]), own);
    }
    snapbox::assert_data_eq!(all, snapbox::file!["../../../tests/golden/guest-logins.txt"].raw());
}

#[test]
fn a_broken_record_is_none() {
    let guest = Guest::new();
    guest.boots_well();
    for record in ["", "[]", "{\"/etc/hostname\": 7}"] {
        guest.write("etc/.nagaya.json", record);
        guest.boots_well();
        assert_eq!(guest.read("etc/hostname"), "web01\n");
    }
    fs::remove_file(guest.path("etc/.nagaya.json")).unwrap();
    guest.link("etc/.nagaya.json", "/etc/shadow");
    guest.boots_well();
}
