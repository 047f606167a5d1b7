//! Running a program in a living guest: a process that starts in the guest's cgroup, enters its namespaces
//! and gives up the rights that its init gave up. The monitor reports on it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, OFlags};
use rustix::thread::ThreadNameSpaceType;
use serde::{Deserialize, Serialize};

use super::init::take_standard_terminal;
use super::not_started::NotStarted;
use super::program;
use super::protocol::ExecRequest;
use crate::guest::files;
use crate::model::byte_string::ByteString;
use crate::model::limits::Rlimit;
use crate::sys::accounts::passwd;
use crate::sys::error_text;
use crate::sys::fs::mount;
use crate::sys::net::seqpacket;
use crate::sys::process::child;
use crate::sys::process::child::Child;
use crate::sys::process::fork::Fork;
use crate::sys::process::{caps, descriptors, interrupt, rlimit, sandbox, seccomp};
use crate::sys::{Context, SysError, SysResult, cgroup};

/// The default search path; the last directory is NixOS's, which has no programs in the others.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin";

/// The longest /etc/passwd and /etc/group that are read: some 100,000 accounts.
const MAX_ACCOUNTS: u64 = 8 << 20;

/// Standard input, output and error of an exec'ed process.
pub enum Stdio {
    Terminal(OwnedFd),
    /// Where `null` is true, the guest's own `/dev/null` is used if it has one.
    Separate {
        fds: [OwnedFd; 3],
        null: [bool; 3],
    },
    /// The guest's own `/dev/null`.
    Null,
}

impl Stdio {
    /// The descriptors that exist before the process enters the guest.
    fn of_ours(&self) -> Option<[BorrowedFd<'_>; 3]> {
        match self {
            Self::Terminal(slave) => Some([slave.as_fd(); 3]),
            Self::Separate { fds, .. } => Some(fds.each_ref().map(AsFd::as_fd)),
            Self::Null => None,
        }
    }

    /// Opens the guest's null device for streams that want it, once the guest's root is this process's.
    fn place_null(&self, root: &OwnedFd) -> Result<(), NotStarted> {
        let (places, is_needed) = match self {
            Self::Terminal(_) => return Ok(()),
            Self::Separate { null, .. } => (*null, false),
            // The process's 0 to 2, which are the monitor's, are replaced here.
            Self::Null => ([true; 3], true),
        };
        if places == [false; 3] {
            return Ok(());
        }
        match null_of(root) {
            Ok(null) => descriptors::place_streams(places.map(|is_one| is_one.then(|| null.as_fd())))
                .map_err(|e| other(e.into())),
            Err(e) if is_needed => Err(e),
            Err(_) => Ok(()),
        }
    }
}

/// What an exec's processes say to the monitor. End of file after `Entered` means that the program runs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Report {
    /// The process that will be the program, as the monitor numbers it.
    Entered(i32),
    NotStarted(NotStarted),
}

/// What confines a program in a guest, as it confines its init.
pub struct Confinement<'a> {
    /// Of system calls.
    pub filter: &'a [u8],
    pub rlimits: &'a [Rlimit],
}

/// A child that is entering the guest. It ends once it has made the process that becomes the program.
pub struct Entering {
    pub child: Child,
    pub(super) reports: OwnedFd,
}

/// A program under way, or what has kept it from that.
pub struct Execed {
    pub child: Child,
    /// It becomes readable when `begun` has something to say.
    pub reports: OwnedFd,
    failed: Option<NotStarted>,
}

impl Execed {
    /// Why the program has not run; none if it has. Call it after the program's end.
    pub fn failure(&self) -> Option<NotStarted> {
        self.begun().and_then(Result::err)
    }

    /// Whether the program runs, or why it does not; none as long as neither is known.
    pub fn begun(&self) -> Option<Result<(), NotStarted>> {
        if let Some(failed) = &self.failed {
            return Some(Err(failed.clone()));
        }
        match seqpacket::recv_now::<Report>(&self.reports) {
            Ok(Some((Report::NotStarted(failed), _))) => Some(Err(failed)),
            Ok(Some((Report::Entered(_), _))) => None,
            Err(e) if e.errno() == Some(libc::EAGAIN) => None,
            Ok(None) | Err(_) => Some(Ok(())),
        }
    }
}

/// What the monitor could not do.
fn not_made(e: SysError) -> NotStarted {
    refused(error_text(&e))
}

/// Begins to start `request` in the guest whose init is `init` and whose cgroup is `payload`; it
/// returns at once. `Entering::finish` is to be called when the child has ended.
///
/// # Errors
/// When no process can be made.
pub fn begin(
    request: &ExecRequest,
    stdio: &Stdio,
    init: &OwnedFd,
    payload: &OwnedFd,
    confinement: &Confinement<'_>,
) -> Result<Entering, NotStarted> {
    in_leaf("run a program", payload, |fork| {
        // What enters the guest holds the program's standard input, output and error and the socket for
        // reporting a failure, and nothing else: from the moment at which it is in the guest's pid namespace,
        // the guest's processes can name it.
        let mut fork = fork.keep([init]);
        if let Some(streams) = stdio.of_ours() {
            fork = fork.streams(streams.map(Some));
        }
        fork.start_with_socket(|report| enter(request, stdio, init, confinement, &report))
    })
}

/// Has `start` start a child in a cgroup of the guest's that takes it.
pub(super) fn in_leaf(
    what: &'static str,
    payload: &OwnedFd,
    start: impl Fn(Fork<'_>) -> SysResult<(Child, OwnedFd)>,
) -> Result<Entering, NotStarted> {
    let mut made = Err(SysError::new(what, std::io::Error::other("the guest has no cgroup for it")));
    for leaf in cgroup::exec_leaves(payload.as_fd()) {
        made = start(Fork::new(what).cgroup(leaf.as_fd()));
        if made.is_ok() {
            break;
        }
    }
    let (child, reports) = made.map_err(not_made)?;
    Ok(Entering { child, reports })
}

impl Entering {
    /// The program, once `child` has ended and was collected.
    ///
    /// # Errors
    /// When no process was made in the guest; what fails later is told by `Execed::begun`.
    pub fn finish(self) -> Result<Execed, NotStarted> {
        let (mut pid, mut failed) = (None, None);
        // There is at most one report of each kind, and they have arrived by now, unless the guest has
        // killed the sender.
        while let Ok(Some((report, _))) = seqpacket::recv_now::<Report>(&self.reports) {
            match report {
                Report::Entered(number) => pid = Some(number),
                Report::NotStarted(why) => failed = Some(why),
            }
        }
        match pid {
            Some(pid) => {
                let pidfd = child::pidfd_open(pid).map_err(not_made)?;
                Ok(Execed { child: Child { pid, pidfd }, reports: self.reports, failed })
            }
            None => Err(failed.unwrap_or_else(going_down)),
        }
    }
}

/// The child's whole life: it enters the guest's namespaces, the pid namespace last, and makes the process
/// in it. That is a child of the monitor, not of this process, which ends then.
fn enter(
    request: &ExecRequest,
    stdio: &Stdio,
    init: &OwnedFd,
    confinement: &Confinement<'_>,
    report: &OwnedFd,
) -> i32 {
    let made = cross(request, stdio, init, confinement).and_then(|who| {
        // Here already, as the program's process is in the guest's reach from its beginning.
        descriptors::keep_only([report.as_raw_fd()].into_iter());
        let fork = Fork::new("run a program").sibling().keep([report]);
        fork.start(|| tell(report, become_program(request, stdio, confinement, &who))).map_err(other)
    });
    match made {
        Ok(child) => i32::from(seqpacket::send(report, &Report::Entered(child.pid), &[]).is_err()),
        Err(failed) => tell(report, failed),
    }
}

/// Tells the monitor what has kept a program from running; the exit code.
pub(super) fn tell(report: &OwnedFd, failed: NotStarted) -> i32 {
    let code = failed.code;
    let _ = seqpacket::send(report, &Report::NotStarted(failed), &[]);
    code
}

pub(super) fn other(e: SysError) -> NotStarted {
    NotStarted { code: 70, reason: error_text(&e) }
}

fn refused(reason: String) -> NotStarted {
    NotStarted { code: 126, reason }
}

/// Enters the guest's namespaces, the pid namespace last.
fn cross(
    request: &ExecRequest,
    stdio: &Stdio,
    init: &OwnedFd,
    confinement: &Confinement<'_>,
) -> Result<Who, NotStarted> {
    caps::undumpable();
    interrupt::reset();
    let _ = sandbox::leave_keyring();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    join(init, ThreadNameSpaceType::MOUNT)?;
    // Everything that looks at the guest's files comes before this, while the guest cannot name this
    // process.
    let root = mount::open_dir("/").map_err(other)?;
    stdio.place_null(&root)?;
    let who = Who::find(&root, &request.user).map_err(refused)?;
    drop(root);
    if matches!(stdio, Stdio::Terminal(_)) {
        rustix::fs::fchown(rustix::stdio::stdin(), Some(rustix::fs::Uid::from_raw(who.uid)), None)
            .cannot(|| "hand over the terminal")
            .map_err(other)?;
    }
    who.take_groups().map_err(other)?;
    who.enter_dir(request.cwd.as_ref())?;
    seccomp::install(confinement.filter).map_err(other)?;
    caps::confine_guest().map_err(other)?;
    let rest = ThreadNameSpaceType::PROCESS_ID
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::CONTROL_GROUP;
    join(init, rest)?;
    Ok(who)
}

pub(super) fn join(init: &OwnedFd, namespaces: ThreadNameSpaceType) -> Result<(), NotStarted> {
    match rustix::thread::move_into_thread_name_spaces(init.as_fd(), namespaces) {
        // Its init has ended.
        Err(rustix::io::Errno::SRCH) => Err(going_down()),
        other_end => other_end.cannot(|| "enter the guest's namespaces").map_err(other),
    }
}

fn going_down() -> NotStarted {
    refused("cannot enter the guest: it is going down".to_owned())
}

/// The guest's null device. It is checked: what a guest has put in its place must not become a program's
/// stream.
fn null_of(root: &OwnedFd) -> Result<OwnedFd, NotStarted> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK;
    let cannot = |why: String| refused(format!("cannot give the program the guest's /dev/null: {why}"));
    let null = mount::open_in_root(root.as_fd(), "dev/null", flags).map_err(|e| cannot(error_text(&e)))?;
    let stat = rustix::fs::fstat(&null).map_err(|e| cannot(error_text(&e)))?;
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if !is_device || stat.st_rdev != rustix::fs::makedev(1, 3) {
        return Err(cannot("it is no null device".to_owned()));
    }
    rustix::fs::fcntl_setfl(&null, OFlags::RDWR).map_err(|e| cannot(error_text(&e)))?;
    Ok(null)
}

/// Returns only when the program could not be executed.
fn become_program(
    request: &ExecRequest,
    stdio: &Stdio,
    confinement: &Confinement<'_>,
    who: &Who,
) -> NotStarted {
    let prepare = || -> SysResult<()> {
        match stdio {
            Stdio::Terminal(_) => take_standard_terminal()?,
            Stdio::Separate { .. } | Stdio::Null => drop(rustix::process::setsid()),
        }
        rlimit::apply(confinement.rlimits)?;
        who.become_it()
    };
    if let Err(e) = prepare() {
        return other(e);
    }
    let (argv, login) = match &request.argv[..] {
        [] => (vec![ByteString::from(&*who.shell)], true),
        words => (words.to_vec(), false),
    };
    let env = who.environment(&request.env);
    descriptors::close_all_on_exec();
    program::execute(&argv, login, &env, PATH)
}

/// While this value lives, the process has only one user's rights to files.
struct FileRights;

impl FileRights {
    fn of(uid: u32, gid: u32) -> Self {
        // The capabilities that override permissions go with the uid, and come back with it
        // (capabilities(7)).
        nix::unistd::setfsgid(nix::unistd::Gid::from_raw(gid));
        nix::unistd::setfsuid(nix::unistd::Uid::from_raw(uid));
        Self
    }
}

impl Drop for FileRights {
    fn drop(&mut self) {
        nix::unistd::setfsuid(nix::unistd::geteuid());
        nix::unistd::setfsgid(nix::unistd::getegid());
    }
}

/// The user as whom a program runs.
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
                .and_then(|etc| files::read_regular(&etc, name, MAX_ACCOUNTS))
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

    fn environment(&self, requested: &[(ByteString, ByteString)]) -> Vec<(ByteString, ByteString)> {
        let defaults = [
            ("PATH", PATH),
            ("HOME", &self.home),
            ("USER", &self.name),
            ("LOGNAME", &self.name),
            ("SHELL", &self.shell),
            ("LANG", "C.UTF-8"),
            ("container", "lxc"),
        ];
        let mut env: Vec<(ByteString, ByteString)> = defaults.map(|(k, v)| (k.into(), v.into())).into();
        for (key, value) in requested {
            env.retain(|(k, _)| k != key);
            env.push((key.clone(), value.clone()));
        }
        env
    }

    fn take_groups(&self) -> SysResult<()> {
        let groups: Vec<_> = self.groups.iter().map(|g| rustix::process::Gid::from_raw(*g)).collect();
        rustix::thread::set_thread_groups(&groups).cannot(|| "set the user's groups")
    }

    /// Enters `cwd`, or else the user's home. It is looked up with the user's rights to files, by root
    /// of the guest, who can still enter namespaces; what /proc would lead out of the guest is refused.
    fn enter_dir(&self, cwd: Option<&ByteString>) -> Result<(), NotStarted> {
        let go = |path: &[u8]| -> rustix::io::Result<()> {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = rustix::fs::open("/", flags, rustix::fs::Mode::empty())?;
            let dir = mount::open_in_root(root.as_fd(), path, flags)?;
            rustix::process::fchdir(dir)
        };
        let rights = FileRights::of(self.uid, self.gid);
        let entered = match cwd {
            Some(path) => go(path.as_bytes())
                .map_err(|e| format!("cannot enter the directory '{path}' in the guest: {e}")),
            None => go(self.home.as_bytes())
                .or_else(|_| go(b"/"))
                .map_err(|e| format!("cannot enter the guest's root: {e}")),
        };
        drop(rights);
        entered.map_err(refused)
    }

    fn become_it(&self) -> SysResult<()> {
        use rustix::process::{Gid, Uid};
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
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
