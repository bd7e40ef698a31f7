//! The heap of the C library, from which everything outside of the store's own memory is allocated.

#[cfg(target_env = "gnu")]
use nix::libc;

/// Makes all threads started from now on allocate from one heap. Otherwise glibc's allocator reserves 64 MB of address
/// space for each thread, which is much where address space is limited. With one heap, threads wait for each other now
/// and then.
pub fn share_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the allocator's own function, under its own lock; the number of heaps changes nothing that is allocated.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives the free memory that the allocator keeps back to the system. It takes some milliseconds, and other threads
/// that allocate may wait for it.
pub fn trim_heap() {
    // Other allocators than glibc's give free memory back by themselves.
    #[cfg(target_env = "gnu")]
    // SAFETY: the allocator's own function, which touches only free memory, under the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
