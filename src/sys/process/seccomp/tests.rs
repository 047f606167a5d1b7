use super::machine::{Call, run};
use super::*;

const ALLOW: u32 = 0x7fff_0000;
const fn errno(number: i32) -> u32 {
    0x0005_0000 | number as u32
}
/// linux/audit.h
const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
/// Bits of a register that the kernel does not look at where it takes an int.
const UPPER: [u64; 4] = [0, 1 << 32, 0xffff_ffff << 32, 0x8000_0000_0000_0000];

fn call(arch: u32, number: u32, args: &[u64]) -> Call {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    Call { arch, number, args: all }
}

/// The native architecture, as these tests know the numbers of it.
fn native(number: libc::c_long, args: &[u64]) -> Call {
    let arch = if cfg!(target_arch = "x86_64") { X86_64 } else { 0xc000_00b7 };
    call(arch, number as u32, args)
}

#[test]
fn a_family_is_judged_by_the_half_that_the_kernel_reads() {
    let filter = default_filter().unwrap();
    for number in [libc::SYS_socket, libc::SYS_socketpair] {
        for family in 0..64u64 {
            let expected =
                if FAMILIES.contains(&(family as i32)) { ALLOW } else { errno(libc::EAFNOSUPPORT) };
            for upper in UPPER {
                let said = run(&filter, &native(number, &[upper | family, 1]));
                assert_eq!(said, expected, "call {number} family {family} with {upper:#x}");
            }
        }
    }
    for family in [libc::AF_VSOCK, libc::AF_ALG, libc::AF_RDS, libc::AF_TIPC, libc::AF_CAN, libc::AF_XDP] {
        assert!(!FAMILIES.contains(&family));
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn programs_of_32_bits_have_no_way_around() {
    const SOCKETCALL: u32 = 102;
    let filter = default_filter().unwrap();
    for (socket, through_socketcall) in [(359, 1), (360, 8)] {
        let family = |family: i32| run(&filter, &call(I386, socket, &[family as u64]));
        assert_eq!(family(libc::AF_INET), ALLOW);
        assert_eq!(family(libc::AF_VSOCK), errno(libc::EAFNOSUPPORT));
        // Which family that is stands in the program's memory, which may change after a look at it.
        let said = run(&filter, &call(I386, SOCKETCALL, &[through_socketcall, 0x1000]));
        assert_eq!(said, errno(libc::EAFNOSUPPORT));
    }
    // connect, sendto: of a socket that is there.
    for other in [3, 11] {
        assert_eq!(run(&filter, &call(I386, SOCKETCALL, &[other, 0x1000])), ALLOW);
    }
    // x32, and an architecture that no kernel runs beside this one.
    let x32 = call(X86_64, 0x4000_0000 | libc::SYS_socket as u32, &[2]);
    assert_eq!(run(&filter, &x32), errno(libc::ENOSYS));
    assert_eq!(run(&filter, &call(0x28, 281, &[2])), errno(libc::ENOSYS));
}

#[test]
fn what_a_guest_has_no_use_for_is_absent_or_forbidden() {
    let filter = default_filter().unwrap();
    for number in [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_bpf, libc::SYS_userfaultfd] {
        assert_eq!(run(&filter, &native(number, &[])), errno(libc::ENOSYS));
    }
    for number in [libc::SYS_open_by_handle_at, libc::SYS_kexec_load, libc::SYS_init_module] {
        assert_eq!(run(&filter, &native(number, &[])), errno(libc::EPERM));
    }
    for number in [libc::SYS_mount, libc::SYS_unshare, libc::SYS_keyctl, libc::SYS_ptrace, libc::SYS_ioctl] {
        assert_eq!(run(&filter, &native(number, &[])), ALLOW);
    }
}

#[test]
fn nobody_types_into_the_operators_terminal() {
    for filter in [manager_filter().unwrap(), builder_filter().unwrap()] {
        for request in [0x5412, 0x541c] {
            for upper in UPPER {
                let said = run(&filter, &native(libc::SYS_ioctl, &[0, upper | request]));
                assert_eq!(said, errno(libc::EPERM), "{request:#x} with {upper:#x}");
            }
            if cfg!(target_arch = "x86_64") {
                assert_eq!(run(&filter, &call(I386, 54, &[0, request])), errno(libc::EPERM));
            }
        }
        assert_eq!(run(&filter, &native(libc::SYS_ioctl, &[0, libc::TIOCGWINSZ])), ALLOW);
    }
    assert_eq!(run(&manager_filter().unwrap(), &native(libc::SYS_socket, &[40])), ALLOW);
    let unknown = call(0x28, 54, &[0, libc::TIOCSTI]);
    assert_eq!(run(&manager_filter().unwrap(), &unknown), errno(libc::ENOSYS));
    if cfg!(target_arch = "x86_64") {
        let x32 = call(X86_64, 0x4000_0000 | 16, &[0, libc::TIOCSTI]);
        assert_eq!(run(&manager_filter().unwrap(), &x32), errno(libc::ENOSYS));
        assert_eq!(run(&manager_filter().unwrap(), &call(I386, 4, &[])), ALLOW);
    }
    let vsock = native(libc::SYS_socket, &[40]);
    assert_eq!(run(&builder_filter().unwrap(), &vsock), errno(libc::EAFNOSUPPORT));
}

#[test]
fn a_file_worker_has_files() {
    let filter = worker_filter().unwrap();
    for number in [libc::SYS_read, libc::SYS_openat2, libc::SYS_mkdirat, libc::SYS_exit_group] {
        assert_eq!(run(&filter, &native(number, &[])), ALLOW);
    }
    for number in [
        libc::SYS_socket,
        libc::SYS_ioctl,
        libc::SYS_execve,
        libc::SYS_clone,
        libc::SYS_clone3,
        libc::SYS_ptrace,
        libc::SYS_setns,
        libc::SYS_unshare,
        libc::SYS_mount,
        libc::SYS_chroot,
        libc::SYS_fchdir,
        libc::SYS_kill,
        libc::SYS_prctl,
        libc::SYS_keyctl,
        libc::SYS_bpf,
        libc::SYS_io_uring_setup,
        libc::SYS_pidfd_getfd,
        libc::SYS_recvmsg,
    ] {
        assert_eq!(run(&filter, &native(number, &[])), errno(libc::ENOSYS), "call {number}");
    }
    assert_ne!(run(&filter, &call(I386, 4, &[])), ALLOW);
}

#[test]
fn families_are_covered_by_few_masks() {
    assert_eq!(all_but(&[]), [(0xffff_ffc0, 0)]);
    let masks = all_but(&FAMILIES);
    for family in 0..64u64 {
        let matched = masks.iter().filter(|(mask, value)| family & mask == *value).count();
        assert_eq!(matched == 0, FAMILIES.contains(&(family as i32)), "{family}");
        assert!(matched <= 1, "{family}");
    }
}
