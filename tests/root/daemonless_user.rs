//! An ordinary user of this host, for one test: made with ids and a cgroup of its own, and gone with
//! everything that it has made when the test is over.

use std::fs;
use std::ops::Deref;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::host::{Host, PATH, Running, lives, random_hex, run_tool, told};
use super::templates;
use super::verbs::Runs;

/// How a command is run otherwise than as usual.
#[derive(Default, Clone)]
pub struct Otherwise<'a> {
    /// The cgroup to stand in.
    pub cgroup: Option<PathBuf>,
    /// A line of shell that root runs first, in a mount namespace of the command's own.
    pub before: &'a str,
    /// A process whose network namespace the command is in.
    pub network_of: Option<i32>,
}

pub struct DaemonlessUser {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// First of its 65,536 subordinate ids.
    pub ids: u32,
    /// Home, and the directory that XDG_RUNTIME_DIR names.
    dir: PathBuf,
    /// Its own cgroup.
    pub cgroup: PathBuf,
}

/// Held by a test that takes subordinate ids away from a user for a while: useradd(8) would give them
/// to the next user of another test.
pub struct IdsHeld {
    _turn: MutexGuard<'static, ()>,
}

static IDS: Mutex<()> = Mutex::new(());

/// Lets no other test make a user until the value is dropped.
pub fn hold_ids() -> IdsHeld {
    // What a test that failed has left behind is no reason to fail here too.
    IdsHeld { _turn: IDS.lock().unwrap_or_else(PoisonError::into_inner) }
}

/// First of 65,536 ids that nobody has in either file. useradd(8) looks at each file alone, and a killed test may have
/// left a line in one of them.
fn free_ids() -> u32 {
    let ends = ["/etc/subuid", "/etc/subgid"].map(|file| fs::read_to_string(file).unwrap_or_default());
    let end = |line: &str| {
        let mut numbers = line.split(':').skip(1).map(|number| number.parse::<u32>().ok());
        Some(numbers.next()?? + numbers.next()??)
    };
    // Instances of the tests have theirs further up.
    let taken = ends.iter().flat_map(|text| text.lines()).filter_map(end).filter(|end| *end < 600_000_000);
    taken.max().unwrap_or(0).max(100_000)
}

impl DaemonlessUser {
    pub fn new() -> Self {
        Self::new_while(&hold_ids())
    }

    /// A user made by the test that holds the ids.
    pub fn new_while(_held: &IdsHeld) -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests change the host: run them as root");
        for (program, package) in [("newuidmap", "uidmap"), ("setpriv", "util-linux"), ("nft", "nftables")] {
            let there = PATH.split(':').any(|dir| Path::new(dir).join(program).exists());
            assert!(there, "there is no {program}: apt-get install {package}");
        }
        let name = format!("ngtv{}", random_hex(3));
        let dir = Path::new("/tmp").join(&name);
        let home = dir.join("home").to_string_lossy().into_owned();
        run_tool(
            "useradd",
            &[
                "-K",
                "SUB_UID_COUNT=0",
                "-K",
                "SUB_GID_COUNT=0",
                "--no-create-home",
                "--home-dir",
                &home,
                &name,
            ],
        );
        let id = |flag: &str| run_tool("id", &[flag, &name]).trim().parse().expect("an id");
        let (uid, gid) = (id("-u"), id("-g"));
        let ids = free_ids();
        let range = format!("{ids}-{}", ids + 65535);
        run_tool("usermod", &["--add-subuids", &range, "--add-subgids", &range, &name]);
        let mount = run_tool("findmnt", &["-n", "-t", "cgroup2", "-o", "TARGET"]);
        let mount = mount.lines().next().expect("no cgroup2 is mounted: mount -t cgroup2 cgroup2 /mnt");
        let cgroup = Path::new(mount.trim()).join(&name);
        let user = Self { name, uid, gid, ids, dir, cgroup };
        for path in [&user.dir, &user.dir.join("home"), &user.run_base(), &user.cgroup] {
            fs::create_dir(path).expect("make a directory of the user's");
            chown(path, Some(uid), Some(gid)).expect("give a directory away");
        }
        for file in ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            chown(user.cgroup.join(file), Some(uid), Some(gid)).expect("give a cgroup away");
        }
        user
    }

    /// With the template `tiny`.
    pub fn with_template() -> Self {
        let user = Self::new();
        let tiny = fs::read(templates::tiny()).expect("read the archive");
        let imported = user.spawn(&["template", "import", "-", "--name", "tiny"], &tiny).wait();
        assert!(imported.status.success(), "template import: {}", told(&imported));
        user
    }

    fn run_base(&self) -> PathBuf {
        self.dir.join("run")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("home/.local/share").join(&self.name)
    }

    pub fn run_dir(&self) -> PathBuf {
        self.run_base().join(&self.name)
    }

    pub fn holder(&self) -> Option<i32> {
        let pid = fs::read_to_string(self.run_dir().join("keeper")).ok()?.trim().parse().ok()?;
        lives(pid).then_some(pid)
    }

    /// `nagaya` as this user, from a shell of its own. The instance has the user's name, so that
    /// nothing is mistaken for another's.
    pub fn command(&self, args: &[&str], otherwise: &Otherwise<'_>) -> Command {
        let cgroup = otherwise.cgroup.as_deref().unwrap_or(&self.cgroup);
        // By descriptor, for the user may not be able to walk to where the program is built.
        let script = r#"echo $BASHPID >"$1/cgroup.procs" && exec 9<"$2" && shift 2 &&
            eval "$BEFORE" && cd / &&
            exec setpriv --reuid "$1" --regid "$2" --init-groups /proc/self/fd/9 "${@:3}""#;
        let mut words: Vec<String> = Vec::new();
        if let Some(pid) = otherwise.network_of {
            words.extend(["nsenter", "-n", "-t", &pid.to_string()].map(str::to_owned));
        }
        words.extend(["unshare", "-m", "bash", "-c", script, "bash"].map(str::to_owned));
        words.push(cgroup.to_string_lossy().into_owned());
        words.push(env!("CARGO_BIN_EXE_nagaya").to_owned());
        words.extend([self.uid.to_string(), self.gid.to_string()]);
        words.extend(args.iter().map(|arg| (*arg).to_owned()));
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", self.dir.join("home"))
            .env("XDG_RUNTIME_DIR", self.run_base())
            .env("NAGAYA_INSTANCE", &self.name)
            .env("NAGAYA_DAEMONLESS", "1")
            .env("BEFORE", if otherwise.before.is_empty() { "true" } else { otherwise.before });
        command
    }

    pub fn spawn(&self, args: &[&str], input: &[u8]) -> Running {
        Running::start(self.command(args, &Otherwise::default()), input)
    }

    pub fn nagaya(&self, args: &[&str]) -> Output {
        self.spawn(args, b"").wait()
    }

    pub fn nagaya_otherwise(&self, args: &[&str], otherwise: &Otherwise<'_>) -> Output {
        Running::start(self.command(args, otherwise), b"").wait()
    }

    /// Its standard error; it must end with `code`.
    pub fn fails(&self, code: i32, args: &[&str], otherwise: &Otherwise<'_>) -> String {
        let output = self.nagaya_otherwise(args, otherwise);
        assert_eq!(output.status.code(), Some(code), "nagaya {}: {}", args.join(" "), told(&output));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Output of a program of the host's in the user's network namespace.
    pub fn in_network(&self, argv: &[&str]) -> String {
        let holder = self.holder().expect("a namespace holder").to_string();
        run_tool("nsenter", &[&["-U", "-n", "-t", &holder, "--"], argv].concat())
    }

    /// Living processes of the user and of its subordinate ids.
    pub fn processes(&self) -> Vec<(i32, String)> {
        Host::processes(Some((self.ids, 65536)), Some(self.uid))
    }

    fn traces(&self) -> Vec<String> {
        let mut found: Vec<String> =
            self.processes().into_iter().map(|(pid, what)| format!("process {pid} {what:?}")).collect();
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo");
        found.extend(
            mounts.lines().filter(|line| line.contains(&self.name)).map(|line| format!("mount {line}")),
        );
        let below = run_tool("find", &[&self.cgroup.to_string_lossy(), "-mindepth", "1", "-type", "d"]);
        // On a host that passes controllers on, a command stands in a leaf of its own, and cannot remove it.
        let own = below.lines().filter(|path| !path.ends_with("/nagaya-commands"));
        found.extend(own.map(|path| format!("cgroup {path}")));
        let paths = [self.state_dir(), self.run_dir()];
        found
            .extend(paths.iter().filter(|path| path.exists()).map(|path| format!("path {}", path.display())));
        found
    }
}

impl Deref for DaemonlessUser {
    type Target = dyn Runs;

    fn deref(&self) -> &Self::Target {
        self
    }
}

impl Runs for DaemonlessUser {
    fn run(&self, args: &[&str]) -> Output {
        self.nagaya(args)
    }
}

impl Drop for DaemonlessUser {
    /// `nagaya setup --remove` must leave nothing. In a test that has failed already it is only
    /// told, and taken away all the same.
    fn drop(&mut self) {
        let failing = std::thread::panicking();
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut wrong = Vec::new();
            let removed = self.nagaya(&["setup", "--remove", "--yes"]);
            if !removed.status.success() {
                wrong.push(format!("setup --remove: {}", told(&removed)));
            }
            // What was killed may still be on its way out.
            let end = std::time::Instant::now() + std::time::Duration::from_secs(3);
            while !self.processes().is_empty() && std::time::Instant::now() < end {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            wrong.extend(self.traces());
            wrong
        }));
        let wrong = looked.unwrap_or_else(|_| vec!["setup --remove did not end".to_owned()]);
        for (pid, _) in self.processes() {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        let quietly = |program: &str, args: &[&str]| {
            let _ = Command::new(program).args(args).env("PATH", PATH).output();
        };
        std::thread::sleep(std::time::Duration::from_millis(50));
        let cgroup = self.cgroup.to_string_lossy().into_owned();
        quietly("find", &[&cgroup, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]);
        quietly("userdel", &[&self.name]);
        let _ = fs::remove_dir_all(&self.dir);
        if wrong.is_empty() {
            return;
        }
        let text = format!("{} has left behind:\n  {}", self.name, wrong.join("\n  "));
        if failing { eprintln!("{text}") } else { panic!("{text}") }
    }
}
