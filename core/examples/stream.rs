//! A stream in real time: one sample in, one sample out, as in an audio effect or a control loop.
//!
//! `cargo run --release --example stream`
//!
//! `Effect` owns everything that a call needs, weights and state, as plain arrays. A call does not
//! allocate and takes no lock.

use fused_lstm::{Dense, Flat, Lstm, LstmState, Network, Packed, Stream};
use std::hint::black_box;
use std::time::Instant;

/// Hidden units.
const H: usize = 64;
type Layer = Lstm<1, H>;

/// One LSTM layer and a dense output, added to the sample that came in.
///
/// The weights are `Packed`: rearranged once into the order in which a step reads them. That pays off
/// for more than 40 units; for fewer, keep the `Lstm` and call its `step`. Both give the same bits.
struct Effect {
    layer: Packed<Layer>,
    head: Dense<H, 1>,
    stream: Stream<Layer, 1>,
}

impl Effect {
    /// Packs the weights, which are not needed any more afterwards.
    fn new(layer: &Layer, head: Dense<H, 1>) -> Self {
        Self {
            layer: Packed::new(layer),
            head,
            stream: Stream::ZERO,
        }
    }

    /// One sample of the stream.
    fn process(&mut self, sample: f32) -> f32 {
        let x = [[[sample]]]; // [T, B, I]: one step, one row, one input
        let mut y = Flat::zero();
        self.layer.step(&x, &mut self.stream, &mut y);
        sample + self.head.forward(&y)[0][0][0]
    }

    /// Starts a new stream.
    fn reset(&mut self) {
        self.stream = Stream::ZERO;
    }
}

/// Repeatable numbers from 0 up to, not including, 1.
fn random(seed: &mut u32) -> f32 {
    *seed = seed.wrapping_mul(1664525).wrapping_add(1013904223);
    (*seed >> 8) as f32 / (1 << 24) as f32
}

/// The time of a call of `step` in nanoseconds: the best mean of ten runs.
fn time(mut step: impl FnMut(f32)) -> f64 {
    const CALLS: usize = 5_000;
    let run = |_| {
        let start = Instant::now();
        (0..CALLS).for_each(|n| step((n as f32 * 0.05).sin()));
        start.elapsed().as_nanos() as f64 / CALLS as f64
    };
    (0..10).map(run).fold(f64::INFINITY, f64::min)
}

fn main() {
    // Random weights here; an application reads trained ones, or has them built in as a `static`.
    let mut seed = 1;
    let layer = Layer::glorot_uniform(|| random(&mut seed));
    let head = Dense::glorot_uniform(|| random(&mut seed));
    let mut effect = Effect::new(&layer, head);
    println!("an effect is {} bytes", size_of::<Effect>());

    // The first 480 samples one by one,
    let input: [[[f32; 1]; 1]; 480] = std::array::from_fn(|n| [[(n as f32 * 0.05).sin()]]);
    let output = input.map(|[[sample]]| effect.process(sample));
    // and in one call, as in training: the results are equal to the last bit.
    let (mut state, mut y) = (LstmState::<1, H>::ZERO, [[[0.0; H]; 1]; 480]);
    layer.infer(&input, &mut state, &mut y, &mut []);
    let whole = head.forward(&y);
    for n in 0..480 {
        assert_eq!(output[n], input[n][0][0] + whole[n][0][0], "sample {n}");
    }
    assert_eq!(effect.stream.state, state);
    println!("480 samples one by one give the same bits as in one call");

    effect.reset();
    let packed = time(|sample| {
        black_box(effect.process(sample));
    });
    let (mut state, mut y) = (LstmState::<1, H>::ZERO, Flat::zero());
    let plain = time(|sample| {
        layer.step(&[[[sample]]], &mut state, &mut y);
        black_box(sample + head.forward(&y)[0][0][0]);
    });
    println!("a sample takes {packed:.0} ns, not packed {plain:.0} ns");
    let share = 100.0 * packed * 48_000.0 / 1e9;
    println!("at 48,000 samples a second that is {share:.1} % of one core");
}
