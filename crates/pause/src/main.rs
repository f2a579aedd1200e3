//! Holds a sandbox's namespaces open.
//!
//! As PID 1 of a pod with a shared process namespace it inherits orphans and reaps them; on
//! SIGTERM or SIGINT it exits 0. It allocates nothing and runs no other code.

use std::process::ExitCode;

/// The signals that end or wake this process.
const SIGNALS: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGCHLD];

fn main() -> ExitCode {
    if std::env::args().any(|arg| arg == "-v") {
        println!("pause {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let signals = block_signals();
    loop {
        match wait_signal(&signals) {
            libc::SIGCHLD => reap(),
            libc::SIGTERM | libc::SIGINT => return ExitCode::SUCCESS,
            _ => {}
        }
    }
}

/// Blocked signals stay pending until `sigwait` takes them, so none is lost between two waits.
#[allow(unsafe_code)]
fn block_signals() -> libc::sigset_t {
    // SAFETY: the set is initialised by sigemptyset before it is read, and all pointers are to it.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in SIGNALS {
            libc::sigaddset(&mut set, signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        set
    }
}

#[allow(unsafe_code)]
fn wait_signal(signals: &libc::sigset_t) -> libc::c_int {
    let mut signal = 0;
    // SAFETY: both pointers live for the call.
    unsafe { libc::sigwait(signals, &mut signal) };
    signal
}

/// One SIGCHLD may stand for several children.
#[allow(unsafe_code)]
fn reap() {
    // SAFETY: a null status pointer is allowed; WNOHANG returns 0 or -1 when nothing is left.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
}
