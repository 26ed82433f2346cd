//! The numbers that every workload starts from, the same for us and for the peers.

use crate::workload::{CLASSES, Head, Workload};
use fused_lstm::{Extent, NetworkShape};

/// Parameters in our layout, inputs, gradients of the output, labels.
pub struct Numbers {
    /// All parameters, layer by layer: kernel `[I+H, 4, H]` (gates i, j, f, o), bias
    /// `[4, H]`; the head's kernel `[H, C]` and bias `[C]`.
    pub params: Vec<f32>,
    /// `[T, B, I]`.
    pub x: Vec<f32>,
    /// `[T, B, H]`, used in training without a head.
    pub dy: Vec<f32>,
    /// `[T, B]`, used in training with a head.
    pub labels: Vec<u32>,
}

impl Workload {
    /// The shape that `hidden`, of [`Workload::hidden`], makes.
    pub fn shape<'a>(&self, hidden: &'a [usize]) -> NetworkShape<'a> {
        let classes = (self.head != Head::None).then_some(CLASSES);
        NetworkShape::new(self.inputs, hidden).with_classes(classes)
    }

    /// How much is done in a call.
    pub fn extent(&self) -> Extent {
        Extent {
            steps: self.steps,
            batch: self.batch,
        }
    }

    /// Made anew, always the same.
    pub fn numbers(&self) -> Numbers {
        let mut seed = 1u64;
        let mut random = |scale: f32| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let unit = (seed >> 40) as f32 / (1 << 24) as f32;
            (2.0 * unit - 1.0) * scale
        };
        let mut many =
            |len: usize, scale: f32| -> Vec<f32> { (0..len).map(|_| random(scale)).collect() };
        let hidden = self.hidden();
        let shape = self.shape(&hidden);
        let scale = 1.0 / (self.hidden as f32).sqrt();
        let params = many(shape.params_len(), scale);
        let mut x = many(self.rows() * self.inputs, 1.0);
        if self.head != Head::None {
            for v in &mut x {
                *v = f32::from(*v > 0.0);
            }
        }
        let dy = many(self.rows() * self.hidden, 1.0 / self.rows() as f32);
        let labels = many(self.rows(), 1.0)
            .into_iter()
            .map(|v| u32::from(v > 0.0))
            .collect();
        Numbers {
            params,
            x,
            dy,
            labels,
        }
    }
}
