//! safetensors files with PyTorch's names.

use super::names;
use super::numbers::{Conversions, Float};
use super::state::{Entry, StateDict, Tensor, finite};
use crate::Error;
use crate::header::{Header, METADATA, read_header};
use crate::import::Source;
use safetensors::Dtype;

/// Whether it is such a file, and none of this project's own.
pub(super) fn is(source: &Source) -> bool {
    let Ok(header) = read_header(source.bytes()) else {
        return false;
    };
    let tensors = &header.tensors;
    let metadata = tensors.metadata().as_ref();
    let own = metadata.is_some_and(|map| map.contains_key(METADATA)) || header.has("lstm.0.kernel");
    !own && tensors.offset_keys().iter().any(|key| names::is(key))
}

/// Its tensors.
pub(super) fn read(source: &Source) -> Result<StateDict, Error> {
    let Header { len, tensors } = read_header(source.bytes())
        .map_err(|e| source.problem(format!("expected a safetensors file, got: {e}")))?;
    let data = source.bytes().get(len..).unwrap_or(&[]);
    if data.len() != tensors.data_len() {
        let (expected, got) = (tensors.data_len(), data.len());
        return Err(source.problem(format!("expected {expected} bytes of tensors, got {got}")));
    }
    let mut conversions = Conversions::default();
    let mut dict = StateDict::default();
    // The format's own library writes wider types first, and names of one type by the alphabet.
    let mut before: Option<(Dtype, String)> = None;
    for key in tensors.offset_keys() {
        let Some(info) = tensors.info(&key) else {
            continue;
        };
        let (start, end) = info.data_offsets;
        let bytes = data.get(start..end).ok_or_else(|| {
            source.problem(format!(
                "key {key}: expected its bytes in the file, got none"
            ))
        })?;
        let float = match info.dtype {
            Dtype::F64 => Some(Float::F64),
            Dtype::F32 => Some(Float::F32),
            Dtype::F16 => Some(Float::F16),
            Dtype::BF16 => Some(Float::Bf16),
            _ => None,
        };
        let entry = match float {
            Some(float) => {
                conversions.count(float);
                let values = float.read_all(bytes)?;
                finite(source, &key, &values)?;
                Entry::Tensor(Tensor {
                    shape: info.shape.clone(),
                    values,
                })
            }
            None => Entry::Other(format!("{:?} {:?}", info.dtype, info.shape)),
        };
        if let Some((dtype, name)) = &before {
            dict.ordered |= *dtype < info.dtype || (*dtype == info.dtype && *name > key);
        }
        before = Some((info.dtype, key.clone()));
        dict.entries.push((key, entry));
    }
    dict.notes.extend(conversions.notes());
    Ok(dict)
}
