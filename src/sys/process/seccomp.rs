//! System call filters: of guests, of builders, of file workers and of the manager.
#![allow(unsafe_code)]

use std::io::{Read, Seek};

use libseccomp::error::SeccompError;
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};

use crate::sys::{SysError, SysResult};

#[cfg(test)]
mod machine;
#[cfg(test)]
mod tests;

/// Refused with ENOSYS, as a kernel built without them would: software probes these and goes on.
const ABSENT: &[&str] = &[
    "bpf",
    // Work that no other filter sees, in code that is new and large. Programs fall back to epoll.
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "lookup_dcookie",
    "nfsservctl",
    "perf_event_open",
    "quotactl",
    "quotactl_fd",
    "sysfs",
    "uselib",
    "userfaultfd",
    "ustat",
    "vm86",
    "vm86old",
];

/// Refused with EPERM. Most need the host's capabilities anyway: less of the kernel is in reach.
const FORBIDDEN: &[&str] = &[
    "acct",
    "delete_module",
    "finit_module",
    "init_module",
    "ioperm",
    "iopl",
    "kexec_file_load",
    "kexec_load",
    "open_by_handle_at",
    "pciconfig_iobase",
    "pciconfig_read",
    "pciconfig_write",
    "swapoff",
    "swapon",
];

/// Families of sockets that a guest needs. A socket of any other loads a protocol module, most of
/// which are old or rare; AF_VSOCK knows no network namespaces and leads to the hypervisor.
const FAMILIES: [i32; 7] = [
    libc::AF_UNIX,
    libc::AF_INET,
    libc::AF_INET6,
    libc::AF_KEY,
    libc::AF_NETLINK,
    libc::AF_PACKET,
    libc::AF_PPPOX,
];
/// Families are below 64; the kernel itself knows none above 46 (AF_MAX of linux/socket.h).
const FAMILY_BITS: u32 = 6;

/// Terminal requests that put in what seems to have been typed: with the operator's terminal at hand,
/// whoever may make them is the operator.
const TYPED_FOR_ANOTHER: [libc::c_ulong; 2] = [libc::TIOCSTI, 0x541c /* TIOCLINUX */];

/// All that a file worker does once it is shut in: reads what it was given, writes below its root.
const FILE_WORK: &[&str] = &[
    "brk",
    "clock_gettime",
    "close",
    "exit",
    "exit_group",
    "fchmod",
    "fchmodat",
    "fchown",
    "fchownat",
    "fcntl",
    "flock",
    "fsetxattr",
    "fstat",
    "fstatfs",
    "ftruncate",
    "futex",
    "getdents64",
    "getpid",
    "getrandom",
    "gettid",
    "linkat",
    "lseek",
    "madvise",
    "mkdirat",
    "mknodat",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "newfstatat",
    "openat",
    "openat2",
    "read",
    "readlinkat",
    "renameat",
    "renameat2",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sendmsg",
    "sigaltstack",
    "statx",
    "symlinkat",
    "syncfs",
    "unlinkat",
    "utimensat",
    "write",
    "writev",
];

/// What a file worker that copies trees does besides.
const COPYING: &[&str] = &[
    "copy_file_range",
    "fchdir",
    "fgetxattr",
    "flistxattr",
    "fremovexattr",
    "lgetxattr",
    "llistxattr",
    "lsetxattr",
    "pread64",
    "pwrite64",
    "sync_file_range",
];

/// FICLONE of linux/fs.h.
const FICLONE: u64 = 0x4004_9409;

type Rules = Result<ScmpFilterContext, SeccompError>;

/// Compiles the default filter of guests to classic BPF: instructions of 8 bytes each, in host byte
/// order. It covers every architecture whose programs this kernel runs; others are refused.
pub fn default_filter() -> SysResult<Vec<u8>> {
    compile(guest())
}

/// That of builders, whose programs come from a mirror: a guest's, without a way into a terminal.
pub fn builder_filter() -> SysResult<Vec<u8>> {
    compile(guest().and_then(no_typing))
}

/// That of a manager: whatever it is made to do, it types nothing into its operator's terminal.
pub fn manager_filter() -> SysResult<Vec<u8>> {
    match IOCTL {
        Some(calls) => Ok(no_typing_by_hand(calls)),
        None => compile(every_architecture(ScmpAction::Allow).and_then(no_typing)),
    }
}

/// AUDIT_ARCH_* of linux/audit.h with its number of ioctl(2): this machine's, and that of the 32-bit
/// programs that it runs too.
const IOCTL: Option<[(u32, u32); 2]> = if cfg!(target_arch = "x86_64") {
    Some([(0xc000_003e, 16), (0x4000_0003, 54)])
} else if cfg!(target_arch = "aarch64") {
    Some([(0xc000_00b7, 29), (0x4000_0028, 54)])
} else {
    None
};

/// The same rules as instructions, without the library: every command waits for this at its beginning.
fn no_typing_by_hand([own, other]: [(u32, u32); 2]) -> Vec<u8> {
    let jump_if = |test: u32| (libc::BPF_JMP | libc::BPF_K | test) as u16;
    let (equal, at_least) = (jump_if(libc::BPF_JEQ), jump_if(libc::BPF_JGE));
    let (load, give) = ((libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, libc::BPF_RET as u16);
    let refuse = |errno: i32| libc::SECCOMP_RET_ERRNO | errno as u32;
    // Of struct seccomp_data in linux/seccomp.h: the call's number, the architecture, and the lower half of
    // the second argument. Both machines are little-endian.
    let (number, architecture, request) = (0, 4, 24);
    // x32 programs have the architecture of x86-64, and this bit in the number.
    let x32 = 0x4000_0000;
    let [typed, typed_too] = TYPED_FOR_ANOTHER.map(|request| request as u32);
    // Code, instructions to skip if so and if not, operand.
    let program: [(u16, u8, u8, u32); 14] = [
        (load, 0, 0, architecture),
        (equal, 0, 3, own.0),
        (load, 0, 0, number),
        (at_least, 8, 0, x32),
        (equal, 3, 6, own.1),
        (equal, 0, 6, other.0),
        (load, 0, 0, number),
        (equal, 0, 3, other.1),
        (load, 0, 0, request),
        (equal, 3, 0, typed),
        (equal, 2, 0, typed_too),
        (give, 0, 0, libc::SECCOMP_RET_ALLOW),
        (give, 0, 0, refuse(libc::ENOSYS)),
        (give, 0, 0, refuse(libc::EPERM)),
    ];
    let bytes = |(code, yes, no, operand): (u16, u8, u8, u32)| {
        let [c0, c1] = code.to_ne_bytes();
        let [k0, k1, k2, k3] = operand.to_ne_bytes();
        [c0, c1, yes, no, k0, k1, k2, k3]
    };
    program.into_iter().flat_map(bytes).collect()
}

/// That of file workers: what [`FILE_WORK`] does not name is refused as if the kernel lacked it.
pub fn worker_filter() -> SysResult<Vec<u8>> {
    compile(only(FILE_WORK))
}

/// The same of those that copy trees.
pub fn copier_filter() -> SysResult<Vec<u8>> {
    let rules = || {
        let mut filter = only(&[FILE_WORK, COPYING].concat())?;
        // To share blocks, and to be allowed as many descriptors as the process may have.
        let clone = ScmpArgCompare::new(1, ScmpCompareOp::MaskedEqual(INT), FICLONE);
        filter.add_rule_conditional(ScmpAction::Allow, ScmpSyscall::from_name("ioctl")?, &[clone])?;
        let itself = ScmpArgCompare::new(0, ScmpCompareOp::MaskedEqual(INT), 0);
        filter.add_rule_conditional(ScmpAction::Allow, ScmpSyscall::from_name("prlimit64")?, &[itself])?;
        Ok(filter)
    };
    compile(rules())
}

/// These calls, and no others.
fn only(names: &[&str]) -> Rules {
    let mut filter = ScmpFilterContext::new(ScmpAction::Errno(libc::ENOSYS))?;
    for name in names {
        if let Ok(call) = ScmpSyscall::from_name(name) {
            filter.add_rule(ScmpAction::Allow, call)?;
        }
    }
    Ok(filter)
}

fn guest() -> Rules {
    let mut filter = every_architecture(ScmpAction::Allow)?;
    for (names, errno) in [(ABSENT, libc::ENOSYS), (FORBIDDEN, libc::EPERM)] {
        for name in names {
            // A call that the library has no number for is one that this machine lacks.
            if let Ok(call) = ScmpSyscall::from_name(name) {
                filter.add_rule(ScmpAction::Errno(errno), call)?;
            }
        }
    }
    // A 32-bit program of x86 that makes its sockets through socketcall(2) gets none at all: a filter
    // sees the number of the call there, and a pointer.
    for (mask, value) in all_but(&FAMILIES) {
        for call in ["socket", "socketpair"] {
            let other = ScmpArgCompare::new(0, ScmpCompareOp::MaskedEqual(mask), value);
            let call = ScmpSyscall::from_name(call)?;
            filter.add_rule_conditional(ScmpAction::Errno(libc::EAFNOSUPPORT), call, &[other])?;
        }
    }
    Ok(filter)
}

fn no_typing(mut filter: ScmpFilterContext) -> Rules {
    for request in TYPED_FOR_ANOTHER {
        let same = ScmpArgCompare::new(1, ScmpCompareOp::MaskedEqual(INT), request);
        filter.add_rule_conditional(
            ScmpAction::Errno(libc::EPERM),
            ScmpSyscall::from_name("ioctl")?,
            &[same],
        )?;
    }
    Ok(filter)
}

fn every_architecture(otherwise: ScmpAction) -> Rules {
    let mut filter = ScmpFilterContext::new(otherwise)?;
    match ScmpArch::native() {
        ScmpArch::X8664 => drop(filter.add_arch(ScmpArch::X86)?),
        ScmpArch::Aarch64 => drop(filter.add_arch(ScmpArch::Arm)?),
        _ => {}
    }
    filter.set_act_badarch(ScmpAction::Errno(libc::ENOSYS))?;
    Ok(filter)
}

/// The kernel takes an int and never sees the upper half of the register, which may hold anything: to
/// compare all of it would let a call pass by a bit that means nothing.
const INT: u64 = 0xffff_ffff;

/// Masks and values that match every family but `allowed`.
fn all_but(allowed: &[i32]) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    let mut blocks = vec![(0u64, FAMILY_BITS)];
    while let Some((first, bits)) = blocks.pop() {
        let size = 1u64 << bits;
        let inside = |family: &i32| (first..first + size).contains(&(*family as u64));
        match allowed.iter().filter(|family| inside(family)).count() as u64 {
            0 => found.push((INT & !(size - 1), first)),
            count if count == size => {}
            _ => blocks.extend([(first, bits - 1), (first + size / 2, bits - 1)]),
        }
    }
    found
}

fn compile(filter: Rules) -> SysResult<Vec<u8>> {
    let failed = |e: SeccompError| SysError::new("compile the system call filter", std::io::Error::other(e));
    let filter = filter.map_err(failed)?;
    let file = rustix::fs::memfd_create("seccomp", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(|e| SysError::new("make a memory file", e))?;
    let mut file = std::fs::File::from(file);
    filter.export_bpf(&file).map_err(failed)?;
    let mut program = Vec::new();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut program))
        .map_err(|e| SysError::new("read the system call filter", e))?;
    Ok(program)
}

/// Loads a compiled filter for this process and all it will start; none where `program` is empty. Needs
/// CAP_SYS_ADMIN in the process's user namespace, unless no_new_privs is set; for guests that stays off,
/// which use sudo. Asks for no memory.
pub fn install(program: &[u8]) -> SysResult<()> {
    load(program).map_err(|e| SysError::new("load the system call filter", e))
}

/// The same for a child that cannot ask for memory, not even to tell of a failure.
pub fn load(program: &[u8]) -> rustix::io::Result<()> {
    #[repr(C)]
    struct Program {
        length: u16,
        instructions: *const u8,
    }
    if program.is_empty() {
        return Ok(());
    }
    let length = u16::try_from(program.len() / 8).map_err(|_| rustix::io::Errno::INVAL)?;
    // The kernel copies the instructions from wherever they are; alignment does not matter to it.
    let program = Program { length, instructions: program.as_ptr() };
    // SAFETY: the struct describes memory that lives through the call.
    let done =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    match done {
        0 => Ok(()),
        _ => Err(rustix::io::Errno::from_io_error(&std::io::Error::last_os_error())
            .unwrap_or(rustix::io::Errno::INVAL)),
    }
}
