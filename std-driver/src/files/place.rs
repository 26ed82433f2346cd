//! What a path is, judged by what lies there and not by whether it resolves.

use crate::Error;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Where something is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nothing is there yet.
    New(PathBuf),
    /// A regular file, with links followed.
    File(PathBuf),
    /// A device, a pipe, or a file that the process was started with (`/dev/stdout`): written
    /// to where it is, because a file beside it could not take its place.
    Stream(PathBuf),
}

impl Place {
    /// Refuses folders, sockets, read-only files, and links that lead nowhere or in a circle.
    pub(crate) fn of(path: &Path) -> Result<Self, Error> {
        let refuse = |got: &str| Error::file(path, format!("expected a file to write, got {got}"));
        let Some(metadata) = metadata(path)? else {
            return match path.file_name() {
                None => Err(refuse("no name of a file")),
                Some(_) if ends_as_a_folder(path) => Err(refuse("the name of a folder")),
                Some(_) => Ok(Self::New(path.to_owned())),
            };
        };
        if metadata.is_dir() {
            return Err(refuse("a folder"));
        }
        if is_socket(&metadata) {
            return Err(refuse("a socket"));
        }
        if !metadata.is_file() || is_inherited(path) {
            return Ok(Self::Stream(path.to_owned()));
        }
        // Replacing needs leave to write the folder alone, but a file that is read-only is
        // meant to stay. Root may open it, so its mode is asked too.
        let denied = || Error::io(path, "write")(ErrorKind::PermissionDenied.into());
        if metadata.permissions().readonly() {
            return Err(denied());
        }
        let target = path.canonicalize().map_err(Error::io(path, "write"))?;
        match fs::File::options().write(true).open(&target) {
            Err(e) if e.kind() == ErrorKind::PermissionDenied => Err(denied()),
            _ => Ok(Self::File(target)),
        }
    }
}

/// What lies at the path, links followed; `None` if nothing does.
fn metadata(path: &Path) -> Result<Option<fs::Metadata>, Error> {
    match path.symlink_metadata() {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(path, "write")(e)),
        Ok(link) if link.is_symlink() => match path.metadata() {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let problem = "expected a file to write, got a link that leads nowhere";
                Err(Error::file(path, problem))
            }
            result => result.map(Some).map_err(Error::io(path, "write")),
        },
        Ok(metadata) => Ok(Some(metadata)),
    }
}

/// Whether the text after the last separator, which [`Path`] passes over, is empty or dots.
fn ends_as_a_folder(path: &Path) -> bool {
    let text = path.as_os_str().to_string_lossy();
    let last = text.rsplit(std::path::is_separator).next();
    matches!(last, Some("" | "." | ".."))
}

#[cfg(unix)]
fn is_socket(metadata: &fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_socket(&metadata.file_type())
}

#[cfg(not(unix))]
fn is_socket(_: &fs::Metadata) -> bool {
    false
}

/// Whether the path names a file descriptor, as `/dev/stdout` and `/dev/fd/3` do. What it is
/// open on may be a regular file, but the process that opened it goes on with that one.
fn is_inherited(path: &Path) -> bool {
    /// Links that systems follow before they call it a circle.
    const MOST_LINKS: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(folder) = folder(&path).canonicalize() else {
            return false;
        };
        if has_descriptors(&folder) {
            return true;
        }
        match path.read_link() {
            Ok(next) => path = folder.join(next),
            Err(_) => return false,
        }
    }
    false
}

/// Whether a folder has a process's file descriptors: `/proc/PID/fd`, `/proc/PID/task/TID/fd`, and
/// where there is no `/proc`, `/dev/fd`.
fn has_descriptors(folder: &Path) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts = folder.to_str().unwrap_or("").split('/');
    match parts.collect::<Vec<_>>()[..] {
        ["", "dev", "fd"] => true,
        ["", "proc", process, "fd"] => number(process),
        ["", "proc", process, "task", thread, "fd"] => number(process) && number(thread),
        _ => false,
    }
}

/// The folder that a path is in.
pub(crate) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}
