//! Running a program in a living guest: a process born in the guest's cgroup, moved into its
//! namespaces, stripped as its init was, and reported on by the monitor.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::thread::ThreadNameSpaceType;
use serde::{Deserialize, Serialize};

use super::init::{
    drop_monitor_signals, environment, new_session_keyring, place_stdio, strings, take_terminal,
};
use super::{guest_files, protocol::ExecRequest};
use crate::model::limits::Rlimit;
use crate::sys::clone::{self, Child, CloneSpec, Forked};
use crate::sys::error_text;
use crate::sys::{Context, SysError, SysResult, caps, mount, passwd, rlimit, seccomp};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long a process may take to enter the guest's namespaces.
const ENTER_PATIENCE: std::time::Duration = std::time::Duration::from_secs(3);

/// The longest /etc/passwd and /etc/group that are read: some 100,000 accounts.
const MAX_ACCOUNTS: u64 = 8 << 20;

/// Standard input, output and error of an exec'ed process.
pub enum Stdio {
    Terminal(OwnedFd),
    Separate([OwnedFd; 3]),
}

/// What stopped an exec before the program ran. End of file on the channel means that it runs.
#[derive(Debug, Serialize, Deserialize)]
pub struct NotStarted {
    pub code: i32,
    pub reason: String,
}

/// What a program in a guest is held by, as its init is.
pub struct Confinement<'a> {
    /// Of system calls.
    pub filter: &'a [u8],
    pub rlimits: &'a [Rlimit],
}

/// A process under way; `errors` says once whether it has started.
pub struct Execed {
    pub child: Child,
    pub errors: OwnedFd,
}

/// Starts `request` in the guest whose init is `init` and whose cgroup is `payload`.
///
/// # Errors
/// When the process cannot be made; what fails later comes over `Execed::errors`.
pub fn start(
    request: &ExecRequest,
    stdio: &Stdio,
    init: &OwnedFd,
    payload: &OwnedFd,
    confinement: &Confinement<'_>,
) -> SysResult<Execed> {
    let (errors, report) = crate::sys::seqpacket::pair()?;
    let (pid_read, pid_write) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).cannot(|| "make a pipe")?;
    let leaf = crate::sys::cgroup::exec_leaf(payload.as_fd());
    // A cgroup that the guest has closed to us costs the process its place, not its life.
    let spec = CloneSpec { flags: 0, cgroup: leaf.as_ref().ok().map(AsFd::as_fd) };
    let between = |spec: &CloneSpec<'_>| {
        clone::fork(spec, || {
            caps::undumpable();
            match enter(init) {
                Ok(Forked::Parent(child)) => {
                    let _ = rustix::io::write(&pid_write, &child.pid.to_ne_bytes());
                    0
                }
                Ok(Forked::Child) => {
                    let failed = become_program(request, stdio, confinement);
                    let _ = crate::sys::seqpacket::send(&report, &failed, &[]);
                    failed.code
                }
                Err(e) => {
                    let failed = NotStarted { code: 70, reason: error_text(&e) };
                    let _ = crate::sys::seqpacket::send(&report, &failed, &[]);
                    1
                }
            }
        })
    };
    let child = between(&spec).or_else(|_| between(&CloneSpec::default()))?;
    drop((pid_write, report));
    // Born in a cgroup that the guest may have frozen, it would hold the monitor up for good.
    if child.wait_within(ENTER_PATIENCE)?.is_none() {
        child.kill();
        let why = std::io::Error::other("its cgroup lets no process run");
        return Err(SysError::new("enter the guest", why));
    }
    let mut pid = [0u8; 4];
    match rustix::io::read(&pid_read, &mut pid) {
        Ok(4) => {
            let pid = i32::from_ne_bytes(pid);
            Ok(Execed { child: Child { pid, pidfd: clone::pidfd_open(pid)? }, errors })
        }
        _ => {
            let failed: Option<(NotStarted, _)> = crate::sys::seqpacket::recv(&errors).unwrap_or(None);
            let reason = failed.map_or_else(|| "the guest is going down".to_owned(), |(f, _)| f.reason);
            Err(SysError::new("enter the guest", std::io::Error::other(reason)))
        }
    }
}

/// Enters the guest's namespaces and makes the process that stands in its pid namespace, as a
/// child of the monitor rather than of this process, which has done its work.
fn enter(init: &OwnedFd) -> SysResult<Forked> {
    let all = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::PROCESS_ID
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::CONTROL_GROUP;
    rustix::thread::move_into_thread_name_spaces(init.as_fd(), all)
        .cannot(|| "enter the guest's namespaces")?;
    clone::clone3(&CloneSpec { flags: libc::CLONE_PARENT as u64, cgroup: None })
}

/// Returns only when the program could not be executed.
fn become_program(request: &ExecRequest, stdio: &Stdio, confinement: &Confinement<'_>) -> NotStarted {
    let run = || -> Result<std::convert::Infallible, NotStarted> {
        let other = |e: SysError| NotStarted { code: 70, reason: error_text(&e) };
        let refused = |reason: String| NotStarted { code: 126, reason };
        let root = mount::open_dir("/").map_err(other)?;
        let who = Who::find(&root, &request.user).map_err(refused)?;
        new_session_keyring();
        match stdio {
            Stdio::Terminal(slave) => {
                rustix::fs::fchown(slave, Some(rustix::fs::Uid::from_raw(who.uid)), None)
                    .cannot(|| "hand over the terminal")
                    .map_err(other)?;
                take_terminal(slave).map_err(other)?;
            }
            Stdio::Separate([a, b, c]) => {
                let _ = rustix::process::setsid();
                place_stdio([a.as_fd(), b.as_fd(), c.as_fd()]).map_err(other)?;
            }
        }
        let (argv, login) = match &request.argv[..] {
            [] => (vec![who.shell.clone()], true),
            words => (words.to_vec(), false),
        };
        let env = who.environment(&request.env);
        drop_monitor_signals();
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        rlimit::apply(confinement.rlimits).map_err(other)?;
        seccomp::install(confinement.filter).map_err(other)?;
        caps::confine_guest().map_err(other)?;
        who.become_it().map_err(other)?;
        enter_dir(request.cwd.as_deref(), &who.home).map_err(refused)?;
        // SAFETY: integers only; sets a flag.
        unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
        Err(execute(&argv, login, &env))
    };
    match run() {
        Ok(never) => match never {},
        Err(failed) => failed,
    }
}

/// `cwd` is looked up inside, as the user; what /proc would lead out of the guest is refused.
fn enter_dir(cwd: Option<&str>, home: &str) -> Result<(), String> {
    let go = |path: &str| -> rustix::io::Result<()> {
        let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, rustix::fs::Mode::empty())?;
        let dir = mount::open_in_root(root.as_fd(), path, OFlags::PATH | OFlags::DIRECTORY)?;
        rustix::process::fchdir(dir)
    };
    match cwd {
        Some(path) => go(path).map_err(|e| format!("cannot enter the directory '{path}' in the guest: {e}")),
        None => go(home).or_else(|_| go("/")).map_err(|e| format!("cannot enter the guest's root: {e}")),
    }
}

/// Tries the directories of PATH as execvp(3) would, with the guest's PATH and not the caller's.
fn execute(argv: &[String], login: bool, env: &[(String, String)]) -> NotStarted {
    let fail = |code, reason: String| NotStarted { code, reason };
    let (Ok(mut words), Ok(environ)) = (strings(argv), environment(env)) else {
        return fail(126, "an argument or variable holds a NUL byte".to_owned());
    };
    let program = &argv[0];
    if login {
        let name = program.rsplit('/').next().unwrap_or(program);
        words = strings(&[format!("-{name}")]).unwrap_or(words);
    }
    let path = env.iter().rev().find(|(k, _)| k == "PATH").map_or(PATH, |(_, v)| v);
    let candidates: Vec<String> = if program.contains('/') {
        vec![program.clone()]
    } else {
        path.split(':').filter(|d| !d.is_empty()).map(|d| format!("{d}/{program}")).collect()
    };
    let mut denied = None;
    for file in strings(&candidates).unwrap_or_default() {
        let Err(e) = nix::unistd::execve(&file, &words, &environ);
        if !matches!(e, nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR) {
            denied = Some(e);
        }
    }
    match denied {
        Some(e) => fail(126, format!("cannot execute '{program}' in the guest: {}", e.desc())),
        None => fail(127, format!("'{program}' is not in the guest")),
    }
}

/// Whom a program runs as.
struct Who {
    name: String,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    home: String,
    shell: String,
}

impl Who {
    /// Reads the guest's own databases, bounded, regular files only. A name that is all digits is
    /// a number, whatever a database may call so.
    fn find(root: &OwnedFd, wanted: &str) -> Result<Self, String> {
        let text = |name: &str| -> String {
            mount::open_in_root(root.as_fd(), "etc", OFlags::PATH | OFlags::DIRECTORY)
                .ok()
                .and_then(|etc| guest_files::read_regular(&etc, name, MAX_ACCOUNTS))
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .unwrap_or_default()
        };
        let (user, group) = match wanted.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (wanted, None),
        };
        let passwd = text("passwd");
        let by_number = number(user)?;
        let entry = match by_number {
            Some(uid) => passwd::users(&passwd).find(|u| u.uid == uid),
            None => passwd::user(&passwd, user),
        };
        let found = match (entry, by_number) {
            (Some(u), _) => u,
            (None, None) if user == "root" => unlisted(0),
            (None, None) => return Err(format!("the guest has no user '{user}'")),
            (None, Some(uid)) => unlisted(uid),
        };
        let groups_text = text("group");
        let mut gid = found.gid;
        let mut groups: Vec<u32> =
            passwd::groups(&groups_text).filter(|g| g.members.contains(&found.name)).map(|g| g.gid).collect();
        if let Some(group) = group {
            gid = match number(group)? {
                Some(gid) => gid,
                None => {
                    passwd::group(&groups_text, group)
                        .ok_or_else(|| format!("the guest has no group '{group}'"))?
                        .gid
                }
            };
            groups.clear();
        }
        groups.push(gid);
        groups.sort_unstable();
        groups.dedup();
        if found.uid > 65_535 || groups.iter().any(|g| *g > 65_535) {
            return Err(format!("user '{wanted}' has ids beyond the container's 65536"));
        }
        let shell = if found.shell.is_empty() { "/bin/sh".to_owned() } else { found.shell };
        Ok(Self { name: found.name, uid: found.uid, gid, groups, home: found.home, shell })
    }

    fn environment(&self, requested: &[(String, String)]) -> Vec<(String, String)> {
        let defaults = [
            ("PATH", PATH),
            ("HOME", &self.home),
            ("USER", &self.name),
            ("LOGNAME", &self.name),
            ("SHELL", &self.shell),
            ("LANG", "C.UTF-8"),
            ("container", "lxc"),
        ];
        let mut env: Vec<(String, String)> =
            defaults.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        for (key, value) in requested {
            env.retain(|(k, _)| k != key);
            env.push((key.clone(), value.clone()));
        }
        env
    }

    fn become_it(&self) -> SysResult<()> {
        use rustix::process::{Gid, Uid};
        let groups: Vec<Gid> = self.groups.iter().map(|g| Gid::from_raw(*g)).collect();
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        rustix::thread::set_thread_groups(&groups).cannot(|| "set the user's groups")?;
        rustix::thread::set_thread_res_gid(gid, gid, gid).cannot(|| format!("become gid {}", self.gid))?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).cannot(|| format!("become uid {}", self.uid))
    }
}

fn unlisted(uid: u32) -> passwd::User {
    let (name, home) = if uid == 0 { ("root".to_owned(), "/root") } else { (uid.to_string(), "/") };
    passwd::User { name, uid, gid: uid, home: home.to_owned(), shell: String::new() }
}

/// Digits only are a number, and must be one of the container's; anything else is a name.
fn number(text: &str) -> Result<Option<u32>, String> {
    if text.is_empty() {
        return Err("the user's name is empty".to_owned());
    }
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(id) if id <= 65_535 => Ok(Some(id)),
        _ => Err(format!("id {text} is beyond the container's 65536")),
    }
}
