//! safetensors files: reading with errors that name the key, and writing so that a
//! reader, or a kill at any moment, sees the old file or the new one, whole.

use crate::Error;
use safetensors::tensor::{Metadata, TensorInfo, TensorView};
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The one entry of the metadata that this project's files have.
const METADATA: &str = "fused-lstm";

/// A file that was read.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    bytes: Vec<u8>,
    /// Where the tensors' bytes start, and what the header says of them.
    data: usize,
    header: Metadata,
}

impl TensorFile {
    /// Reads the whole file and refuses one that is not safetensors.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let bytes = fs::read(path).map_err(Error::io(path, "read"))?;
        Self::from_bytes(path, bytes)
    }

    /// The same of bytes; `path` is what errors name.
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, Error> {
        let refuse = |e: &dyn std::fmt::Display| {
            problem(path, &format!("expected a safetensors file, got: {e}"))
        };
        // The header's lengths are checked against the file's here, once.
        SafeTensors::deserialize(&bytes).map_err(|e| refuse(&e))?;
        let (length, header) = SafeTensors::read_metadata(&bytes).map_err(|e| refuse(&e))?;
        // Eight bytes of the header's length stand before it.
        Ok(Self {
            path: path.to_owned(),
            data: length + 8,
            bytes,
            header,
        })
    }

    /// The file's name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn problem(&self, text: String) -> Error {
        problem(&self.path, &text)
    }

    /// The text that [`write()`] was given.
    pub fn metadata(&self) -> Option<&str> {
        self.header
            .metadata()
            .as_ref()
            .and_then(|map| map.get(METADATA))
            .map(String::as_str)
    }

    /// Whether there is such a key.
    pub fn has(&self, key: &str) -> bool {
        self.header.info(key).is_some()
    }

    /// Refuses keys that `known` does not know; `expected` says which there are.
    pub fn only_keys(&self, known: impl Fn(&str) -> bool, expected: &str) -> Result<(), Error> {
        let mut keys = self.header.offset_keys();
        keys.sort_unstable();
        match keys.iter().find(|key| !known(key)) {
            Some(key) => Err(self.problem(format!("key {key}: expected {expected}"))),
            None => Ok(()),
        }
    }

    fn info(&self, key: &str, dtype: Dtype) -> Result<&TensorInfo, Error> {
        let info = self.header.info(key);
        let info =
            info.ok_or_else(|| self.problem(format!("key {key}: expected a tensor, got none")))?;
        if info.dtype != dtype {
            let got = info.dtype;
            return Err(self.problem(format!("key {key}: expected {dtype:?}, got {got:?}")));
        }
        Ok(info)
    }

    fn data(&self, info: &TensorInfo) -> &[u8] {
        let (start, end) = info.data_offsets;
        self.bytes
            .get(self.data + start..self.data + end)
            .unwrap_or(&[])
    }

    /// The shape of an f32 tensor.
    pub fn f32_shape(&self, key: &str) -> Result<&[usize], Error> {
        Ok(&self.info(key, Dtype::F32)?.shape)
    }

    /// Shape and numbers of an f32 tensor. NaN and infinities are refused.
    pub fn f32(&self, key: &str) -> Result<(Vec<usize>, Vec<f32>), Error> {
        let info = self.info(key, Dtype::F32)?;
        let values: Vec<f32> = numbers(self.data(info), f32::from_le_bytes);
        if let Some(k) = values.iter().position(|v| !v.is_finite()) {
            let got = values[k];
            return Err(self.problem(format!(
                "key {key}: expected finite numbers, got {got} at {k}"
            )));
        }
        Ok((info.shape.clone(), values))
    }

    /// The numbers of an f32 tensor that must have a shape.
    pub fn f32_of_shape(&self, key: &str, expected: &[usize]) -> Result<Vec<f32>, Error> {
        self.expect_shape(key, Dtype::F32, expected)?;
        Ok(self.f32(key)?.1)
    }

    /// Refuses a tensor of another type or shape, without looking at its numbers.
    pub(crate) fn expect_f32_shape(&self, key: &str, expected: &[usize]) -> Result<(), Error> {
        self.expect_shape(key, Dtype::F32, expected)
    }

    fn expect_shape(&self, key: &str, dtype: Dtype, expected: &[usize]) -> Result<(), Error> {
        let got = &self.info(key, dtype)?.shape;
        if expected == got {
            return Ok(());
        }
        Err(self.problem(format!(
            "key {key}: expected shape {expected:?}, got {got:?}"
        )))
    }

    /// Shape and numbers of an int32 tensor.
    pub fn i32(&self, key: &str) -> Result<(Vec<usize>, Vec<i32>), Error> {
        let info = self.info(key, Dtype::I32)?;
        Ok((
            info.shape.clone(),
            numbers(self.data(info), i32::from_le_bytes),
        ))
    }

    /// The numbers of an unsigned 64-bit tensor of one dimension.
    pub fn u64<const N: usize>(&self, key: &str) -> Result<[u64; N], Error> {
        self.expect_shape(key, Dtype::U64, &[N])?;
        let values: Vec<u64> = numbers(self.data(self.info(key, Dtype::U64)?), u64::from_le_bytes);
        // The header's lengths fit the shapes, or the file would have been refused.
        Ok(values.try_into().unwrap_or([0; N]))
    }
}

fn problem(path: &Path, text: &str) -> Error {
    // One line, whatever a library's message or a key has in it.
    Error::file(path, text.replace(char::is_control, " "))
}

/// The index in a key, if it is written as this project writes it.
pub(crate) fn index_of(text: &str) -> Option<usize> {
    text.parse::<usize>()
        .ok()
        .filter(|index| index.to_string() == text)
}

fn numbers<T, const N: usize>(data: &[u8], of: impl Fn([u8; N]) -> T) -> Vec<T> {
    data.as_chunks::<N>()
        .0
        .iter()
        .map(|&bytes| of(bytes))
        .collect()
}

/// A tensor to write.
#[derive(Clone, Debug)]
pub struct NamedTensor {
    /// The key.
    pub name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl NamedTensor {
    /// Of f32.
    pub fn f32(name: impl Into<String>, shape: &[usize], values: &[f32]) -> Self {
        let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self {
            name: name.into(),
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            data,
        }
    }

    /// Of unsigned 64-bit numbers, in one dimension.
    pub fn u64(name: impl Into<String>, values: &[u64]) -> Self {
        let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self {
            name: name.into(),
            dtype: Dtype::U64,
            shape: vec![values.len()],
            data,
        }
    }
}

/// Writes a safetensors file by [`replace`]. `metadata` is a text of the caller's.
pub fn write(path: &Path, tensors: &[NamedTensor], metadata: Option<String>) -> Result<(), Error> {
    let views = tensors.iter().map(|tensor| {
        let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.data);
        Ok((
            tensor.name.as_str(),
            view.map_err(|e| Error::file(path, e.to_string()))?,
        ))
    });
    let views = views.collect::<Result<Vec<_>, Error>>()?;
    let metadata = metadata.map(|text| HashMap::from([(METADATA.to_owned(), text)]));
    let bytes = safetensors::serialize(views, metadata)
        .map_err(|e| Error::file(path, format!("cannot be written: {e}")))?;
    replace(path, &bytes)
}

/// Puts `bytes` in the place of a file at once: written to a temporary file beside
/// it, synced, renamed. A symbolic link stays, and what it points to is replaced.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let target = target(path)?;
    let mut file = temporary(path, &target)?;
    file.write_all(bytes).map_err(Error::io(path, "write"))?;
    file.as_file()
        .sync_all()
        .map_err(Error::io(path, "write"))?;
    file.persist(&target)
        .map_err(|e| Error::io(path, "write")(e.error))?;
    // The rename itself lasts once the folder is on the disk. The file is whole either
    // way, and not every folder may be opened.
    #[cfg(unix)]
    if let Ok(folder) = fs::File::open(folder(&target)) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// Refuses a path that could not be written later.
pub fn check_writable(path: &Path) -> Result<(), Error> {
    temporary(path, &target(path)?).map(drop)
}

/// The file that a path means, which must be a regular one if it is there.
fn target(path: &Path) -> Result<PathBuf, Error> {
    match path.canonicalize() {
        Ok(target) if target.is_file() => Ok(target),
        Ok(target) => {
            let got = if target.is_dir() {
                "a folder"
            } else {
                "a device or a pipe"
            };
            Err(Error::file(
                path,
                format!("expected a file to write, got {got}"),
            ))
        }
        Err(_) => Ok(path.to_owned()),
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn temporary(path: &Path, target: &Path) -> Result<tempfile::NamedTempFile, Error> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".fused-lstm-").suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As any new file, and not for the owner alone.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder
        .tempfile_in(folder(target))
        .map_err(Error::io(path, "write"))
}
