//! Signals: the user's wish to stop, noticed at points where work can be undone, and what a program that is
//! executed is to find.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};

static PENDING: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_: libc::c_int) {
    PENDING.store(true, Ordering::Relaxed);
}

/// From now on SIGINT, SIGTERM and SIGHUP interrupt a wait and are noted, instead of ending the
/// process.
pub fn arm() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler does nothing but store to an atomic. No SA_RESTART: waits end.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = note as *const () as usize;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
}

/// The end of whoever asks, and of a pipe's reader, is no reason to end at once: it is seen where something is read or
/// written, and what is half done can be tidied up.
pub fn ignore_hangups() {
    for signal in [libc::SIGPIPE, libc::SIGHUP] {
        // SAFETY: ignoring a signal runs no code.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Whether such a signal has come.
pub fn pending() -> bool {
    PENDING.load(Ordering::Relaxed)
}

/// Ignores what a user types at a terminal to interrupt, while another program has the terminal.
pub fn left_to_another<T>(wait: impl FnOnce() -> T) -> T {
    // SAFETY: ignoring a signal runs no code; the dispositions before are put back.
    let before = [libc::SIGINT, libc::SIGQUIT].map(|n| (n, unsafe { libc::signal(n, libc::SIG_IGN) }));
    let waited = wait();
    for (signal, disposition) in before {
        if disposition != libc::SIG_ERR {
            // SAFETY: as above.
            unsafe { libc::signal(signal, disposition) };
        }
    }
    waited
}

/// Undoes what this process ignores and blocks: both would be inherited by what it executes.
pub fn reset() {
    for signal in 1..=64 {
        if signal != libc::SIGKILL && signal != libc::SIGSTOP {
            // SAFETY: back to the default disposition; numbers 32 and 33 are refused by libc.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
}
