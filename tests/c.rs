//! The C interface: it gives what the Rust one gives, and refuses every buffer that it cannot use.

use fused_lstm::c::*;
use fused_lstm::loss::IGNORE;
use fused_lstm::optimizer::{Adagrad, Adam, Momentum, RmsProp, Sgd, clip_by_global_norm};
use fused_lstm::{Chain, Extent, LossGradient, Model, NetworkShape, loss};
use fused_lstm::{DenseShape, LayerShape, LstmStage};
use fused_lstm_tests::levels::bits;
use fused_lstm_tests::random::Random;
use proptest::prelude::*;
use std::ffi::c_void;

fn read(v: &[f32]) -> ConstFloats {
    ConstFloats {
        data: v.as_ptr(),
        len: v.len(),
    }
}

fn write(v: &mut [f32]) -> Floats {
    Floats {
        data: v.as_mut_ptr(),
        len: v.len(),
    }
}

fn shape(inputs: usize, hidden: &[usize], classes: usize) -> Shape {
    Shape {
        inputs,
        hidden: hidden.as_ptr(),
        layers: hidden.len(),
        classes,
    }
}

fn lengths(shape: &Shape, steps: usize, batch: usize) -> Lengths {
    let mut lengths = Lengths::default();
    // SAFETY: both are living values.
    let status = unsafe { fused_lstm_lengths(shape, steps, batch, &mut lengths) };
    assert_eq!(status, Status::Ok);
    lengths
}

/// Where the buffers of a training step lie, in the order of the arguments.
#[derive(Clone, Copy)]
struct Call {
    shape: Shape,
    extent: Extent,
    at: [(*mut f32, usize); 8],
    loss: *mut f32,
}

const NAMES: [&str; 8] = [
    "params",
    "x",
    "labels",
    "state",
    "gradients",
    "probabilities",
    "cache",
    "workspace",
];
/// The first of them that is written.
const WRITTEN: usize = 3;

impl Call {
    /// # Safety
    ///
    /// Each buffer is as long as it says, or refused.
    unsafe fn run(&self) -> Status {
        let read = |index: usize| ConstFloats {
            data: self.at[index].0,
            len: self.at[index].1,
        };
        let write = |index: usize| Floats {
            data: self.at[index].0,
            len: self.at[index].1,
        };
        let labels = Labels {
            data: self.at[2].0.cast(),
            len: self.at[2].1,
        };
        // SAFETY: the caller's promise.
        unsafe {
            fused_lstm_loss_gradient(
                &self.shape,
                read(0),
                self.extent.steps,
                self.extent.batch,
                read(1),
                labels,
                write(3),
                write(4),
                write(5),
                write(6),
                write(7),
                self.loss,
            )
        }
    }
}

/// A training step's buffers, one after the other.
struct Buffers {
    memory: Vec<f32>,
    lens: [usize; 8],
}

impl Buffers {
    fn new(lengths: Lengths, classes: usize, random: &mut Random) -> Self {
        let lens = [
            lengths.params,
            lengths.x,
            lengths.labels,
            lengths.state,
            lengths.params,
            lengths.probabilities,
            lengths.cache,
            lengths.workspace,
        ];
        let mut memory = random.vec(lens.iter().sum(), 0.5);
        let at = lens[0] + lens[1];
        for label in &mut memory[at..at + lens[2]] {
            let class = (random.unit() * classes as f32) as u32;
            *label = f32::from_bits(if random.unit() < 0.2 { IGNORE } else { class });
        }
        Self { memory, lens }
    }

    fn call(&mut self, shape: Shape, extent: Extent, loss: &mut f32) -> Call {
        let mut at = [(self.memory.as_mut_ptr(), 0); 8];
        let mut start = 0;
        for (at, &len) in at.iter_mut().zip(&self.lens) {
            *at = (at.0.wrapping_add(start), len);
            start += len;
        }
        Call {
            shape,
            extent,
            at,
            loss,
        }
    }

    fn split(&mut self) -> [&mut [f32]; 8] {
        let mut rest = &mut self.memory[..];
        self.lens.map(|len| {
            let (one, others) = std::mem::take(&mut rest).split_at_mut(len);
            rest = others;
            one
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(fused_lstm_tests::random::cases(64)))]

    #[test]
    fn both_interfaces_give_the_same_bits(
        inputs in 1usize..7,
        hidden in proptest::collection::vec(1usize..9, 1..4),
        classes in 1usize..5,
        steps in 1usize..6,
        batch in 1usize..5,
        seed in any::<u64>(),
    ) {
        let (c_shape, extent) = (shape(inputs, &hidden, classes), Extent { steps, batch });
        let lens = lengths(&c_shape, steps, batch);
        let mut random = Random(seed);
        let mut through_c = Buffers::new(lens, classes, &mut random);
        let mut through_rust = Buffers { memory: through_c.memory.clone(), ..through_c };

        let mut c_loss = 0.0;
        let call = through_c.call(c_shape, extent, &mut c_loss);
        // SAFETY: each buffer is as long as it says.
        prop_assert_eq!(unsafe { call.run() }, Status::Ok);

        let shape = NetworkShape::new(inputs, &hidden).with_head(classes);
        let [params, x, labels, state, gradients, probabilities, cache, workspace] =
            through_rust.split();
        let labels: Vec<_> = labels.iter().map(|label| label.to_bits()).collect();
        let model = Model::new(shape, params).unwrap();
        let outputs = probabilities;
        let buffers = LossGradient { x, state, gradients, outputs, cache, workspace };
        let rust_loss = model.loss_gradient(extent, &labels, buffers).unwrap();
        prop_assert_eq!(c_loss.to_bits(), rust_loss.to_bits());
        prop_assert_eq!(bits(&through_c.memory), bits(&through_rust.memory));

        // Inference from the state that training left.
        let [params, x, _, c_state, ..] = through_c.split();
        let [_, _, _, rust_state, ..] = through_rust.split();
        let (mut c_y, mut c_scratch) = (vec![0.0; lens.y], vec![0.0; lens.scratch]);
        let (mut y, mut scratch) = (c_y.clone(), c_scratch.clone());
        let (mut c_p, mut p) = (vec![0.0; lens.probabilities], vec![0.0; lens.probabilities]);
        let mut c_z = p.clone();
        // SAFETY: each buffer is as long as it says.
        let statuses = unsafe {
            [
                fused_lstm_infer(
                    &c_shape, read(params), steps, batch, read(x), write(c_state), write(&mut c_y),
                    write(&mut c_scratch),
                ),
                fused_lstm_probabilities(
                    &c_shape, read(params), steps, batch, read(&c_y), write(&mut c_p),
                ),
                fused_lstm_logits(
                    &c_shape, read(params), steps, batch, read(&c_y), write(&mut c_z),
                ),
            ]
        };
        prop_assert_eq!(statuses, [Status::Ok; 3]);
        let model = Model::new(shape, params).unwrap();
        model.infer(extent, x, rust_state, &mut y, &mut scratch).unwrap();
        model.logits(extent, &y, &mut p).unwrap();
        prop_assert_eq!(bits(&c_z), bits(&p));
        loss::softmax(classes, &mut p).unwrap();
        prop_assert_eq!(bits(c_state), bits(rust_state));
        prop_assert_eq!((bits(&c_y), bits(&c_p)), (bits(&y), bits(&p)));
    }
}

/// The training step on squared error, with a head and without, masked and not.
#[test]
fn squared_errors_give_the_same_bits() {
    let hidden = [4, 5];
    for (classes, masked) in [(3, false), (3, true), (0, false), (0, true)] {
        let c_shape = shape(6, &hidden, classes);
        let lens = lengths(&c_shape, 2, 3);
        assert_eq!(
            lens.outputs,
            if classes == 0 {
                lens.y
            } else {
                lens.probabilities
            }
        );
        let mut random = Random(8);
        let (params, x) = (random.vec(lens.params, 0.5), random.vec(lens.x, 1.0));
        let (targets, bytes) = (random.vec(lens.outputs, 1.0), [1, 0, 255, 1, 0, 1]);
        let mask = Mask {
            data: if masked {
                bytes.as_ptr()
            } else {
                std::ptr::null()
            },
            len: if masked { 6 } else { 0 },
        };
        let room = || {
            [
                lens.state,
                lens.params,
                lens.outputs,
                lens.cache,
                lens.workspace,
            ]
            .map(|len| vec![0.25; len])
        };
        let mut through_c = room();
        let [state, gradients, outputs, cache, work] = &mut through_c;
        let mut c_loss = 0.0;
        // SAFETY: each buffer is as long as it says.
        let status = unsafe {
            fused_lstm_squared_error_gradient(
                &c_shape,
                read(&params),
                2,
                3,
                read(&x),
                read(&targets),
                mask,
                write(state),
                write(gradients),
                write(outputs),
                write(cache),
                write(work),
                &mut c_loss,
            )
        };
        assert_eq!(status, Status::Ok);
        let network = NetworkShape::new(6, &hidden).with_classes((classes > 0).then_some(classes));
        let mut through_rust = room();
        let [state, gradients, outputs, cache, work] = &mut through_rust;
        let extent = Extent { steps: 2, batch: 3 };
        let mask = bytes.map(|byte| byte != 0);
        let mask = masked.then_some(&mask[..]);
        let model = Model::new(network, &params).unwrap();
        let loss = model.squared_error_gradient(
            extent,
            &targets,
            mask,
            LossGradient {
                x: &x,
                state,
                gradients,
                outputs,
                cache,
                workspace: work,
            },
        );
        assert_eq!(c_loss.to_bits(), loss.unwrap().to_bits());
        assert_eq!(bits(&through_c.concat()), bits(&through_rust.concat()));
    }
}

#[test]
fn numbers_without_an_end_are_refused() {
    let mut params = [1.0, 2.0];
    let mut slots = [0.5; 4];
    let mut norm = 42.0;
    for bad in [f32::NAN, f32::INFINITY, 2e19] {
        let mut gradients = [0.5, bad];
        let before = bits(&gradients);
        // SAFETY: each buffer is as long as it says, here and below.
        let updates = unsafe {
            let (w, g) = (write(&mut params), read(&gradients));
            let (one, two) = (write(&mut slots[..2]), write(&mut slots));
            [
                fused_lstm_adagrad_update(0.1, 0.0, w, g, one),
                fused_lstm_adam_update(0.1, 1, w, g, two),
                fused_lstm_rmsprop_update(0.1, 0.9, 0.0, 1e-8, 0, w, g, two),
            ]
        };
        assert_eq!(updates, [Status::NotFinite; 3]);
        if !bad.is_finite() {
            // SAFETY: as above.
            let others = unsafe {
                let (w, g, one) = (write(&mut params), read(&gradients), write(&mut slots[..2]));
                [
                    fused_lstm_sgd_update(0.1, w, g),
                    fused_lstm_momentum_update(0.1, 0.9, 0, w, g, one),
                    fused_lstm_clip_by_global_norm(write(&mut gradients), 1.0, &mut norm),
                ]
            };
            assert_eq!(others, [Status::NotFinite; 3]);
        }
        assert_eq!(bits(&gradients), before);
    }
    for clip in [0.0, -1.0, f32::NAN] {
        // SAFETY: as above.
        let status = unsafe { fused_lstm_clip_by_global_norm(write(&mut slots), clip, &mut norm) };
        assert_eq!(status, Status::NotPositive);
    }
    assert_eq!((params, slots, norm), ([1.0, 2.0], [0.5; 4], 42.0));
}

#[test]
fn updates_give_the_same_bits() {
    let mut random = Random(3);
    let (start, gradients) = (random.vec(37, 1.0), random.vec(37, 1.0));
    let after = |update: &mut dyn FnMut(&mut [f32], &mut [f32]), slots: usize| {
        let (mut params, mut slots) = (start.clone(), vec![0.1; slots * 37]);
        update(&mut params, &mut slots);
        (bits(&params), bits(&slots))
    };
    // SAFETY: each buffer is as long as it says, here and below.
    let c = after(
        &mut |params, _| unsafe {
            let status = fused_lstm_sgd_update(0.3, write(params), read(&gradients));
            assert_eq!(status, Status::Ok);
        },
        0,
    );
    let sgd = Sgd::new(0.3);
    let rust = after(&mut |params, _| sgd.update(params, &gradients).unwrap(), 0);
    assert_eq!(c, rust);

    // SAFETY: as above.
    let c = after(
        &mut |params, slots| unsafe {
            let (params, slots) = (write(params), write(slots));
            let status = fused_lstm_adagrad_update(0.3, 1e-10, params, read(&gradients), slots);
            assert_eq!(status, Status::Ok);
        },
        1,
    );
    let adagrad = Adagrad::pytorch(0.3);
    let rust = after(
        &mut |params, slots| adagrad.update(params, &gradients, slots).unwrap(),
        1,
    );
    assert_eq!(c, rust);

    // SAFETY: as above.
    let c = after(
        &mut |params, slots| unsafe {
            let (params, slots) = (write(params), write(slots));
            let status = fused_lstm_adam_update(0.3, 5, params, read(&gradients), slots);
            assert_eq!(status, Status::Ok);
        },
        2,
    );
    let adam = Adam::tensorflow(0.3);
    let rust = after(
        &mut |params, slots| adam.update(5, params, &gradients, slots).unwrap(),
        2,
    );
    assert_eq!(c, rust);

    for nesterov in [0, 1] {
        // SAFETY: as above.
        let c = after(
            &mut |params, slots| unsafe {
                let (params, slots) = (write(params), write(slots));
                let g = read(&gradients);
                let status = fused_lstm_momentum_update(0.3, 0.9, nesterov, params, g, slots);
                assert_eq!(status, Status::Ok);
            },
            1,
        );
        let mut momentum = Momentum::new(0.3, 0.9);
        momentum.nesterov = nesterov == 1;
        let rust = after(
            &mut |params, slots| momentum.update(params, &gradients, slots).unwrap(),
            1,
        );
        assert_eq!(c, rust);
    }

    for (rms, inside) in [(RmsProp::tensorflow(0.3), 1), (RmsProp::pytorch(0.3), 0)] {
        // SAFETY: as above.
        let c = after(
            &mut |params, slots| unsafe {
                let (params, slots) = (write(params), write(slots));
                let (decay, g) = (rms.decay, read(&gradients));
                let status = fused_lstm_rmsprop_update(
                    0.3,
                    decay,
                    0.0,
                    rms.epsilon,
                    inside,
                    params,
                    g,
                    slots,
                );
                assert_eq!(status, Status::Ok);
            },
            2,
        );
        let rust = after(
            &mut |params, slots| rms.update(params, &gradients, slots).unwrap(),
            2,
        );
        assert_eq!(c, rust);
    }

    let (mut c, mut rust, mut norm) = (gradients.clone(), gradients.clone(), 0.0);
    // SAFETY: as above.
    let status = unsafe { fused_lstm_clip_by_global_norm(write(&mut c), 1.0, &mut norm) };
    assert_eq!(status, Status::Ok);
    assert_eq!(norm, clip_by_global_norm(&mut rust, 1.0).unwrap());
    assert_eq!(bits(&c), bits(&rust));
}

unsafe extern "C" fn draw(context: *mut c_void) -> f32 {
    // SAFETY: below, it is a `Random`.
    unsafe { &mut *context.cast::<Random>() }.unit()
}

#[test]
fn a_start_is_the_same() {
    let hidden = [4, 5];
    let shape = shape(6, &hidden, 3);
    let mut c = vec![0.0; lengths(&shape, 1, 1).params];
    let mut rust = c.clone();
    let mut random = Random(9);
    let context = (&raw mut random).cast();
    // SAFETY: the buffer is as long as it says, and the context is what `draw` takes.
    let status = unsafe { fused_lstm_init(&shape, write(&mut c), Some(draw), context) };
    assert_eq!(status, Status::Ok);
    let network = NetworkShape::new(6, &hidden).with_head(3);
    let mut random = Random(9);
    fused_lstm::init::glorot_uniform(network, &mut rust, || random.unit()).unwrap();
    assert_eq!(bits(&c), bits(&rust));
    // SAFETY: as above.
    let status = unsafe { fused_lstm_init(&shape, write(&mut c), None, context) };
    assert_eq!(status, Status::Null);
}

#[test]
fn every_unusable_buffer_is_refused_and_nothing_written() {
    let hidden = [4, 5];
    let (shape, extent) = (shape(6, &hidden, 3), Extent { steps: 2, batch: 3 });
    let lens = lengths(&shape, 2, 3);
    let mut buffers = Buffers::new(lens, 3, &mut Random(1));
    let before = buffers.memory.clone();
    let mut loss = 42.0;
    let right = buffers.call(shape, extent, &mut loss);
    let refused = |call: Call, status: Status, what: &str| {
        // SAFETY: no buffer is longer than it says, and what cannot be is refused.
        assert_eq!(unsafe { call.run() }, status, "{what}");
    };
    for (index, name) in NAMES.into_iter().enumerate() {
        let with = |at: (*mut f32, usize)| {
            let mut call = right;
            call.at[index] = at;
            call
        };
        let (data, len) = right.at[index];
        refused(with((std::ptr::null_mut(), len)), Status::Null, name);
        let odd = data.cast::<u8>().wrapping_add(2).cast();
        refused(with((odd, len)), Status::Misaligned, name);
        refused(with((data, len - 1)), Status::Length, name);
        let endless = usize::MAX / 2;
        refused(with((data, endless)), Status::Length, name);
        for (other, &(elsewhere, other_len)) in right.at.iter().enumerate() {
            if other != index && (index >= WRITTEN || other >= WRITTEN) {
                // One number shared, at either end.
                let first = elsewhere.wrapping_sub(len - 1);
                refused(with((first, len)), Status::Overlap, name);
                let last = elsewhere.wrapping_add(other_len - 1);
                refused(with((last, len)), Status::Overlap, name);
            }
        }
    }
    let null = std::ptr::null_mut();
    refused(
        Call {
            loss: null,
            ..right
        },
        Status::Null,
        "loss",
    );
    let mut headless = right;
    headless.shape.classes = 0;
    headless.at[0].1 -= (5 + 1) * 3;
    refused(headless, Status::NoHead, "head");
    let mut flat = right;
    flat.shape.layers = 0;
    refused(flat, Status::Zero, "layers");
    flat.shape.hidden = std::ptr::null();
    flat.shape.layers = 2;
    refused(flat, Status::Null, "hidden");
    assert_eq!(bits(&buffers.memory), bits(&before));
    assert_eq!(loss, 42.0);

    let at = buffers.lens[0] + buffers.lens[1];
    buffers.memory[at] = f32::from_bits(3);
    let before = buffers.memory.clone();
    let call = buffers.call(shape, extent, &mut loss);
    refused(call, Status::Label, "label");
    assert_eq!(bits(&buffers.memory), bits(&before));
    assert_eq!(loss, 42.0);
}

/// Calls with each of the written buffers where another one is.
fn every_overlap<const N: usize>(
    what: &str,
    lens: [usize; N],
    written: std::ops::Range<usize>,
    call: impl Fn([*mut f32; N]) -> Status,
) {
    let mut memory = vec![0.5; lens.iter().sum()];
    let mut start = 0;
    let at = lens.map(|len| {
        start += len;
        memory.as_mut_ptr().wrapping_add(start - len)
    });
    for one in written {
        for other in (0..N).filter(|&other| other != one) {
            let mut moved = at;
            moved[one] = at[other];
            assert_eq!(call(moved), Status::Overlap, "{what}: {one} is {other}");
        }
    }
    assert!(memory.iter().all(|&value| value == 0.5), "{what}");
    assert_eq!(call(at), Status::Ok, "{what}");
}

#[test]
fn no_function_takes_buffers_that_overlap() {
    let hidden = [4, 5];
    let shape = shape(6, &hidden, 3);
    let lens = lengths(&shape, 2, 3);
    let read = |data: *mut f32, len| ConstFloats { data, len };
    let write = |data, len| Floats { data, len };
    let all = [lens.params, lens.x, lens.state, lens.y, lens.scratch];
    every_overlap(
        "infer",
        all,
        2..5,
        // SAFETY: as long as they say, or refused.
        |[params, x, state, y, scratch]| unsafe {
            fused_lstm_infer(
                &shape,
                read(params, lens.params),
                2,
                3,
                read(x, lens.x),
                write(state, lens.state),
                write(y, lens.y),
                write(scratch, lens.scratch),
            )
        },
    );
    let all = [lens.params, lens.y, lens.probabilities];
    // SAFETY: as long as they say, or refused.
    every_overlap("probabilities", all, 2..3, |[params, y, out]| unsafe {
        let (params, y) = (read(params, lens.params), read(y, lens.y));
        fused_lstm_probabilities(&shape, params, 2, 3, y, write(out, lens.probabilities))
    });
    // SAFETY: as long as they say, or refused.
    every_overlap("clip", [8, 1], 0..2, |[gradients, norm]| unsafe {
        fused_lstm_clip_by_global_norm(write(gradients, 8), 1.0, norm)
    });
    // SAFETY: as long as they say, or refused.
    every_overlap("sgd", [8, 8], 1..2, |[gradients, params]| unsafe {
        fused_lstm_sgd_update(0.1, write(params, 8), read(gradients, 8))
    });
    every_overlap(
        "adagrad",
        [8, 8, 8],
        1..3,
        // SAFETY: as long as they say, or refused.
        |[gradients, params, slots]| unsafe {
            let (params, slots) = (write(params, 8), write(slots, 8));
            fused_lstm_adagrad_update(0.1, 0.0, params, read(gradients, 8), slots)
        },
    );
    every_overlap(
        "adam",
        [8, 8, 16],
        1..3,
        // SAFETY: as long as they say, or refused.
        |[gradients, params, slots]| unsafe {
            let (params, slots) = (write(params, 8), write(slots, 16));
            fused_lstm_adam_update(0.1, 1, params, read(gradients, 8), slots)
        },
    );
    let all = [lens.params, lens.y, lens.probabilities];
    // SAFETY: as long as they say, or refused.
    every_overlap("logits", all, 2..3, |[params, y, out]| unsafe {
        let (params, y) = (read(params, lens.params), read(y, lens.y));
        fused_lstm_logits(&shape, params, 2, 3, y, write(out, lens.probabilities))
    });
    let all = [
        lens.params,
        lens.x,
        lens.outputs,
        lens.labels,
        lens.state,
        lens.params,
        lens.outputs,
        lens.cache,
        lens.workspace,
        1,
    ];
    every_overlap("squared error", all, 4..10, |at| {
        let [
            params,
            x,
            targets,
            mask,
            state,
            gradients,
            y,
            cache,
            work,
            loss,
        ] = at;
        let mask = Mask {
            data: mask.cast(),
            len: lens.labels,
        };
        // SAFETY: as long as they say, or refused.
        unsafe {
            fused_lstm_squared_error_gradient(
                &shape,
                read(params, lens.params),
                2,
                3,
                read(x, lens.x),
                read(targets, lens.outputs),
                mask,
                write(state, lens.state),
                write(gradients, lens.params),
                write(y, lens.outputs),
                write(cache, lens.cache),
                write(work, lens.workspace),
                loss,
            )
        }
    });
    every_overlap(
        "momentum",
        [8, 8, 8],
        1..3,
        // SAFETY: as long as they say, or refused.
        |[gradients, params, slots]| unsafe {
            let (params, slots) = (write(params, 8), write(slots, 8));
            fused_lstm_momentum_update(0.1, 0.9, 0, params, read(gradients, 8), slots)
        },
    );
    every_overlap(
        "rmsprop",
        [8, 8, 16],
        1..3,
        // SAFETY: as long as they say, or refused.
        |[gradients, params, slots]| unsafe {
            let (params, slots) = (write(params, 8), write(slots, 16));
            fused_lstm_rmsprop_update(0.1, 0.9, 0.0, 1e-8, 0, params, read(gradients, 8), slots)
        },
    );
}

/// What is written may be neither the sizes nor the list of them.
#[test]
fn no_function_writes_over_the_sizes() {
    let mut hidden = [4, 5];
    let mut sizes = shape(6, &hidden, 3);
    let lens = lengths(&sizes, 2, 3);
    let at = [
        (&raw mut sizes).cast::<f32>(),
        hidden.as_mut_ptr().cast::<f32>(),
    ];
    let sizes = &raw const sizes;
    let buffers = |len: usize| vec![0.5f32; len];
    for at in at {
        // Aligned for either, and as long as needed, but not there: the call is refused.
        let over = |len| Floats { data: at, len };
        let (params, x, y) = (buffers(lens.params), buffers(lens.x), buffers(lens.y));
        let mut written = [
            lens.state,
            lens.params,
            lens.probabilities,
            lens.cache,
            lens.workspace,
            lens.y,
            lens.scratch,
        ]
        .map(buffers);
        let mut loss = 0.0;
        let labels = vec![0u32; lens.labels];
        let labels = Labels {
            data: labels.as_ptr(),
            len: labels.len(),
        };
        let mask = Mask {
            data: std::ptr::null(),
            len: 0,
        };
        // SAFETY: what overlaps the sizes is refused; all else is as long as it says.
        unsafe {
            let status = fused_lstm_lengths(sizes, 2, 3, at.cast());
            assert_eq!(status, Status::Overlap);
            let context = std::ptr::null_mut();
            let status = fused_lstm_init(sizes, over(lens.params), Some(draw), context);
            assert_eq!(status, Status::Overlap);
            let (p, h) = (read(&params), read(&y));
            let status = fused_lstm_logits(sizes, p, 2, 3, h, over(lens.probabilities));
            assert_eq!(status, Status::Overlap);
            let status = fused_lstm_probabilities(sizes, p, 2, 3, h, over(lens.probabilities));
            assert_eq!(status, Status::Overlap);
            for one in 0..7 {
                let mut to = written.each_mut().map(|v| write(v));
                to[one].data = at;
                let [state, gradients, probabilities, cache, work, y, scratch] = to;
                let x = read(&x);
                if matches!(one, 0 | 5 | 6) {
                    let status = fused_lstm_infer(sizes, p, 2, 3, x, state, y, scratch);
                    assert_eq!(status, Status::Overlap);
                }
                if one < 5 {
                    let status = fused_lstm_loss_gradient(
                        sizes,
                        p,
                        2,
                        3,
                        x,
                        labels,
                        state,
                        gradients,
                        probabilities,
                        cache,
                        work,
                        &mut loss,
                    );
                    assert_eq!(status, Status::Overlap);
                    let status = fused_lstm_squared_error_gradient(
                        sizes,
                        p,
                        2,
                        3,
                        x,
                        read(&written[2]),
                        mask,
                        state,
                        gradients,
                        probabilities,
                        cache,
                        work,
                        &mut loss,
                    );
                    assert_eq!(status, Status::Overlap);
                }
            }
        }
    }
}

/// A stage with nothing set.
const NONE: Stage = Stage {
    kind: 0,
    inputs: 0,
    outputs: 0,
    projection: 0,
    direction: 0,
    returns: 0,
    peepholes: 0,
    coupled: 0,
    gates: FUNCTION,
    candidate: FUNCTION,
    output: FUNCTION,
    preact_clip: 0.0,
    cell_clip: 0.0,
    projection_clip: 0.0,
    gain: 0.0,
    storage: 0,
    layer_norm: 0,
    zoneout_cell: 0.0,
    zoneout_hidden: 0.0,
};
const FUNCTION: Activation = Activation {
    kind: 0,
    slope: 0.0,
};

fn function(kind: u32, slope: f32) -> Activation {
    Activation { kind, slope }
}

/// A chain gives the bits that it gives in Rust, with every field of its stages in its place.
#[test]
fn a_chain_gives_the_same_bits() {
    use fused_lstm::{Activation, Cell, Direction, NarrowLayer, Returns, Storage};
    let theirs = [
        Stage {
            kind: 1,
            inputs: 7,
            outputs: 3,
            ..NONE
        },
        Stage { kind: 7, ..NONE },
        Stage {
            kind: 4,
            inputs: 3,
            outputs: 5,
            projection: 2,
            direction: 2,
            peepholes: 1,
            coupled: 1,
            gates: function(4, 0.2),
            candidate: function(3, 0.0),
            output: function(1, 0.0),
            preact_clip: 2.0,
            cell_clip: 0.5,
            projection_clip: 0.25,
            ..NONE
        },
        Stage {
            kind: 6,
            gain: 1.5,
            ..NONE
        },
        Stage {
            kind: 4,
            inputs: 4,
            outputs: 4,
            direction: 1,
            returns: 2,
            gates: function(2, 0.0),
            candidate: function(1, 0.0),
            output: function(1, 0.0),
            storage: 2,
            ..NONE
        },
        Stage {
            kind: 2,
            inputs: 4,
            outputs: 3,
            ..NONE
        },
        Stage {
            kind: 3,
            gates: function(5, 0.0),
            ..NONE
        },
    ];
    let ours = [
        fused_lstm::Stage::Embedding { rows: 7, width: 3 },
        fused_lstm::Stage::Reverse,
        fused_lstm::Stage::Lstm(LstmStage {
            cell: Cell {
                projection: Some(2),
                peepholes: true,
                coupled: true,
                gates: Activation::HardSigmoid { slope: 0.2 },
                candidate: Activation::Relu,
                output: Activation::Tanh,
                preact_clip: 2.0,
                cell_clip: 0.5,
                projection_clip: 0.25,
                ..Cell::PLAIN
            },
            direction: Direction::Both,
            ..LstmStage::new(LayerShape::new(3, 5))
        }),
        fused_lstm::Stage::Gain(1.5),
        fused_lstm::Stage::Lstm(LstmStage {
            direction: Direction::Reverse,
            returns: Returns::Mean,
            storage: Storage::Int8,
            ..LstmStage::new(LayerShape::new(4, 4))
        }),
        fused_lstm::Stage::Dense(DenseShape::new(4, 3)),
        fused_lstm::Stage::Activation(Activation::Softmax),
    ];
    let extent = Extent { steps: 6, batch: 2 };
    let lens = Chain::lengths(1, &ours, extent);
    let stages = Stages {
        data: theirs.as_ptr(),
        len: theirs.len(),
    };
    let mut own = ChainLengths::default();
    // SAFETY: all are living values.
    let status = unsafe { fused_lstm_chain_lengths(1, stages, 6, 2, &mut own) };
    assert_eq!(status, Status::Ok);
    assert_eq!(
        (own.params, own.state, own.x, own.y, own.scratch),
        (lens.params, lens.state, lens.x, lens.y, lens.scratch)
    );

    let mut params = Random(3).vec(lens.params, 0.8);
    let layer = LayerShape::new(4, 4);
    let first = ours[0].params_len() + ours[2].params_len();
    let words = &mut params[first..first + ours[4].params_len()];
    NarrowLayer::pack(
        layer,
        Storage::Int8,
        &Random(5).vec(layer.params_len(), 0.8),
        1.5,
        bytemuck::cast_slice_mut(words),
    )
    .unwrap();
    let x: Vec<f32> = (0..12).map(|k| (k * 5 % 7) as f32).collect();
    let state = Random(4).vec(lens.state, 0.5);
    let (mut y, mut end, mut scratch) = (vec![0.0; lens.y], state.clone(), vec![0.0; lens.scratch]);
    let chain = Chain::of_words(1, &ours, bytemuck::cast_slice(&params)).unwrap();
    chain
        .run(extent, None, &x, &mut end, &mut y, &mut scratch)
        .unwrap();
    let (mut c_y, mut c_end) = (vec![0.0; lens.y], state);
    let mut run = |x: &[f32], y: &mut [f32]| {
        // SAFETY: all are living values that do not overlap.
        unsafe {
            fused_lstm_chain_run(
                1,
                stages,
                read(&params),
                6,
                2,
                read(x),
                write(&mut c_end),
                write(y),
                write(&mut scratch),
            )
        }
    };
    assert_eq!(run(&x, &mut c_y), Status::Ok);
    assert_eq!(bits(&c_y), bits(&y));
    assert_eq!(run(&[7.0; 12], &mut c_y), Status::Index);
    assert_eq!(run(&x[1..], &mut c_y), Status::Length);
    assert_eq!(run(&x, &mut c_y[1..]), Status::Length);
    assert_eq!(bits(&c_y), bits(&y));
    // The first run advanced the state, the others left it alone.
    assert_eq!(bits(&c_end), bits(&end));

    for wrong in [
        Stage { kind: 9, ..NONE },
        Stage {
            kind: 3,
            gates: function(6, 0.0),
            ..NONE
        },
        Stage {
            kind: 4,
            inputs: 1,
            outputs: 1,
            direction: 3,
            ..NONE
        },
        Stage {
            kind: 4,
            inputs: 1,
            outputs: 1,
            returns: 3,
            ..NONE
        },
        Stage {
            kind: 4,
            inputs: 2,
            outputs: 1,
            ..NONE
        },
    ] {
        let all = [NONE; 17].map(|_| wrong);
        for len in [1, 17] {
            let stages = Stages {
                data: all.as_ptr(),
                len,
            };
            // SAFETY: all are living values.
            let status = unsafe { fused_lstm_chain_lengths(1, stages, 1, 1, &mut own) };
            assert_eq!(status, Status::Stage, "{wrong:?}");
        }
    }
}
