//! The first steps of a guest's process 1, from its birth in fresh namespaces to the exec of the guest's
//! own init. It is nagaya's code with the guest's rights: it does nothing that the guest could not do.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rustix::thread::LinkNameSpaceType;
use serde::{Deserialize, Serialize};

use super::config::MonitorConfig;
use super::rootfs;
use crate::guest::files;
use crate::model::nic::Nic;
use crate::sys::error_text;
use crate::sys::fs::mount;
use crate::sys::net::{guest_net, seqpacket};
use crate::sys::process::{caps, descriptors, interrupt, rlimit, sandbox, seccomp, userns};
use crate::sys::{Context, SysError, SysResult};

/// What a newborn init says to its monitor. End of file means that exec has worked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InitReport {
    /// Comes with the console's master, the root of devpts, the notification socket and the
    /// network namespace. The answer, one message, means: go on.
    Built,
    Failed {
        reason: String,
        /// The kernel's answer, where that was the cause.
        errno: Option<i32>,
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
    let failed = InitReport::Failed { reason: error_text(&error), errno: error.errno() };
    let _ = seqpacket::send(report, &failed, &[]);
    crate::sys::process::fork::exit_now(1)
}

fn prepare(
    config: &MonitorConfig,
    boot: Boot,
    boot_id: &str,
    network: &OwnedFd,
    report: &OwnedFd,
) -> SysResult<std::convert::Infallible> {
    caps::undumpable();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    if boot == Boot::First {
        userns::enter(network, LinkNameSpaceType::Network, "network")?;
    }
    let terminals = rootfs::build(boot_id, &config.uuid, &config.mounts)?;
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
    let guest = files::Guest {
        name: &config.name,
        uuid: &config.uuid,
        init_kind: config.init_kind,
        settings: &config.guest,
        nics: &nics,
    };
    let placed = files::place(&root, &guest);
    placed.tell(&terminals.console_slave);
    rustix::system::sethostname(placed.hostname.as_bytes()).cannot(|| "set the host name")?;
    // Everything that a guest can make fail is done; from here on the network must be there.
    if seqpacket::recv::<()>(report)?.is_none() {
        return Err(SysError::new("start the guest", std::io::Error::other("its monitor is gone")));
    }
    guest_net::configure(&nics)
        .map_err(|e| SysError::new("set up the guest's network", std::io::Error::other(error_text(&e))))?;
    // Lest the guest see the operator's keys.
    let _ = sandbox::leave_keyring();
    let console = terminals.console_slave.as_fd();
    descriptors::place_streams([Some(console); 3])?;
    take_standard_terminal()?;
    let (argv, env) = (strings(&config.init)?, environment(&config.env)?);
    interrupt::reset();
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

/// Makes the terminal that is standard input the controlling one of a new session.
pub fn take_standard_terminal() -> SysResult<()> {
    rustix::process::setsid().cannot(|| "start a session")?;
    rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).cannot(|| "take the terminal")
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
    descriptors::close_all_on_exec();
    let Some(program) = argv.first() else {
        return SysError::new("execute the guest's init", std::io::ErrorKind::InvalidInput);
    };
    let Err(e) = nix::unistd::execve(program, argv, env);
    SysError::new(format!("execute {} in the guest", program.to_string_lossy()), e)
}
