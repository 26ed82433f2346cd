//! Threads for the work of this process.

use crate::Error;
use std::io;

/// Cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Starts so many threads for everything that is shared by cores, the caller's one of them; as
/// many as there are [`cores`] if it is not said. To be called once.
pub fn start(threads: Option<usize>) -> Result<(), Error> {
    rayon::ThreadPoolBuilder::new()
        // Zero is rayon's own choice, which heeds RAYON_NUM_THREADS.
        .num_threads(threads.unwrap_or(0))
        .use_current_thread()
        .build_global()
        .map_err(|e| Error::Thread {
            source: io::Error::other(e),
        })
}
