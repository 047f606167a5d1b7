//! A host with ordinary users on it: a system bus of the test's own, nagaya-hostd on it, and
//! throw-away accounts. Everything goes with it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::daemonless_user::hold_ids;
use super::host::{Host, PATH, Running, random_hex, run_tool, told};
use super::templates;

/// The bus starts hostd as root when it is called, as the system bus does where systemd is not.
const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=DIR/bus</listen>
  <auth>EXTERNAL</auth>
  <servicedir>DIR/services</servicedir>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>
  </policy>
</busconfig>
"#;

pub struct HostdUsers {
    pub host: Host,
    dir: PathBuf,
    bus: Child,
    users: Vec<String>,
}

/// An ordinary user of such a host.
pub struct HostdUser<'a> {
    pub users: &'a HostdUsers,
    pub name: String,
    pub uid: u32,
    pub gid: u32,
}

impl HostdUsers {
    /// With so many users, who have no grant yet.
    pub fn new(count: usize) -> Self {
        Self::on(Host::bare(), count, &[])
    }

    /// The same with options of `nagaya hostd`.
    pub fn with_hostd(count: usize, options: &[&str]) -> Self {
        Self::on(Host::bare(), count, options)
    }

    /// As `new`, with a network of the host's own.
    pub fn alone(count: usize) -> Self {
        Self::on(Host::bare_alone(), count, &[])
    }

    fn on(host: Host, count: usize, options: &[&str]) -> Self {
        let daemon =
            ["/usr/bin/dbus-daemon", "/bin/dbus-daemon"].into_iter().find(|p| fs::metadata(p).is_ok());
        let daemon = daemon.expect("there is no dbus-daemon: apt-get install dbus-daemon");
        let dir = PathBuf::from(format!("/tmp/{}-people", host.name()));
        fs::create_dir_all(dir.join("services")).expect("make a directory");
        let program = dir.join("nagaya");
        fs::copy(env!("CARGO_BIN_EXE_nagaya"), &program).expect("copy the program");
        let open = |path: &PathBuf| fs::set_permissions(path, fs::Permissions::from_mode(0o755));
        open(&dir).and_then(|()| open(&program)).expect("let users in");
        let text = BUS.replace("DIR", &dir.to_string_lossy());
        fs::write(dir.join("bus.conf"), text).expect("write the bus's configuration");
        let service = format!(
            "[D-BUS Service]\nName=org.nagaya.Host1\nExec={} {}\n",
            program.display(),
            [&["hostd"], options].concat().join(" ")
        );
        fs::write(dir.join("services/org.nagaya.Host1.service"), service).expect("write the service");
        run_tool("useradd", &["--system", "--user-group", &format!("{}-hostd", host.name())]);
        let address = format!("unix:path={}/bus", dir.display());
        let config = format!("--config-file={}/bus.conf", dir.display());
        let bus = host
            .program(daemon, &[&config, "--nofork", "--nopidfile"])
            .envs([("PATH", PATH), ("NAGAYA_INSTANCE", host.name()), ("DBUS_SYSTEM_BUS_ADDRESS", &address)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("start a bus");
        let mut users = Self { host, dir, bus, users: Vec::new() };
        wait_for("the bus", || users.dir.join("bus").exists());
        for _ in 0..count {
            let _held = hold_ids();
            let name = format!("ngtp{}", random_hex(4));
            run_tool("useradd", &["--no-create-home", "--user-group", "--shell", "/bin/sh", &name]);
            users.users.push(name);
        }
        users
    }

    pub fn address(&self) -> String {
        format!("unix:path={}/bus", self.dir.display())
    }

    pub fn user(&self, number: usize) -> HostdUser<'_> {
        let name = self.users[number].clone();
        let ids = |flag: &str| run_tool("id", &[flag, &name]).trim().parse().expect("an id");
        HostdUser { users: self, uid: ids("-u"), gid: ids("-g"), name: name.clone() }
    }

    /// The number of an ordinary user who may use hostd, with the template `tiny`.
    pub fn granted(&self, number: usize) -> HostdUser<'_> {
        let user = self.user(number);
        self.host.ok(&["grant", &user.name, "allow=true"]);
        user.ok(&["template", "import", &self.tiny().to_string_lossy(), "--name", "tiny"]);
        user
    }

    /// The archive of the template `tiny`, where every user can read it.
    pub fn tiny(&self) -> PathBuf {
        let copy = self.dir.join("tiny.tar");
        fs::copy(templates::tiny(), &copy).expect("copy the template's archive");
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o644)).expect("let users read it");
        copy
    }

    /// Process numbers of hostd and its broker.
    pub fn hostds(&self) -> Vec<i32> {
        let wanted = format!("{}/nagaya\0hostd", self.dir.display());
        let all = fs::read_dir("/proc").expect("list processes").flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| {
            fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(&wanted))
        })
        .collect()
    }
}

impl HostdUser<'_> {
    /// `nagaya` with these arguments, as this user and with nothing but this user's rights.
    pub fn command(&self, args: &[&str]) -> Command {
        let (uid, gid) = (self.uid.to_string(), self.gid.to_string());
        let rights = ["--reuid", &uid, "--regid", &gid, "--init-groups", "--inh-caps=-all", "--"];
        let mut command = self.users.host.program("setpriv", &rights);
        command.arg(self.users.dir.join("nagaya")).args(args).current_dir("/").envs([
            ("PATH", PATH),
            ("HOME", "/nonexistent"),
            ("NAGAYA_INSTANCE", self.users.host.name()),
            ("DBUS_SYSTEM_BUS_ADDRESS", &self.users.address()),
        ]);
        command
    }

    pub fn nagaya(&self, args: &[&str]) -> Output {
        Running::start(self.command(args), b"").wait()
    }

    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.nagaya(args);
        assert!(output.status.success(), "{}: nagaya {}: {}", self.name, args.join(" "), told(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        let output = self.nagaya(args);
        assert_eq!(output.status.code(), Some(code), "nagaya {}: {}", args.join(" "), told(&output));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    pub fn info(&self, name: &str) -> Value {
        serde_json::from_str(&self.ok(&["info", name, "--format", "json"])).expect("info prints JSON")
    }

    pub fn init(&self, name: &str) -> i32 {
        self.info(name)["pid"].as_i64().expect("an init") as i32
    }

    /// A container's address without its prefix length.
    pub fn address(&self, name: &str) -> String {
        let info = self.info(name);
        let address = info["addresses"][0].as_str().unwrap_or_else(|| panic!("{name} has no address"));
        address.split('/').next().unwrap_or_default().to_owned()
    }

    /// First id and number of ids of the range that containers run on.
    pub fn range(&self) -> (u32, u32) {
        let text = fs::read_to_string("/etc/subuid").expect("read /etc/subuid");
        let lines = text.lines().filter_map(|line| line.strip_prefix(&format!("{}:", self.name)));
        let ranges = lines.filter_map(|line| {
            let (start, count) = line.split_once(':')?;
            Some((start.parse().ok()?, count.parse::<u32>().ok()?))
        });
        ranges
            .into_iter()
            .find(|(_, count)| *count >= 131_072)
            .expect("subordinate ids for two id ranges or more")
    }

    pub fn state_dir(&self) -> PathBuf {
        PathBuf::from(format!("/var/lib/{}-users/{}", self.users.host.name(), self.uid))
    }

    /// Does `body` with this user's rights, in a thread that then ends.
    pub fn does<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        use rustix::process::{Gid, Uid};
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                rustix::thread::set_thread_groups(&[]).expect("drop groups");
                rustix::thread::set_thread_res_gid(gid, gid, gid).expect("become the group");
                rustix::thread::set_thread_res_uid(uid, uid, uid).expect("become the user");
                body()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

pub fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !there() {
        assert!(Instant::now() < end, "{what} has not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Drop for HostdUsers {
    fn drop(&mut self) {
        let removed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let output = self.host.nagaya(&["setup", "--remove", "--yes", "--everyone"]);
            (!output.status.success()).then(|| told(&output))
        }));
        let _ = self.bus.kill();
        let _ = self.bus.wait();
        // hostd ends with its bus, and the broker with hostd.
        let end = Instant::now() + Duration::from_secs(5);
        while !self.hostds().is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        let left: Vec<i32> = self.hostds();
        for pid in left.iter().filter_map(|pid| rustix::process::Pid::from_raw(*pid)) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let quietly = |args: &[&str]| Command::new("userdel").args(args).env("PATH", PATH).output();
        for user in &self.users {
            let _ = quietly(&[user]);
        }
        let _ = quietly(&[&format!("{}-hostd", self.host.name())]);
        let _ = fs::remove_dir_all(&self.dir);
        let _ = fs::remove_dir_all(format!("/run/{}-hostd", self.host.name()));
        let mut wrong: Vec<String> = match removed {
            Ok(failure) => failure.into_iter().collect(),
            Err(_) => vec!["setup --remove did not end".to_owned()],
        };
        if !left.is_empty() {
            wrong.push(format!("hostd did not end with its bus: processes {left:?}"));
        }
        for dir in ["/var/lib/NAME-users", "/run/NAME-users", "/var/lib/NAME-hostd", "/etc/NAME"] {
            let dir = dir.replace("NAME", self.host.name());
            if fs::symlink_metadata(&dir).is_ok() {
                wrong.push(format!("{dir} is left"));
                let _ = fs::remove_dir_all(&dir);
            }
        }
        if !wrong.is_empty() {
            let text = wrong.join("\n  ");
            if std::thread::panicking() { eprintln!("{text}") } else { panic!("{text}") }
        }
    }
}
