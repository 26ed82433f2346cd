//! Signals that ask the process to end: the first is noted, so that the run can be saved; the
//! second ends it, but not in the middle of a file.
#![allow(unsafe_code)]

use crate::Error;
use crate::files::finish_writing;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// What shells report of a program that Ctrl-C ended.
pub const INTERRUPTED: u8 = 130;

/// Set once the process is asked to end. Signals that its parent has it ignore, as `nohup` does,
/// stay ignored. To be called once.
pub fn watch() -> Result<&'static AtomicBool, Error> {
    static ASKED: AtomicBool = AtomicBool::new(false);
    let ignored = ignored();
    ctrlc::set_handler(|| {
        if ASKED.swap(true, Ordering::Relaxed) {
            let _writing = finish_writing();
            std::process::exit(INTERRUPTED.into());
        }
    })
    .map_err(|e| Error::Thread {
        source: io::Error::other(e),
    })?;
    ignore(&ignored);
    Ok(&ASKED)
}

/// Those of the signals that [`ctrlc`] handles which are ignored.
#[cfg(unix)]
fn ignored() -> Vec<libc::c_int> {
    let is_ignored = |&signal: &libc::c_int| {
        let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: with no new action, `sigaction` only writes the present one to `action`.
        let done = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) };
        // SAFETY: it returned 0, so `action` was written.
        done == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
    };
    let signals = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];
    signals.into_iter().filter(is_ignored).collect()
}

#[cfg(unix)]
fn ignore(signals: &[libc::c_int]) {
    for &signal in signals {
        // SAFETY: ignoring a signal runs no code of this process.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

#[cfg(not(unix))]
fn ignored() -> Vec<i32> {
    Vec::new()
}

#[cfg(not(unix))]
fn ignore(_: &[i32]) {}
