//! What a command reads and writes: nothing that is read is written, nothing is written twice,
//! and an older file is replaced only if it is of the kind that the command writes.

use super::{Contents, Place, check_writable};
use crate::Error;
use std::path::{Path, PathBuf};

/// A file that a command writes.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    /// The flag that names it, without its dashes.
    pub flag: &'static str,
    /// Where.
    pub path: &'a Path,
    /// What the command writes there, and may replace; `None`, nothing.
    pub contents: Option<Contents>,
}

/// All files of a command. Files that are used for both are [`Written`] alone.
///
/// ```
/// use fused_lstm_driver::files::{Contents, Uses, Written};
///
/// let path = std::env::temp_dir().join(format!("input-{}.safetensors", std::process::id()));
/// std::fs::write(&path, "precious").unwrap();
/// let output = Written { flag: "output", path: &path, contents: Some(Contents::Outputs) };
/// let uses = Uses { read: &[("input", &path)], written: &[output], force: true };
/// assert!(uses.check().unwrap_err().to_string().contains("another file than --input"));
/// # std::fs::remove_file(&path).unwrap();
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Uses<'a> {
    /// Flags and paths of the files that are read.
    pub read: &'a [(&'static str, &'a Path)],
    /// The files that are written.
    pub written: &'a [Written<'a>],
    /// Whether anything may be replaced that is not read.
    pub force: bool,
}

impl Uses<'_> {
    /// Refuses files that one command cannot both read and write, older files that are not what
    /// the command writes, and paths that cannot be written.
    pub fn check(&self) -> Result<(), Error> {
        for (index, written) in self.written.iter().enumerate() {
            let earlier = self.written[..index].iter().map(|w| (w.flag, w.path));
            for (flag, other) in self.read.iter().copied().chain(earlier) {
                if same(written.path, other) {
                    let expected = format!("another file than --{flag}");
                    let got = written.path.display();
                    return Err(Error::setting(written.flag, expected, got));
                }
            }
        }
        for written in self.written {
            if !self.force {
                written.check_contents()?;
            }
            check_writable(written.path)?;
        }
        Ok(())
    }
}

impl Written<'_> {
    fn check_contents(&self) -> Result<(), Error> {
        let Place::File(file) = Place::of(self.path)? else {
            return Ok(());
        };
        let (known, name) = match self.contents {
            Some(contents) => (contents.are_in(&file), contents.name()),
            None => (Ok(false), "a new file"),
        };
        if known.map_err(Error::io(self.path, "read"))? {
            return Ok(());
        }
        let expected = match self.contents {
            Some(_) => format!("a new file, {name} to replace, or --force to overwrite"),
            None => format!("{name}, or --force to overwrite"),
        };
        let got = format!("{}, which exists", self.path.display());
        Err(Error::setting(self.flag, expected, got))
    }
}

/// Whether two paths lead to one regular file, or will. Devices and pipes take what everybody
/// writes.
///
/// ```
/// assert!(fused_lstm_driver::files::same("./a.csv".as_ref(), "a.csv".as_ref()));
/// ```
pub fn same(a: &Path, b: &Path) -> bool {
    match (identity(a), identity(b)) {
        (Some(a), Some(b)) => a == b,
        _ => false,
    }
}

/// Whether what is written to the path goes where this process prints.
pub fn is_standard_output(path: &Path) -> bool {
    let output = key(Path::new("/dev/stdout"));
    let discarded = key(Path::new("/dev/null"));
    match (key(path), output) {
        (Ok((path, _)), Ok((output, _))) => {
            path == output && discarded.is_ok_and(|(discarded, _)| discarded != output)
        }
        _ => false,
    }
}

/// A file by what the system knows it by, or one that is not there yet by its folder and name.
#[derive(PartialEq)]
enum Identity {
    File(Key),
    New(Key, PathBuf),
}

fn identity(path: &Path) -> Option<Identity> {
    match key(path) {
        Ok((key, kind)) => kind.is_file().then_some(Identity::File(key)),
        Err(_) => {
            let (folder, _) = key(super::place::folder(path)).ok()?;
            Some(Identity::New(folder, path.file_name()?.into()))
        }
    }
}

/// Device and inode: links, hard ones too, have those of what they lead to.
#[cfg(unix)]
type Key = (u64, u64);

#[cfg(unix)]
fn key(path: &Path) -> std::io::Result<(Key, std::fs::FileType)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = path.metadata()?;
    Ok(((metadata.dev(), metadata.ino()), metadata.file_type()))
}

#[cfg(not(unix))]
type Key = PathBuf;

#[cfg(not(unix))]
fn key(path: &Path) -> std::io::Result<(Key, std::fs::FileType)> {
    Ok((path.canonicalize()?, path.metadata()?.file_type()))
}
