//! The memory that this process has asked for and does not use any more.
#![allow(unsafe_code)]

/// Gives it back to the kernel. The C library does so by itself only where it is 128 KiB: for a process that lives
/// long beside hundreds of its kind, that is much.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no pointer comes or goes, and nothing that is in use moves.
    unsafe {
        libc::malloc_trim(0);
    }
}
