//! The first steps of a guest's process 1, from its birth in fresh namespaces to the exec of the
//! guest's own init. Our code, in the guest's place: it does nothing that the guest could not.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rustix::thread::LinkNameSpaceType;
use serde::{Deserialize, Serialize};

use super::config::MonitorConfig;
use super::{guest_files, rootfs};
use crate::model::nic::Nic;
use crate::sys::error_text;
use crate::sys::{Context, SysError, SysResult, caps, guest_net, mount, rlimit, seccomp, seqpacket, userns};

/// What a newborn init says to its monitor. End of file means that exec has worked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InitReport {
    /// Comes with the console's master, the root of devpts, the notification socket and the
    /// network namespace. The answer, one message, means: go on.
    Built,
    Failed {
        reason: String,
    },
}

/// Where the network interface is when a guest boots.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Boot {
    /// The broker puts it into the namespace that the monitor was given.
    First,
    /// In the namespace of the boot before; this boot has a namespace of its own.
    Again,
}

/// Runs in the new process and does not return. `network` is the monitor's network namespace
/// descriptor for the guest.
pub fn run(config: &MonitorConfig, boot: Boot, boot_id: &str, network: &OwnedFd, report: &OwnedFd) -> ! {
    let error = match prepare(config, boot, boot_id, network, report) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    let _ = seqpacket::send(report, &InitReport::Failed { reason: error_text(&error) }, &[]);
    crate::sys::clone::exit_now(1)
}

fn prepare(
    config: &MonitorConfig,
    boot: Boot,
    boot_id: &str,
    network: &OwnedFd,
    report: &OwnedFd,
) -> SysResult<std::convert::Infallible> {
    caps::undumpable();
    // Of all that the monitor has open, the control socket and the operators' connections first of all.
    crate::sys::clone::keep_only(&[network, report]);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    if boot == Boot::First {
        userns::enter(network, LinkNameSpaceType::Network, "network")?;
    }
    let terminals = rootfs::build(boot_id, &config.uuid)?;
    let own_network = userns::open_ns(1, "net")?;
    let mut nics = config.nics.clone();
    if boot == Boot::Again {
        bring_interfaces(network, &own_network, &mut nics)?;
    }
    let fds = [
        terminals.console_master.as_fd(),
        terminals.devpts.as_fd(),
        terminals.notify.as_fd(),
        own_network.as_fd(),
    ];
    seqpacket::send(report, &InitReport::Built, &fds)?;
    let root = mount::open_dir("/")?;
    let placed = guest_files::place(&root, config, &nics);
    placed.tell(&terminals.console_slave);
    rustix::system::sethostname(placed.hostname.as_bytes()).cannot(|| "set the host name")?;
    // Everything that can fail by the guest's doing has been done; now the network must be there.
    if seqpacket::recv::<()>(report)?.is_none() {
        return Err(SysError::new("start the guest", std::io::Error::other("its monitor is gone")));
    }
    guest_net::configure(&nics)
        .map_err(|e| SysError::new("set up the guest's network", std::io::Error::other(error_text(&e))))?;
    new_session_keyring();
    let console = terminals.console_slave.as_fd();
    place_stdio([Some(console); 3])?;
    take_standard_terminal()?;
    let (argv, env) = (strings(&config.init)?, environment(&config.env)?);
    drop_monitor_signals();
    rlimit::apply(&config.rlimits)?;
    caps::confine_guest()?;
    seccomp::install(&config.filter())?;
    Err(exec(&argv, &env))
}

/// Moves the interfaces out of the namespace of the boot before. A guest that has deleted one boots
/// without it: only the host could make a new one.
fn bring_interfaces(old: &OwnedFd, own: &OwnedFd, nics: &mut Vec<Nic>) -> SysResult<()> {
    userns::enter(old, LinkNameSpaceType::Network, "former network")?;
    *nics = guest_net::move_links_to_netns(nics, own.as_fd()).unwrap_or_default();
    userns::enter(own, LinkNameSpaceType::Network, "network")
}

/// A session keyring of its own, lest the guest see the operator's keys.
pub fn new_session_keyring() {
    const JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: keyctl(2) with a null name: an anonymous keyring.
    unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
}

/// Makes the terminal that is standard input the controlling one of a new session.
pub fn take_standard_terminal() -> SysResult<()> {
    rustix::process::setsid().cannot(|| "start a session")?;
    rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).cannot(|| "take the terminal")
}

/// Puts three descriptors at 0, 1 and 2, from other numbers than these.
pub fn place_stdio(fds: [Option<std::os::fd::BorrowedFd<'_>>; 3]) -> SysResult<()> {
    for (target, fd) in (0i32..).zip(fds) {
        let Some(fd) = fd else { continue };
        // SAFETY: 0 to 2 are this process's standard descriptors, which nothing here owns.
        if unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&fd), target) } < 0 {
            return Err(SysError::last("place standard input and output"));
        }
    }
    Ok(())
}

/// Undoes what the monitor blocks and ignores; both would be inherited.
pub fn drop_monitor_signals() {
    for signal in 1..=64 {
        if signal != libc::SIGKILL && signal != libc::SIGSTOP {
            // SAFETY: back to the default disposition; numbers 32 and 33 are refused by libc.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
}

/// C strings for exec.
pub fn strings(words: &[impl AsRef<[u8]>]) -> SysResult<Vec<CString>> {
    words
        .iter()
        .map(|word| {
            let word = word.as_ref();
            CString::new(word)
                .map_err(std::io::Error::from)
                .cannot(|| format!("use {:?} as an argument", String::from_utf8_lossy(word)))
        })
        .collect()
}

/// `NAME=value` strings for exec.
pub fn environment<T: AsRef<[u8]>>(pairs: &[(T, T)]) -> SysResult<Vec<CString>> {
    strings(&pairs.iter().map(|(k, v)| [k.as_ref(), b"=", v.as_ref()].concat()).collect::<Vec<_>>())
}

fn exec(argv: &[CString], env: &[CString]) -> SysError {
    // Every descriptor of ours is close-on-exec; this also covers what a library may have opened.
    // SAFETY: integers only; sets a flag.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    let Some(program) = argv.first() else {
        return SysError::new("execute the guest's init", std::io::ErrorKind::InvalidInput);
    };
    let Err(e) = nix::unistd::execve(program, argv, env);
    SysError::new(format!("execute {} in the guest", program.to_string_lossy()), e)
}
