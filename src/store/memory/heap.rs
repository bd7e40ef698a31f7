//! The heap of the C library, which holds everything that the store does not.

#[cfg(target_env = "gnu")]
use nix::libc;

/// Has all threads that are started from now on allocate from one heap. glibc's allocator otherwise reserves 64 MB of
/// addresses for each, which is much where addresses are few, and to share costs the threads some waiting.
pub fn share_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the allocator's own function, under its own lock; how many heaps there are changes nothing that is held.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives what the allocator keeps, for nobody uses it any more, back to the system. It takes some milliseconds, and others
/// wait for it now and then.
pub fn trim_heap() {
    // Allocators other than that of glibc do it without being asked.
    #[cfg(target_env = "gnu")]
    // SAFETY: the allocator's own function, which touches nothing but what is free, under the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
