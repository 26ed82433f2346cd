//! safetensors files: reading with errors that name the key, and writing without copies.

use crate::header::{Header, METADATA, read_header};
use crate::{Error, files, memory};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// A file that was read.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    header: Header,
    /// The tensors, as long as the header says.
    data: Vec<u8>,
}

impl TensorFile {
    /// Reads the whole file and refuses one that is not safetensors.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let mut file = fs::File::open(path).map_err(Error::io(path, "read"))?;
        let length = file.metadata().map_err(Error::io(path, "read"))?;
        let length = length.is_file().then_some(length.len());
        Self::from_reader(path, &mut file, length)
    }

    /// The same of bytes; `path` is what errors name.
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, Error> {
        Self::from_reader(path, &mut &bytes[..], Some(bytes.len() as u64))
    }

    /// One tensor as if it had been read; `path` is what errors name.
    pub(crate) fn of_f32(
        path: &Path,
        key: &str,
        shape: &[usize],
        values: &[f32],
    ) -> Result<Self, Error> {
        let refuse = |e: &dyn Display| Error::file(path, format!("cannot be taken: {e}"));
        let info = TensorInfo {
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            data_offsets: (0, size_of_val(values)),
        };
        let tensors = Metadata::new(None, vec![(key.to_owned(), info)]);
        let mut data = memory::reserve(size_of_val(values))?;
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        Ok(Self {
            path: path.to_owned(),
            header: Header {
                len: 0,
                tensors: tensors.map_err(|e| refuse(&e))?,
            },
            data,
        })
    }

    fn from_reader(path: &Path, from: &mut impl Read, length: Option<u64>) -> Result<Self, Error> {
        let refuse = |got: &dyn Display| {
            Error::file(path, format!("expected a safetensors file, got: {got}"))
        };
        let read = |e: io::Error| match e.kind() {
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof => refuse(&e),
            _ => Error::io(path, "read")(e),
        };
        let header = read_header(&mut *from).map_err(read)?;
        let expected = header.tensors.data_len();
        let wrong = |got: u64| refuse(&format!("{got} bytes of tensors instead of {expected}"));
        if let Some(got) = length.map(|length| length.saturating_sub(header.len as u64))
            && got != expected as u64
        {
            return Err(wrong(got));
        }
        let full = |_| Error::io(path, "read")(ErrorKind::OutOfMemory.into());
        let mut data = memory::reserve(expected).map_err(full)?;
        // One more than there should be, to see whether that was all.
        from.take(expected as u64 + 1)
            .read_to_end(&mut data)
            .map_err(read)?;
        if data.len() != expected {
            return Err(wrong(data.len() as u64));
        }
        Ok(Self {
            path: path.to_owned(),
            header,
            data,
        })
    }

    /// The file's name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn problem(&self, text: String) -> Error {
        Error::file(&self.path, text)
    }

    /// The text that [`write()`] was given.
    pub fn metadata(&self) -> Option<&str> {
        self.header.text()
    }

    /// Whether there is such a key.
    pub fn has(&self, key: &str) -> bool {
        self.header.has(key)
    }

    /// Refuses keys that `known` does not know; `expected` says which there are.
    pub fn only_keys(&self, known: impl Fn(&str) -> bool, expected: &str) -> Result<(), Error> {
        let mut keys = self.header.tensors.offset_keys();
        keys.sort_unstable();
        match keys.iter().find(|key| !known(key)) {
            Some(key) => Err(self.problem(format!("key {key}: expected {expected}"))),
            None => Ok(()),
        }
    }

    fn info(&self, key: &str, dtype: Dtype) -> Result<&TensorInfo, Error> {
        let info = self.header.tensors.info(key);
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
        self.data.get(start..end).unwrap_or(&[])
    }

    /// The shape of an f32 tensor.
    pub fn f32_shape(&self, key: &str) -> Result<&[usize], Error> {
        Ok(&self.info(key, Dtype::F32)?.shape)
    }

    /// Shape and numbers of an f32 tensor. NaN and infinities are refused.
    pub fn f32(&self, key: &str) -> Result<(Vec<usize>, Vec<f32>), Error> {
        let values = self.f32_values(key)?;
        let mut all = memory::reserve(values.len())?;
        all.extend(values.iter());
        Ok((self.f32_shape(key)?.to_vec(), all))
    }

    /// The numbers of an f32 tensor where they lie. NaN and infinities are refused.
    pub(crate) fn f32_values(&self, key: &str) -> Result<Numbers<'_, f32>, Error> {
        let (values, _) = self.data(self.info(key, Dtype::F32)?).as_chunks();
        let values = Numbers(values, f32::from_le_bytes);
        match values.iter().enumerate().find(|(_, v)| !v.is_finite()) {
            Some((k, got)) => Err(self.problem(format!(
                "key {key}: expected finite numbers, got {got} at {k}"
            ))),
            None => Ok(values),
        }
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

    /// Shape and numbers of an int32 tensor, where they lie.
    pub(crate) fn i32_values(&self, key: &str) -> Result<(&[usize], Numbers<'_, i32>), Error> {
        let info = self.info(key, Dtype::I32)?;
        let (bytes, _) = self.data(info).as_chunks();
        Ok((&info.shape, Numbers(bytes, i32::from_le_bytes)))
    }

    /// The words of an unsigned 32-bit tensor of one dimension.
    pub(crate) fn u32_of_len(&self, key: &str, len: usize) -> Result<Numbers<'_, u32>, Error> {
        self.expect_shape(key, Dtype::U32, &[len])?;
        let (bytes, _) = self.data(self.info(key, Dtype::U32)?).as_chunks();
        Ok(Numbers(bytes, u32::from_le_bytes))
    }

    /// The keys, in alphabetical order.
    pub fn keys(&self) -> Vec<String> {
        let mut keys = self.header.tensors.offset_keys();
        keys.sort_unstable();
        keys
    }

    /// Another text of the metadata.
    pub(crate) fn metadata_of(&self, key: &str) -> Option<&str> {
        let map = self.header.tensors.metadata().as_ref()?;
        map.get(key).map(String::as_str)
    }

    /// Shape and numbers of a tensor of floating-point or whole numbers, as f32.
    pub fn numbers(&self, key: &str) -> Result<(Vec<usize>, Vec<f32>), Error> {
        let info = self.header.tensors.info(key);
        let info =
            info.ok_or_else(|| self.problem(format!("key {key}: expected a tensor, got none")))?;
        let data = self.data(info);
        let values: Vec<f32> = match info.dtype {
            Dtype::F32 => return self.f32(key),
            Dtype::F64 => each(data, |b| f64::from_le_bytes(b) as f32)?,
            Dtype::I64 => each(data, |b| i64::from_le_bytes(b) as f32)?,
            Dtype::I32 => each(data, |b| i32::from_le_bytes(b) as f32)?,
            Dtype::I16 => each(data, |b| f32::from(i16::from_le_bytes(b)))?,
            Dtype::I8 => each(data, |b| f32::from(i8::from_le_bytes(b)))?,
            Dtype::U8 => each(data, |[b]| f32::from(b))?,
            got => {
                return Err(self.problem(format!("key {key}: expected numbers, got {got:?}")));
            }
        };
        Ok((info.shape.clone(), values))
    }

    /// The numbers of an unsigned 64-bit tensor of one dimension.
    pub fn u64<const N: usize>(&self, key: &str) -> Result<[u64; N], Error> {
        self.expect_shape(key, Dtype::U64, &[N])?;
        let (bytes, _) = self.data(self.info(key, Dtype::U64)?).as_chunks();
        // The header's lengths fit the shapes, or the file would have been refused.
        Ok(std::array::from_fn(|k| {
            bytes.get(k).map_or(0, |&bytes| u64::from_le_bytes(bytes))
        }))
    }
}

/// A number for every so many bytes.
fn each<const N: usize>(data: &[u8], number: impl Fn([u8; N]) -> f32) -> Result<Vec<f32>, Error> {
    let (numbers, _) = data.as_chunks();
    let mut values = memory::reserve(numbers.len())?;
    values.extend(numbers.iter().map(|&bytes| number(bytes)));
    Ok(values)
}

/// The index in a key, if it is written as this project writes it.
pub(crate) fn index_of(text: &str) -> Option<usize> {
    text.parse::<usize>()
        .ok()
        .filter(|index| index.to_string() == text)
}

/// Numbers in a file's bytes, and what makes them of little-endian ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers<'a, T>(&'a [[u8; 4]], fn([u8; 4]) -> T);

impl<'a, T: Copy> Numbers<'a, T> {
    pub(crate) fn len(self) -> usize {
        self.0.len()
    }

    /// Those from `start` on, as many as `len`.
    pub(crate) fn part(self, start: usize, len: usize) -> Self {
        Self(self.0.get(start..start + len).unwrap_or(&[]), self.1)
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = T> + 'a
    where
        T: 'a,
    {
        self.0.iter().map(move |&bytes| self.1(bytes))
    }
}

/// A tensor to write.
#[derive(Clone, Debug)]
pub struct NamedTensor<'a> {
    /// The key.
    pub name: String,
    shape: Vec<usize>,
    data: Data<'a>,
}

#[derive(Clone, Debug)]
enum Data<'a> {
    F32(Cow<'a, [f32]>),
    /// Their bits.
    U32(Cow<'a, [f32]>),
    U64(Vec<u64>),
}

impl<'a> NamedTensor<'a> {
    /// Of f32, borrowed or owned.
    pub fn f32(
        name: impl Into<String>,
        shape: &[usize],
        values: impl Into<Cow<'a, [f32]>>,
    ) -> Self {
        Self {
            name: name.into(),
            shape: shape.to_vec(),
            data: Data::F32(values.into()),
        }
    }

    /// The bits of f32 as unsigned 32-bit numbers, in one dimension.
    pub(crate) fn words(name: impl Into<String>, values: &'a [f32]) -> Self {
        Self {
            name: name.into(),
            shape: vec![values.len()],
            data: Data::U32(values.into()),
        }
    }

    /// Of unsigned 64-bit numbers, in one dimension.
    pub fn u64(name: impl Into<String>, values: &[u64]) -> Self {
        Self {
            name: name.into(),
            shape: vec![values.len()],
            data: Data::U64(values.to_vec()),
        }
    }

    /// Shape and numbers of a tensor of f32.
    pub(crate) fn numbers(&self) -> Option<(&[usize], &[f32])> {
        match &self.data {
            Data::F32(values) => Some((&self.shape, values)),
            Data::U32(_) | Data::U64(_) => None,
        }
    }

    /// The same with numbers of its own.
    pub(crate) fn into_owned(self) -> Result<NamedTensor<'static>, Error> {
        Ok(NamedTensor {
            name: self.name,
            shape: self.shape,
            data: match self.data {
                Data::F32(values) => Data::F32(owned(values)?),
                Data::U32(values) => Data::U32(owned(values)?),
                Data::U64(values) => Data::U64(values),
            },
        })
    }

    fn dtype(&self) -> Dtype {
        match self.data {
            Data::F32(_) => Dtype::F32,
            Data::U32(_) => Dtype::U32,
            Data::U64(_) => Dtype::U64,
        }
    }

    fn bytes(&self) -> usize {
        match &self.data {
            Data::F32(values) | Data::U32(values) => size_of_val(&values[..]),
            Data::U64(values) => size_of_val(&values[..]),
        }
    }

    fn write(&self, to: &mut impl Write) -> io::Result<()> {
        match &self.data {
            Data::F32(values) | Data::U32(values) => write_numbers(values, f32::to_le_bytes, to),
            Data::U64(values) => write_numbers(values, u64::to_le_bytes, to),
        }
    }
}

fn owned(values: Cow<'_, [f32]>) -> Result<Cow<'static, [f32]>, Error> {
    Ok(match values {
        Cow::Borrowed(values) => {
            let mut own = memory::reserve(values.len())?;
            own.extend_from_slice(values);
            own.into()
        }
        Cow::Owned(values) => values.into(),
    })
}

/// Many numbers at a time: writing one takes longer than to convert it.
fn write_numbers<T: Copy, const N: usize>(
    values: &[T],
    bytes_of: impl Fn(T) -> [u8; N],
    to: &mut impl Write,
) -> io::Result<()> {
    let mut bytes = Vec::new();
    for some in values.chunks(1 << 14) {
        bytes.clear();
        bytes.extend(some.iter().flat_map(|&value| bytes_of(value)));
        to.write_all(&bytes)?;
    }
    Ok(())
}

/// Writes a safetensors file by [`replace`](crate::files::replace), without a copy of the numbers.
/// `text` is the caller's, in the file's metadata.
pub fn write(path: &Path, tensors: &[NamedTensor], text: Option<String>) -> Result<(), Error> {
    write_texts(path, tensors, text.map(|text| (METADATA, text)))
}

/// The same with texts under keys of the metadata.
pub(crate) fn write_texts(
    path: &Path,
    tensors: &[NamedTensor],
    texts: impl IntoIterator<Item = (&'static str, String)>,
) -> Result<(), Error> {
    let texts = texts.into_iter().map(|(key, text)| (key.to_owned(), text));
    // In an order, so that the same file has the same bytes.
    let texts: BTreeMap<String, String> = texts.collect();
    // The order of the format's own library: numbers of more bytes first, then by name.
    let mut tensors: Vec<&NamedTensor> = tensors.iter().collect();
    tensors.sort_by(|a, b| b.dtype().cmp(&a.dtype()).then(a.name.cmp(&b.name)));
    let mut end = 0;
    let infos = tensors.iter().map(|tensor| {
        let start = end;
        end += tensor.bytes();
        let info = TensorInfo {
            dtype: tensor.dtype(),
            shape: tensor.shape.clone(),
            data_offsets: (start, end),
        };
        (tensor.name.clone(), info)
    });
    let infos = infos.collect();
    let refuse = |e: &dyn Display| Error::file(path, format!("cannot be written: {e}"));
    let header = Metadata::new(None, infos).map_err(|e| refuse(&e))?;
    let mut header = serde_json::to_vec(&header).map_err(|e| refuse(&e))?;
    if !texts.is_empty() {
        let texts = serde_json::to_string(&texts).map_err(|e| refuse(&e))?;
        let comma = if tensors.is_empty() { "" } else { "," };
        let texts = format!("\"__metadata__\":{texts}{comma}");
        header.splice(1..1, texts.into_bytes());
    }
    header.resize(header.len().next_multiple_of(8), b' ');
    files::replace_with(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        tensors.iter().try_for_each(|tensor| tensor.write(file))
    })
}
