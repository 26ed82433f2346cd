//! Layers with int8 weights as plainly as can be: their words read number by number, sums in 64 bits, and
//! the equations of a cell with one rounding after the other.

use fused_lstm::{LayerShape, Level, SMALLEST_STATE, activation};

/// A gate and unit.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Its bias.
    pub bias: f32,
    /// What a sum over the inputs is multiplied with.
    pub scale_x: f32,
    /// The same over the hidden states.
    pub scale_h: f32,
    /// The weights of the inputs,
    pub of_x: Vec<i64>,
    /// and of the hidden states.
    pub of_h: Vec<i64>,
}

/// What the words of a layer say.
#[derive(Clone, Debug)]
pub struct Int8 {
    /// The sizes.
    pub shape: LayerShape,
    /// What inputs are multiplied with,
    pub factor_x: f32,
    /// and hidden states.
    pub factor_h: f32,
    /// The largest magnitude of an input's integer.
    pub most_x: f32,
    /// `[4, H]`
    pub units: Vec<Unit>,
}

impl Int8 {
    /// As the core's documentation has their places.
    pub fn read(shape: LayerShape, words: &[u32]) -> Self {
        let LayerShape { inputs, hidden, .. } = shape;
        let (body, factors) = words.split_at(words.len() - 4);
        let rows = 3 + inputs.div_ceil(2) + hidden.div_ceil(2);
        let of_bias = f32::from_bits(factors[0]);
        let mut units = Vec::new();
        for gate in 0..4 {
            for unit in 0..hidden {
                let panel = unit / 16;
                let width = (hidden - panel * 16).min(16).div_ceil(2);
                let (w, high) = ((unit % 16) % width, (unit % 16) / width);
                // Every panel before it is full.
                let word = |row: usize| body[panel * rows * 32 + (row * 4 + gate) * width + w];
                let half = |row: usize| word(row) >> (16 * high) & 0xffff;
                let weights = |first: usize, count: usize| -> Vec<i64> {
                    (0..count)
                        .map(|k| {
                            let byte = word(first + k / 2) >> (16 * (k % 2) + 8 * high) & 0xff;
                            if high == 0 {
                                i64::from(byte) - 128
                            } else {
                                i64::from(byte as u8 as i8)
                            }
                        })
                        .collect()
                };
                units.push(Unit {
                    bias: f32::from(half(0) as i16) * of_bias,
                    scale_x: f32::from_bits(half(1) << 16),
                    scale_h: f32::from_bits(half(2) << 16),
                    of_x: weights(3, inputs),
                    of_h: weights(3 + inputs.div_ceil(2), hidden),
                });
            }
        }
        Self {
            shape,
            factor_x: f32::from_bits(factors[1]),
            factor_h: f32::from_bits(factors[2]),
            most_x: f32::from_bits(factors[3]),
            units,
        }
    }

    /// The largest magnitude that any sum can have.
    pub fn largest_sum(&self) -> i64 {
        let (limit_x, limit_h) = (self.most_x as i64, self.factor_h as i64);
        let sum = |weights: &[i64], limit: i64| weights.iter().map(|w| w.abs() * limit).sum();
        self.units
            .iter()
            .flat_map(|unit| [sum(&unit.of_x, limit_x), sum(&unit.of_h, limit_h)])
            .max()
            .unwrap_or(0)
    }

    /// One step of one row, at the portable level.
    pub fn step(&self, x: &[f32], c: &mut [f32], h: &mut [f32]) {
        assert_eq!(Level::current(), Level::Portable);
        let integer = |v: f32, factor: f32, limit: f32| {
            let v = (v * factor).clamp(-limit, limit);
            v.round_ties_even() as i64
        };
        let x: Vec<i64> = x
            .iter()
            .map(|&v| integer(v, self.factor_x, self.most_x))
            .collect();
        let h_before: Vec<i64> = h
            .iter()
            .map(|&v| integer(v, self.factor_h, self.factor_h))
            .collect();
        let dot = |w: &[i64], v: &[i64]| -> f32 {
            let sum: i64 = w.iter().zip(v).map(|(w, v)| w * v).sum();
            i32::try_from(sum).expect("no sum overflows") as f32
        };
        let z: Vec<f32> = self
            .units
            .iter()
            .map(|unit| {
                let z = unit.bias + unit.scale_x * dot(&unit.of_x, &x);
                z + unit.scale_h * dot(&unit.of_h, &h_before)
            })
            .collect();
        let of = |function: fn(&mut [f32]), v: f32| {
            let mut v = [v];
            function(&mut v);
            v[0]
        };
        let kept = |v: f32| if v.abs() < SMALLEST_STATE { 0.0 } else { v };
        let hidden = self.shape.hidden;
        for unit in 0..hidden {
            let gate = |g: usize| z[g * hidden + unit];
            let i = of(activation::sigmoid_in_place, gate(0));
            let j = of(activation::tanh_in_place, gate(1));
            let f = of(activation::sigmoid_in_place, gate(2));
            let o = of(activation::sigmoid_in_place, gate(3));
            let new = f * c[unit] + i * j;
            h[unit] = kept(o * of(activation::tanh_in_place, new));
            c[unit] = kept(new);
        }
    }
}
