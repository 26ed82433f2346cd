//! The reference data under `data/`.

pub use crate::close::assert_close;
use safetensors::{Dtype, SafeTensors};
use std::path::Path;

/// One file of named tensors.
pub struct Golden {
    name: String,
    bytes: Vec<u8>,
}

impl Golden {
    /// Reads `data/{name}.safetensors`.
    pub fn open(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("data/{name}.safetensors"));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self {
            name: name.to_owned(),
            bytes,
        }
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }

    /// The shape of a tensor.
    pub fn shape(&self, key: &str) -> Vec<usize> {
        let tensors = self.tensors();
        let tensor = tensors
            .tensor(key)
            .unwrap_or_else(|e| panic!("{}, {key}: {e}", self.name));
        tensor.shape().to_vec()
    }

    fn data(&self, key: &str, dtype: Dtype) -> Vec<u8> {
        let tensors = self.tensors();
        let tensor = tensors
            .tensor(key)
            .unwrap_or_else(|e| panic!("{}, {key}: {e}", self.name));
        assert_eq!(tensor.dtype(), dtype, "{}, {key}", self.name);
        tensor.data().to_vec()
    }

    /// A tensor of `f32`, flat.
    pub fn f32(&self, key: &str) -> Vec<f32> {
        let data = self.data(key, Dtype::F32);
        data.chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect()
    }

    /// A tensor of `i32`, flat.
    pub fn i32(&self, key: &str) -> Vec<i32> {
        let data = self.data(key, Dtype::I32);
        data.chunks_exact(4)
            .map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect()
    }

    /// A tensor of bytes, flat.
    pub fn u8(&self, key: &str) -> Vec<u8> {
        self.data(key, Dtype::U8)
    }
}

/// A TensorFlow 1 kernel and bias as this crate's parameters: the forget bias
/// that its cell adds goes into the bias.
pub fn from_tensorflow(mut kernel: Vec<f32>, mut bias: Vec<f32>, forget_bias: f32) -> Vec<f32> {
    let hidden = bias.len() / 4;
    for b in &mut bias[2 * hidden..3 * hidden] {
        *b += forget_bias;
    }
    kernel.append(&mut bias);
    kernel
}

/// PyTorch's gates in this crate's order: i, f, g, o become i, g, f, o.
fn reorder(torch: &[f32], columns: usize) -> Vec<&[f32]> {
    let hidden = torch.len() / columns / 4;
    let gate = |g: usize| torch[g * hidden * columns..(g + 1) * hidden * columns].chunks(columns);
    [0, 2, 1, 3].into_iter().flat_map(gate).collect()
}

/// PyTorch's weights `[4H, I]`, `[4H, H]` and two biases as this crate's parameters.
pub fn from_torch(ih: &[f32], hh: &[f32], b_ih: &[f32], b_hh: &[f32]) -> Vec<f32> {
    let hidden = b_ih.len() / 4;
    let mut params = Vec::new();
    for weights in [ih, hh] {
        let columns = weights.len() / (4 * hidden);
        let rows = reorder(weights, columns);
        for column in 0..columns {
            params.extend(rows.iter().map(|row| row[column]));
        }
    }
    let sum: Vec<f32> = b_ih.iter().zip(b_hh).map(|(a, b)| a + b).collect();
    params.extend(reorder(&sum, 1).into_iter().flatten());
    params
}
