//! Names of hosts and users in a binary that brings its own C library (`make static`). Called once, before anything else runs.
//! The one place of the program that speaks to the C library itself.

/// Leaves names to `/etc/hosts`, `/etc/passwd` and DNS, whatever `/etc/nsswitch.conf` says. Its other sources are libraries of
/// the machine, made for the machine's C library, not for ours. Without a library of its own the program needs none of this.
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
#[expect(unsafe_code, reason = "glibc has no other way to say it")]
pub fn keep_to_files_and_dns() {
    use std::ffi::{CStr, c_char, c_int};
    unsafe extern "C" {
        fn __nss_configure_lookup(database: *const c_char, sources: *const c_char) -> c_int;
    }
    let databases: [(&CStr, &CStr); 3] =
        [(c"hosts", c"files dns"), (c"passwd", c"files"), (c"group", c"files")];
    for (database, sources) in databases {
        // SAFETY: both are texts that end with a zero and live as long as the program, which has one thread as yet; the
        // function keeps neither.
        let _refused = unsafe { __nss_configure_lookup(database.as_ptr(), sources.as_ptr()) };
    }
}

/// The machine's own C library follows the machine's own settings.
#[cfg(not(all(target_env = "gnu", target_feature = "crt-static")))]
pub const fn keep_to_files_and_dns() {}
