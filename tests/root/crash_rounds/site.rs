//! Whose commands are killed: the same is looked at of each kind of owner, by the kernel's own tools.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use serde_json::Value;

use super::super::daemonless_user::{DaemonlessUser, Otherwise};
use super::super::host::{Host, Running, pids, told};
use super::super::hostd_users;
use super::super::templates;

type Make<'a> = Box<dyn Fn(&[&str]) -> Command + 'a>;
type Run<'a> = Box<dyn Fn(&str, &[&str]) -> String + 'a>;

/// One owner's instance.
pub struct Site<'a> {
    command: Make<'a>,
    /// A program in the network that its bridges are in.
    in_network: Run<'a>,
    /// Processes that serve it and come again when they are needed.
    service: Box<dyn Fn() -> Vec<i32> + 'a>,
    is_served: bool,
    pub state: PathBuf,
    pub run: PathBuf,
    /// Where its containers' cgroups are, by id.
    pub cgroups: PathBuf,
    /// First of its containers' ids and their number.
    pub ids: (u32, u32),
    pub uid: u32,
    /// What paths of its mounts have in them.
    pub word: String,
    /// A process in the mount namespace that its commands stand in.
    pub mounts_of: String,
    archive: tempfile::TempDir,
}

impl<'a> Site<'a> {
    /// Root's, by brokers that are forked.
    pub fn of_host(host: &'a Host) -> Self {
        Self {
            command: Box::new(|args| host.command(args)),
            in_network: Box::new(|program, args| host.net().run(program, args)),
            service: Box::new(Vec::new),
            is_served: false,
            state: host.state_dir(),
            run: host.run_dir(),
            cgroups: host.cgroup(),
            ids: host.ids().expect("a range"),
            uid: host.uid().expect("a service user"),
            word: host.name().to_owned(),
            mounts_of: host.net().pid().to_string(),
            archive: archive(),
        }
    }

    /// An ordinary user's, by nagaya-hostd.
    pub fn of_user(user: &'a hostd_users::HostdUser<'a>) -> Self {
        let host = &user.users.host;
        Self {
            command: Box::new(|args| user.command(args)),
            in_network: Box::new(|program, args| user.users.host.net().run(program, args)),
            service: Box::new(|| user.users.hostds()),
            is_served: true,
            state: user.state_dir(),
            run: format!("/run/{}-users/{}", host.name(), user.uid).into(),
            cgroups: host.cgroup().join(format!("u{}", user.uid)),
            ids: user.range(),
            uid: user.uid,
            word: host.name().to_owned(),
            mounts_of: host.net().pid().to_string(),
            archive: archive(),
        }
    }

    /// An ordinary user's, by nobody.
    pub fn of_daemonless(user: &'a DaemonlessUser) -> Self {
        Self {
            command: Box::new(|args| user.command(args, &Otherwise::default())),
            in_network: Box::new(|program, args| user.in_network(&[&[program], args].concat())),
            service: Box::new(Vec::new),
            is_served: false,
            state: user.state_dir(),
            run: user.run_dir(),
            cgroups: user.cgroup.join(&user.name),
            ids: (user.ids, 65536),
            uid: user.uid,
            word: user.name.clone(),
            mounts_of: "self".to_owned(),
            archive: archive(),
        }
    }

    /// Of a root filesystem.
    pub fn archive(&self) -> String {
        self.archive.path().join("tiny.tar").to_string_lossy().into_owned()
    }

    pub fn spawn(&self, args: &[&str], said: &Path, input: Option<&Path>) -> Child {
        super::spawn((self.command)(args), said, input)
    }

    pub fn nagaya(&self, args: &[&str]) -> std::process::Output {
        Running::start((self.command)(args), b"").wait()
    }

    /// The same with all that it tells of its work.
    pub fn says(&self, args: &[&str]) -> String {
        let mut command = (self.command)(args);
        command.env("NAGAYA_LOG", "nagaya=debug");
        told(&Running::start(command, b"").wait())
    }

    /// Its standard output; it must succeed.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.nagaya(args);
        assert!(output.status.success(), "nagaya {}: {}", args.join(" "), told(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn json(&self, args: &[&str]) -> Vec<Value> {
        let text = self.ok(&[args, &["--format", "json"]].concat());
        match serde_json::from_str(&text).expect("JSON") {
            Value::Array(all) => all,
            one => vec![one],
        }
    }

    pub fn init(&self, name: &str) -> i64 {
        let info = &self.json(&["info", name])[0];
        info["pid"].as_i64().unwrap_or_else(|| panic!("{name} has no init: {info}"))
    }

    pub fn in_network(&self, program: &str, args: &[&str]) -> String {
        (self.in_network)(program, args)
    }

    pub fn service(&self) -> Vec<i32> {
        (self.service)()
    }

    /// Whether there is a service that may be killed.
    pub fn is_served(&self) -> bool {
        self.is_served
    }

    /// Names of containers, as far as manifests tell them.
    pub fn names(&self) -> BTreeSet<String> {
        let all = fs::read_dir(self.state.join("containers")).into_iter().flatten().flatten();
        let texts = all.filter_map(|entry| fs::read_to_string(entry.path().join("manifest.toml")).ok());
        let name = |text: String| {
            let line = text.lines().find_map(|line| line.strip_prefix("name = "))?;
            Some(line.trim_matches('"').to_owned())
        };
        texts.filter_map(name).collect()
    }

    /// Process numbers of the monitors.
    pub fn monitors(&self) -> Vec<i32> {
        let all = fs::read_dir(&self.cgroups).into_iter().flatten().flatten();
        let texts =
            all.filter_map(|entry| fs::read_to_string(entry.path().join("monitor/cgroup.procs")).ok());
        texts.flat_map(|text| text.lines().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
    }

    /// Living processes of the owner's, of its containers', and of its network's servers.
    pub fn processes(&self) -> Vec<(i32, String)> {
        let mut found = Host::processes(Some(self.ids), Some(self.uid));
        let of_network = pids().filter_map(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).into_owned();
            (line.contains("dnsmasq") && line.contains(&self.word)).then_some((pid, line))
        });
        found.extend(of_network);
        found.sort();
        found.dedup();
        found
    }
}

/// An archive that every user may read.
fn archive() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("make a directory");
    let copy = dir.path().join("tiny.tar");
    fs::copy(templates::tiny(), &copy).expect("copy an archive");
    let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755));
    open(dir.path()).and_then(|()| open(&copy)).expect("let users read it");
    dir
}

/// The mounts of a process's mount namespace that have `word` in them.
pub fn mounts(of: &str, word: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{of}/mountinfo")).expect("read the mounts");
    text.lines().filter(|line| line.contains(word)).map(str::to_owned).collect()
}

/// Names of the links of a network, as `ip` tells them.
pub fn links(site: &Site<'_>) -> BTreeSet<String> {
    let all: Value = serde_json::from_str(&site.in_network("ip", &["-j", "link"])).expect("ip prints JSON");
    let names = all.as_array().into_iter().flatten().filter_map(|link| link["ifname"].as_str());
    names.map(str::to_owned).collect()
}
