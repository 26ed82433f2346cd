//! Replacement of a file in one step: a reader, or a kill at any moment, sees the old file or
//! the new one, whole.
//!
//! The new file is written beside the old one under a temporary name, synced, and renamed. It is
//! locked while it is written, so that the temporary files that a kill has left can be told from
//! those of a process at work: [`check_writable`] removes the former.

use super::Place;
use super::place::folder;
use crate::Error;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tempfile::{NamedTempFile, PersistError};

const PREFIX: &str = ".fused-lstm-";
const SUFFIX: &str = ".tmp";

/// Puts `bytes` in the place of a file at once, with its mode and owner. A symbolic link stays,
/// and what it points to is replaced; devices and pipes are written to.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    replace_with(path, |file| file.write_all(bytes))
}

/// [`replace`] with what `write` writes.
pub(crate) fn replace_with(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), Error> {
    let failed = || Error::io(path, "write");
    let (target, old) = match Place::of(path)? {
        Place::Stream(target) => {
            // Nothing is left half written, and a pipe may have no reader.
            let mut stream = File::options()
                .append(true)
                .open(target)
                .map_err(failed())?;
            return write(&mut stream).map_err(failed());
        }
        Place::New(target) => (target, None),
        Place::File(target) => {
            let old = fs::metadata(&target).map_err(failed())?;
            (target, Some(old))
        }
    };
    let _writing = finish_writing();
    // Nobody may read what is to replace a private file, not even for a moment.
    let mode = if old.is_some() { 0o600 } else { 0o666 };
    let mut file = temporary(folder(&target), mode).map_err(failed())?;
    if let Some(old) = old {
        keep_owner_and_mode(file.as_file(), &old).map_err(failed())?;
    }
    write(file.as_file_mut()).map_err(failed())?;
    file.as_file().sync_all().map_err(failed())?;
    file.persist(&target)
        .map_err(|e| rescue(path, &target, e))?;
    // The rename itself lasts once the folder is on the disk. The file is whole either
    // way, and not every folder may be opened.
    #[cfg(unix)]
    if let Ok(folder) = File::open(folder(&target)) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// The error of a file that cannot be replaced, as one that is a mount point, or another user's in a
/// sticky folder. What was written is kept beside it.
fn rescue(path: &Path, target: &Path, error: PersistError) -> Error {
    let mut name = target.as_os_str().to_owned();
    name.push(".new");
    match error.file.persist_noclobber(&name) {
        Ok(_) => {
            let (why, kept) = (error.error, name.display());
            Error::file(
                path,
                format!("cannot be replaced: {why}; {kept} is what it would be"),
            )
        }
        Err(_) => Error::io(path, "write")(error.error),
    }
}

/// Refuses a path that could not be written later, and removes temporary files beside it that
/// nobody is writing any more.
pub fn check_writable(path: &Path) -> Result<(), Error> {
    let target = match Place::of(path)? {
        Place::Stream(_) => return Ok(()),
        Place::New(target) | Place::File(target) => target,
    };
    let _writing = finish_writing();
    remove_abandoned(folder(&target));
    temporary(folder(&target), 0o600)
        .map(drop)
        .map_err(Error::io(path, "write"))
}

/// Waits until no file is being written, and keeps others from it: the process may end while
/// this is held.
pub(crate) fn finish_writing() -> MutexGuard<'static, ()> {
    static WRITING: Mutex<()> = Mutex::new(());
    WRITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A new file with a lock on it, which goes when it is dropped.
fn temporary(folder: &Path, mode: u32) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The process's mask applies, as to any new file.
        builder.permissions(fs::Permissions::from_mode(mode));
    }
    #[cfg(not(unix))]
    let _ = mode;
    loop {
        let file = builder.tempfile_in(folder)?;
        match file.as_file().lock() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            // Not every file system has locks. Files there are never taken for abandoned.
            _ => {}
        }
        // Between the two steps another process may have taken it for abandoned.
        if file.path().exists() {
            return Ok(file);
        }
    }
}

fn remove_abandoned(folder: &Path) {
    let is_temporary = |name: &OsStr| {
        let name = name.to_str().unwrap_or("");
        name.starts_with(PREFIX) && name.ends_with(SUFFIX)
    };
    // A folder that cannot be listed can still be written to.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file
            && is_temporary(&entry.file_name())
            && let Ok(file) = File::open(entry.path())
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(unix)]
fn keep_owner_and_mode(file: &File, old: &fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};
    let new = file.metadata()?;
    if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
        // Only root may give files away; others keep what they write.
        let _ = fchown(file, Some(old.uid()), Some(old.gid()));
    }
    file.set_permissions(old.permissions())
}

#[cfg(not(unix))]
fn keep_owner_and_mode(_: &File, _: &fs::Metadata) -> io::Result<()> {
    Ok(())
}
