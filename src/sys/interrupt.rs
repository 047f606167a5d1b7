//! The user's wish to stop, noticed at points where work can be undone.

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

/// Whether such a signal has come.
pub fn pending() -> bool {
    PENDING.load(Ordering::Relaxed)
}
