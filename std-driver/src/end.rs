//! How commands end.

use crate::complain;
use fused_lstm_driver::Error;

/// How a command ended that has nothing more to say.
pub enum End {
    /// It did all that it should.
    Done,
    /// It was asked to end.
    Interrupted,
    /// It did what it could, and has said what it could not.
    Failed,
}

/// The error of a run, or of saving it; if there are both, the first is said here.
pub fn first_of(ended: Result<(), Error>, saved: Option<Result<(), Error>>) -> Result<(), Error> {
    match (ended, saved) {
        (Err(error), Some(Err(other))) => {
            complain(&format!("error: {error}"));
            Err(other)
        }
        (ended, saved) => ended.and(saved.unwrap_or(Ok(()))),
    }
}
