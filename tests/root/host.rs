//! A nagaya of its own on this host, for one test: nothing of it is left when the test is over.

use std::fs;
use std::io::{Read, Write};
use std::ops::Deref;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::lab::Netns;
use super::templates;
use super::verbs::Runs;

pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// No command of nagaya's takes longer, builds of templates excepted.
const TIMEOUT: Duration = Duration::from_secs(180);
const PACKAGES: [(&str, &str); 7] = [
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("ping", "iputils-ping"),
    ("nsenter", "util-linux"),
    ("python3", "python3"),
    ("setpriv", "util-linux"),
    ("findmnt", "util-linux"),
];

/// An instance of nagaya, named at random.
pub struct Host {
    name: String,
    /// Links that containers have had, as far as they were seen.
    links: Mutex<Vec<String>>,
    /// Where its network is, if not the machine's own.
    netns: Option<Netns>,
}

impl Host {
    /// Set up as `nagaya setup` does it, with the template `tiny`.
    pub fn new() -> Self {
        Self::with(&[])
    }

    pub fn with_id_ranges(id_ranges: u32) -> Self {
        Self::with(&["--id-ranges", &id_ranges.to_string()])
    }

    /// `cidr` is the bridge's address, as in `10.9.8.1/29`.
    pub fn with_subnet(cidr: &str) -> Self {
        Self::with(&["--subnet", cidr])
    }

    /// Set up with options of `nagaya setup`, with the template `tiny`.
    pub fn with(options: &[&str]) -> Self {
        let host = Self::bare();
        host.ok(&[&["setup"], options].concat());
        host.import("tiny", &templates::tiny());
        host
    }

    /// Not set up, without a template.
    pub fn bare() -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests change the host: run them as root");
        for (program, package) in PACKAGES {
            let there = PATH.split(':').any(|dir| Path::new(dir).join(program).exists());
            assert!(there, "there is no {program}: apt-get install {package}");
        }
        Self { name: format!("ngt{}", random_hex(3)), links: Mutex::default(), netns: None }
    }

    /// As `new`, with a network of its own: no other host's packets or rules are there.
    pub fn alone() -> Self {
        Self::alone_with(&[])
    }

    /// The same with options of `nagaya setup`.
    pub fn alone_with(options: &[&str]) -> Self {
        let host = Self::bare_alone();
        host.ok(&[&["setup"], options].concat());
        host.import("tiny", &templates::tiny());
        host
    }

    /// With a network of its own, not set up, without a template.
    pub fn bare_alone() -> Self {
        let mut host = Self::bare();
        host.netns = Some(Netns::new());
        host
    }

    /// The network that it has to itself.
    pub fn net(&self) -> &Netns {
        self.netns.as_ref().expect("a host that was made alone")
    }

    pub fn import(&self, template: &str, archive: &Path) {
        self.ok(&["template", "import", &archive.to_string_lossy(), "--name", template]);
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn bridge(&self) -> String {
        format!("{}0", self.name)
    }

    pub fn state_dir(&self) -> PathBuf {
        Path::new("/var/lib").join(&self.name)
    }

    pub fn run_dir(&self) -> PathBuf {
        Path::new("/run").join(&self.name)
    }

    /// The instance's cgroup.
    pub fn cgroup(&self) -> PathBuf {
        let mount = run_tool("findmnt", &["-n", "-t", "cgroup2", "-o", "TARGET"]);
        let mount = mount.lines().next().expect("no cgroup2 is mounted: mount -t cgroup2 cgroup2 /mnt");
        Path::new(mount.trim()).join(&self.name)
    }

    /// First id and number of ids, as /etc/subuid has them.
    pub fn ids(&self) -> Option<(u32, u32)> {
        let text = fs::read_to_string("/etc/subuid").ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{}:", self.name)))?;
        let (start, count) = line.split_once(':')?;
        Some((start.parse().ok()?, count.parse().ok()?))
    }

    /// The service user's uid.
    pub fn uid(&self) -> Option<u32> {
        let text = fs::read_to_string("/etc/passwd").ok()?;
        let line = text.lines().find(|line| line.starts_with(&format!("{}:", self.name)))?;
        line.split(':').nth(2)?.parse().ok()
    }

    /// A program where this host's network is.
    pub fn program(&self, program: &str, args: &[&str]) -> Command {
        match &self.netns {
            Some(netns) => netns.command(program, args),
            None => {
                let mut command = Command::new(program);
                command.args(args).env_clear().env("PATH", PATH);
                command
            }
        }
    }

    /// `nagaya` with these arguments, in an environment of its own.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_nagaya"), args);
        command.env("NAGAYA_INSTANCE", &self.name);
        command
    }

    pub fn nagaya(&self, args: &[&str]) -> Output {
        self.spawn(args, b"").wait()
    }

    /// Starts the command; it is fed `input`.
    pub fn spawn(&self, args: &[&str], input: &[u8]) -> Running {
        Running::start(self.command(args), input)
    }

    /// Its standard error; it must end with `code`.
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        let output = self.nagaya(args);
        assert_eq!(output.status.code(), Some(code), "nagaya {}: {}", args.join(" "), told(&output));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Launches `name` from `tiny`.
    pub fn launch_from(&self, template: &str, name: &str) {
        self.ok(&["launch", template, name]);
        self.see_links();
    }

    pub fn launch(&self, name: &str) {
        self.ok(&["launch", "tiny", name]);
        self.see_links();
    }

    /// A container's cgroup.
    pub fn cgroup_of(&self, name: &str) -> PathBuf {
        self.cgroup().join(self.info(name)["id"].as_str().expect("an id"))
    }

    /// Remembers the links there are, to look for them afterwards.
    pub fn see_links(&self) {
        let mut links = self.links.lock().unwrap_or_else(|e| e.into_inner());
        for link in self.ports() {
            if !links.contains(&link) {
                links.push(link);
            }
        }
    }

    /// The bridge's ports.
    pub fn ports(&self) -> Vec<String> {
        let text = match &self.netns {
            Some(netns) => netns.run("ip", &["-j", "link"]),
            None => run_tool("ip", &["-j", "link"]),
        };
        let all: Value = serde_json::from_str(&text).expect("ip prints JSON");
        let ours = all.as_array().into_iter().flatten().filter(|link| link["master"] == self.bridge());
        ours.filter_map(|link| link["ifname"].as_str()).map(str::to_owned).collect()
    }

    /// Living processes under the instance's ids, and how they were started.
    pub fn processes(ids: Option<(u32, u32)>, user: Option<u32>) -> Vec<(i32, String)> {
        let ours =
            |uid: u32| user == Some(uid) || ids.is_some_and(|(start, n)| uid >= start && uid - start < n);
        pids()
            .filter(|pid| uids(*pid).into_iter().any(ours) && lives(*pid))
            .map(|pid| (pid, fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()))
            .collect()
    }

    /// The same after the instance was removed, when others may have been given the ids.
    fn last_processes(&self, ids: Option<(u32, u32)>, user: Option<u32>) -> Vec<(i32, String)> {
        let (by_ids, by_user) = (Self::processes(ids, None), Self::processes(None, user));
        let given = |file: &str, field: usize, which: &dyn Fn(u32) -> bool| {
            let text = fs::read_to_string(file).unwrap_or_default();
            text.lines().any(|line| {
                let fields: Vec<_> = line.split(':').collect();
                let number = fields.get(field).and_then(|text| text.parse().ok());
                fields[0] != self.name && number.is_some_and(which)
            })
        };
        let lost = ids.is_some_and(|(start, n)| given("/etc/subuid", 1, &|id| id >= start && id - start < n));
        let renewed = user.is_some_and(|user| given("/etc/passwd", 2, &|id| id == user));
        let by_ids = by_ids.into_iter().filter(|_| !lost);
        by_ids.chain(by_user.into_iter().filter(|_| !renewed)).collect()
    }

    /// What there is of the instance on the host, apart from what `ids` and `user` were needed for.
    fn traces(&self, ids: Option<(u32, u32)>, user: Option<u32>) -> Vec<String> {
        let mut found = Vec::new();
        let mut links = self.links.lock().unwrap_or_else(|e| e.into_inner()).clone();
        links.push(self.bridge());
        let there = links.iter().filter(|link| Path::new("/sys/class/net").join(link).exists());
        found.extend(there.map(|link| format!("link {link}")));
        let tables = run_tool("nft", &["list", "tables"]);
        let table = tables.lines().find(|line| line.split(' ').any(|word| word.starts_with(&self.name)));
        found.extend(table.map(|line| format!("nft {line}")));
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo");
        let mounts = mounts.lines().filter(|line| line.contains(&self.name));
        found.extend(mounts.map(|line| format!("mount {line}")));
        let processes = self.last_processes(ids, user).into_iter();
        found.extend(processes.map(|(pid, what)| format!("process {pid} {what:?}")));
        let mut paths = vec![self.cgroup(), self.state_dir(), self.run_dir()];
        for dir in ["/run/NAME-hostd", "/var/lib/NAME-hostd", "/run/NAME-users", "/var/lib/NAME-users"] {
            paths.push(dir.replace("NAME", &self.name).into());
        }
        let paths = paths.iter().filter(|path| path.symlink_metadata().is_ok());
        found.extend(paths.map(|path| format!("path {}", path.display())));
        for file in ["/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/subuid", "/etc/subgid"]
        {
            let text = fs::read_to_string(file).unwrap_or_default();
            if text.lines().any(|line| line.split(':').next() == Some(&self.name)) {
                found.push(format!("a line in {file}"));
            }
        }
        found
    }

    /// Takes away by force what `nagaya setup --remove` has left.
    fn sweep(&self, ids: Option<(u32, u32)>, user: Option<u32>) {
        for (pid, _) in self.last_processes(ids, user) {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        std::thread::sleep(Duration::from_millis(200));
        let quietly = |program: &str, args: &[&str]| {
            let _ = Command::new(program).args(args).env("PATH", PATH).output();
        };
        for port in self.ports() {
            quietly("ip", &["link", "delete", &port]);
        }
        quietly("ip", &["link", "delete", &self.bridge()]);
        quietly("nft", &["delete", "table", "inet", &self.name]);
        quietly(
            "find",
            &[&self.cgroup().to_string_lossy(), "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"],
        );
        let _ = fs::remove_dir_all(self.run_dir());
        let _ = fs::remove_dir_all(self.state_dir());
        let _ = fs::remove_dir_all(format!("/run/{}-hostd", self.name));
        quietly("userdel", &[&self.name]);
    }
}

impl Deref for Host {
    type Target = dyn Runs;

    fn deref(&self) -> &Self::Target {
        self
    }
}

impl Runs for Host {
    fn run(&self, args: &[&str]) -> Output {
        self.nagaya(args)
    }
}

impl Drop for Host {
    /// `nagaya setup --remove` must leave nothing. In a test that has failed already it is only
    /// told, and taken away all the same.
    fn drop(&mut self) {
        let failing = std::thread::panicking();
        let (ids, user) = (self.ids(), self.uid());
        let mut wrong = Vec::new();
        let told_off = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.see_links();
            let removed = self.nagaya(&["setup", "--remove", "--yes"]);
            let mut wrong = Vec::new();
            if !removed.status.success() {
                wrong.push(format!("setup --remove: {}", told(&removed)));
            }
            // What the administrator has granted stays on purpose.
            let _ = fs::remove_dir_all(Path::new("/etc").join(&self.name));
            // The broker of a command that was killed may just be ending.
            let end = Instant::now() + Duration::from_secs(2);
            let mut traces = self.traces(ids, user);
            while traces.len() == 1 && traces[0].ends_with("-hostd") && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(50));
                traces = self.traces(ids, user);
            }
            wrong.extend(traces);
            wrong
        }));
        match told_off {
            Ok(found) => wrong.extend(found),
            Err(_) => wrong.push("setup --remove did not end".to_owned()),
        }
        if wrong.is_empty() {
            return;
        }
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.sweep(ids, user)));
        let text = format!("{} has left behind:\n  {}", self.name, wrong.join("\n  "));
        if failing { eprintln!("{text}") } else { panic!("{text}") }
    }
}

/// A command under way, in a process group of its own.
pub struct Running {
    child: Option<Child>,
    what: String,
    stdout: Collected,
    stderr: Collected,
}

/// What a command writes, as it comes.
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    end: Receiver<()>,
}

impl Collected {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }
}

impl Running {
    /// Starts `command` and feeds it `input`.
    pub fn start(mut command: Command, input: &[u8]) -> Self {
        let what = format!("{command:?}");
        command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
        let child = command.spawn().unwrap_or_else(|e| panic!("cannot run {what}: {e}"));
        Self::follow(child, what, input)
    }

    /// Starts `command`, and gives what is written to as to its keyboard.
    pub fn typed_at(mut command: Command) -> (Self, ChildStdin) {
        let what = format!("{command:?}");
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot run {what}: {e}"));
        let keyboard = child.stdin.take().expect("piped");
        (Self::follow(child, what, b""), keyboard)
    }

    /// A child that was started otherwise, its output piped; it gets no more input.
    pub fn of(child: Child) -> Self {
        let what = format!("process {}", child.id());
        Self::follow(child, what, b"")
    }

    fn follow(mut child: Child, what: String, input: &[u8]) -> Self {
        if let Some(mut stdin) = child.stdin.take() {
            let input = input.to_owned();
            // A program that does not read all of it closes its end, which is its right.
            std::thread::spawn(move || drop(stdin.write_all(&input)));
        }
        let stdout = collect(child.stdout.take().expect("piped"));
        let stderr = collect(child.stderr.take().expect("piped"));
        Self { child: Some(child), what, stdout, stderr }
    }

    /// What it has printed so far.
    pub fn printed(&self) -> String {
        self.stdout.text()
    }

    /// What it has told on its standard error so far.
    pub fn told(&self) -> String {
        self.stderr.text()
    }

    pub fn pid(&self) -> i32 {
        self.child.as_ref().map_or(0, |child| child.id() as i32)
    }

    /// Kills the process, and with `group` those that it has started.
    pub fn kill(&self, group: bool) {
        let Some(pid) = rustix::process::Pid::from_raw(self.pid()) else { return };
        let kill = if group { rustix::process::kill_process_group } else { rustix::process::kill_process };
        let _ = kill(pid, rustix::process::Signal::KILL);
    }

    pub fn wait(self) -> Output {
        self.wait_for(TIMEOUT)
    }

    /// One that takes longer than `timeout` is killed, and the test has failed.
    pub fn wait_for(mut self, timeout: Duration) -> Output {
        let end = Instant::now() + timeout;
        let mut child = self.child.take().expect("waited for once");
        let status = loop {
            match child.try_wait().expect("wait for a child") {
                Some(status) => break status,
                None if Instant::now() < end => std::thread::sleep(Duration::from_millis(2)),
                None => {
                    self.child = Some(child);
                    panic!("{} has not ended after {timeout:?}", self.what);
                }
            }
        };
        let get = |from: &Collected| {
            let rest = end.saturating_duration_since(Instant::now()).max(Duration::from_secs(5));
            from.end
                .recv_timeout(rest)
                .unwrap_or_else(|_| panic!("{}: something holds its output open", self.what));
            std::mem::take(&mut *from.bytes.lock().unwrap())
        };
        Output { status, stdout: get(&self.stdout), stderr: get(&self.stderr) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill(true);
        }
        if let Some(child) = &mut self.child {
            let _ = child.wait();
        }
    }
}

fn collect(mut from: impl Read + Send + 'static) -> Collected {
    let (sender, end) = mpsc::channel();
    let bytes = Arc::<Mutex<Vec<u8>>>::default();
    let filled = bytes.clone();
    std::thread::spawn(move || {
        let mut some = [0; 1 << 14];
        while let Ok(count @ 1..) = from.read(&mut some) {
            filled.lock().unwrap().extend_from_slice(&some[..count]);
        }
        let _ = sender.send(());
    });
    Collected { bytes, end }
}

/// Exit status and output, for messages.
pub fn told(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    format!("{}\n{}\n{}", output.status, text(&output.stdout), text(&output.stderr))
}

/// Standard output of a program of the host's; it must succeed.
pub fn run_tool(program: &str, args: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(args).env_clear().env("PATH", PATH);
    let output = Running::start(command, b"").wait();
    assert!(output.status.success(), "{program} {}: {}", args.join(" "), told(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether a program of the host's succeeds.
pub fn tool_succeeds(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(args).env_clear().env("PATH", PATH);
    Running::start(command, b"").wait().status.success()
}

/// Every process of this pid namespace.
pub fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").expect("read /proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Whether a process executes anything: not once it has begun to exit (PF_EXITING, 4, in field
/// `flags` of /proc/PID/stat), though it may stay until init collects it and what it leaves.
pub fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let flags = stat.rsplit(") ").next().and_then(|fields| fields.split(' ').nth(6)?.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & 4 == 0)
}

/// Whether a process waits in this system call, one of libc's `SYS_…`.
pub fn waits_in(pid: i32, call: libc::c_long) -> bool {
    let now = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    now.split(' ').next() == Some(&call.to_string())
}

/// The uids of a process: real, effective, saved, file system; none when it has ended.
pub fn uids(pid: i32) -> Vec<u32> {
    let uids = status(pid, "Uid");
    uids.split_whitespace().filter_map(|uid| uid.parse().ok()).collect()
}

/// A line of /proc/PID/status, without its name; empty when the process has ended.
pub fn status(pid: i32, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key}:")));
    line.unwrap_or_default().trim().to_owned()
}

/// Waits until `is_so`, at most `seconds`.
pub fn until(seconds: u64, what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !is_so() {
        assert!(Instant::now() < end, "not within {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Random bytes in hexadecimal.
pub fn random_hex(bytes: usize) -> String {
    let mut random = [0u8; 16];
    let got = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    assert_eq!(got, Ok(random.len()), "the kernel gives random bytes");
    random[..bytes].iter().map(|b| format!("{b:02x}")).collect()
}
