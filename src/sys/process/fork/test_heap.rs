//! The memory of unit tests, whose runner has many threads: a child of a process with several threads finds
//! the allocator's locks as they were, and waits for ever where another thread held one. The program itself
//! has one thread when it forks, and needs none of this.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

struct Heap;

#[global_allocator]
static HEAP: Heap = Heap;

/// Threads that are in the allocator.
static INSIDE: AtomicUsize = AtomicUsize::new(0);
/// Set while a thread forks.
static FORKING: AtomicBool = AtomicBool::new(false);

/// Forks by `clone` while no thread is in the allocator.
pub fn at_rest<T>(clone: impl FnOnce() -> T) -> T {
    while FORKING.swap(true, SeqCst) {
        std::thread::yield_now();
    }
    while INSIDE.load(SeqCst) > 0 {
        std::thread::yield_now();
    }
    let pid = clone();
    // In the child as well, which has a copy of its own.
    FORKING.store(false, SeqCst);
    pid
}

fn inside<T>(work: impl FnOnce() -> T) -> T {
    loop {
        INSIDE.fetch_add(1, SeqCst);
        if !FORKING.load(SeqCst) {
            break;
        }
        INSIDE.fetch_sub(1, SeqCst);
        std::thread::yield_now();
    }
    let done = work();
    INSIDE.fetch_sub(1, SeqCst);
    done
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller's.
        inside(|| unsafe { System.alloc(layout) })
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller's.
        inside(|| unsafe { System.dealloc(memory, layout) });
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller's.
        inside(|| unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller's.
        inside(|| unsafe { System.realloc(memory, layout, size) })
    }
}
