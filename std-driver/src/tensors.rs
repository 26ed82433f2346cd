//! safetensors files: reading with errors that name the key, and writing so that a
//! reader, or a kill at any moment, sees the old file or the new one, whole.

use crate::Error;
use safetensors::tensor::TensorView;
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
}

impl TensorFile {
    /// Reads the whole file and refuses one that is not safetensors.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let bytes = fs::read(path).map_err(Error::io(path, "read"))?;
        Self::from_bytes(path, bytes)
    }

    /// The same of bytes; `path` is what errors name.
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, Error> {
        let file = Self {
            path: path.to_owned(),
            bytes,
        };
        file.tensors()?;
        Ok(file)
    }

    /// The file's name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn tensors(&self) -> Result<SafeTensors<'_>, Error> {
        SafeTensors::deserialize(&self.bytes)
            .map_err(|e| self.problem(format!("expected a safetensors file, got: {e}")))
    }

    pub(crate) fn problem(&self, problem: String) -> Error {
        // One line, whatever a library's message has in it.
        Error::file(&self.path, problem.replace(['\n', '\r'], " "))
    }

    /// The text that [`write()`] was given.
    pub fn metadata(&self) -> Result<Option<String>, Error> {
        let (_, metadata) = SafeTensors::read_metadata(&self.bytes)
            .map_err(|e| self.problem(format!("expected a safetensors file, got: {e}")))?;
        Ok(metadata
            .metadata()
            .as_ref()
            .and_then(|map| map.get(METADATA).cloned()))
    }

    /// Whether there is such a key.
    pub fn has(&self, key: &str) -> Result<bool, Error> {
        Ok(self.tensors()?.tensor(key).is_ok())
    }

    /// Refuses keys that `known` does not know; `expected` says which there are.
    pub fn only_keys(&self, known: impl Fn(&str) -> bool, expected: &str) -> Result<(), Error> {
        let tensors = self.tensors()?;
        let mut unknown: Vec<_> = tensors
            .names()
            .into_iter()
            .filter(|key| !known(key))
            .collect();
        unknown.sort_unstable();
        match unknown.first() {
            Some(key) => Err(self.problem(format!("key {key}: expected {expected}"))),
            None => Ok(()),
        }
    }

    fn typed(&self, key: &str, dtype: Dtype) -> Result<(Vec<usize>, Vec<u8>), Error> {
        let tensors = self.tensors()?;
        let tensor = tensors
            .tensor(key)
            .map_err(|_| self.problem(format!("key {key}: expected a tensor, got none")))?;
        if tensor.dtype() != dtype {
            let got = tensor.dtype();
            return Err(self.problem(format!("key {key}: expected {dtype:?}, got {got:?}")));
        }
        Ok((tensor.shape().to_vec(), tensor.data().to_vec()))
    }

    /// Shape and numbers of an f32 tensor. NaN and infinities are refused.
    pub fn f32(&self, key: &str) -> Result<(Vec<usize>, Vec<f32>), Error> {
        let (shape, data) = self.typed(key, Dtype::F32)?;
        let values: Vec<f32> = numbers(&data, f32::from_le_bytes);
        if let Some(k) = values.iter().position(|v| !v.is_finite()) {
            let got = values[k];
            return Err(self.problem(format!(
                "key {key}: expected finite numbers, got {got} at {k}"
            )));
        }
        Ok((shape, values))
    }

    /// The numbers of an f32 tensor that must have a shape.
    pub fn f32_of_shape(&self, key: &str, expected: &[usize]) -> Result<Vec<f32>, Error> {
        let (shape, values) = self.f32(key)?;
        self.expect_shape(key, expected, &shape)?;
        Ok(values)
    }

    fn expect_shape(&self, key: &str, expected: &[usize], got: &[usize]) -> Result<(), Error> {
        if expected == got {
            return Ok(());
        }
        Err(self.problem(format!(
            "key {key}: expected shape {expected:?}, got {got:?}"
        )))
    }

    /// Shape and numbers of an int32 tensor.
    pub fn i32(&self, key: &str) -> Result<(Vec<usize>, Vec<i32>), Error> {
        let (shape, data) = self.typed(key, Dtype::I32)?;
        Ok((shape, numbers(&data, i32::from_le_bytes)))
    }

    /// The numbers of an unsigned 64-bit tensor of one dimension.
    pub fn u64(&self, key: &str, expected: usize) -> Result<Vec<u64>, Error> {
        let (shape, data) = self.typed(key, Dtype::U64)?;
        self.expect_shape(key, &[expected], &shape)?;
        Ok(numbers(&data, u64::from_le_bytes))
    }
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
/// it, synced, renamed.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut file = temporary(path)?;
    file.write_all(bytes).map_err(Error::io(path, "write"))?;
    file.as_file()
        .sync_all()
        .map_err(Error::io(path, "write"))?;
    file.persist(path)
        .map_err(|e| Error::io(path, "write")(e.error))?;
    // The rename itself lasts once the folder is on the disk.
    #[cfg(unix)]
    fs::File::open(folder(path))
        .and_then(|folder| folder.sync_all())
        .map_err(Error::io(path, "sync"))?;
    Ok(())
}

/// Refuses a path that could not be written later.
pub fn check_writable(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Err(Error::file(path, "expected a file to write, got a folder"));
    }
    temporary(path).map(drop)
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn temporary(path: &Path) -> Result<tempfile::NamedTempFile, Error> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".fused-lstm-").suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As any new file, and not for the owner alone.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder
        .tempfile_in(folder(path))
        .map_err(Error::io(path, "write"))
}
