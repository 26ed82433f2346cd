//! Gradients beyond the range of squares: clipped all the same, and never a silent NaN.

use fused_lstm::ArgumentError;
use fused_lstm::optimizer::{
    Adagrad, Adam, Momentum, Optimizer, RmsProp, Sgd, clip_by_global_norm,
};
use fused_lstm_tests::levels::{bits, each_level};
use fused_lstm_tests::random::Random;
use proptest::prelude::*;

const NOT_FINITE: Result<f32, ArgumentError> = Err(ArgumentError::NotFinite { what: "gradients" });

#[test]
fn gradients_whose_squares_overflow_are_clipped() {
    each_level(|_| {
        let mut gradients = [2e19, 0.0, 0.0];
        assert_eq!(clip_by_global_norm(&mut gradients, 1.0), Ok(2e19));
        assert_eq!(gradients, [1.0, 0.0, 0.0]);
        // The norm itself is beyond f32; what is left is right.
        let mut gradients = [f32::MAX; 4];
        assert_eq!(clip_by_global_norm(&mut gradients, 2.0), Ok(f32::INFINITY));
        assert!(gradients.iter().all(|g| (g - 1.0).abs() < 1e-6));
        let mut gradients = [f32::MAX; 4];
        let kept = clip_by_global_norm(&mut gradients, f32::INFINITY);
        assert_eq!((kept, gradients), (Ok(f32::INFINITY), [f32::MAX; 4]));
        // The smallest ones: their squares are 0.
        let mut gradients = [3e-30, 4e-30];
        let norm = clip_by_global_norm(&mut gradients, 1.0).unwrap();
        assert!((norm / 5e-30 - 1.0).abs() < 1e-6);
        assert_eq!(gradients, [3e-30, 4e-30]);
        let norm = clip_by_global_norm(&mut gradients, 1e-30).unwrap();
        assert!((norm / 5e-30 - 1.0).abs() < 1e-6);
        assert!((gradients[0] / 6e-31 - 1.0).abs() < 1e-6, "{gradients:?}");
        assert_eq!(clip_by_global_norm(&mut [], 1.0), Ok(0.0));
        assert_eq!(clip_by_global_norm(&mut [0.0, -0.0], 1.0), Ok(0.0));
    });
}

#[test]
fn what_cannot_be_clipped_is_refused_and_left_alone() {
    each_level(|_| {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 16, 36] {
                let mut gradients = vec![0.5; 37];
                gradients[at] = bad;
                let before = bits(&gradients);
                assert_eq!(clip_by_global_norm(&mut gradients, 1.0), NOT_FINITE);
                assert_eq!(bits(&gradients), before);
            }
        }
        for norm in [0.0, -0.0, -1.0, f32::NAN, f32::NEG_INFINITY] {
            let mut gradients = [3.0, 4.0];
            let refused = clip_by_global_norm(&mut gradients, norm);
            let what = "clip_norm";
            assert_eq!(refused, Err(ArgumentError::NotPositive { what }));
            assert_eq!(gradients, [3.0, 4.0]);
        }
    });
    let error = ArgumentError::NotPositive { what: "clip_norm" };
    assert_eq!(error.to_string(), "clip_norm: expected a number above 0");
    let error = ArgumentError::NotFinite { what: "slots" };
    let text = "slots: expected finite numbers, got NaN or infinity";
    assert_eq!(error.to_string(), text);
}

fn optimizers() -> [Optimizer; 9] {
    let momentum = Momentum::new(0.1, 0.9);
    [
        Optimizer::Sgd(Sgd::new(0.1)),
        Optimizer::Momentum(momentum),
        Optimizer::Momentum(momentum.nesterov()),
        Optimizer::Adagrad(Adagrad::tensorflow(0.1)),
        Optimizer::Adagrad(Adagrad::pytorch(0.1)),
        Optimizer::Adam(Adam::tensorflow(0.1)),
        Optimizer::Adam(Adam::pytorch_adamw(0.1)),
        Optimizer::RmsProp(RmsProp::tensorflow(0.1)),
        Optimizer::RmsProp(RmsProp::pytorch(0.1)),
    ]
}

/// The update, which leaves everything as it was if it is refused.
fn update(
    optimizer: Optimizer,
    params: &[f32],
    gradients: &[f32],
    slots: &[f32],
) -> Result<Vec<f32>, ArgumentError> {
    let (mut w, mut own) = (params.to_vec(), slots.to_vec());
    let done = optimizer.update(3, &mut w, gradients, &mut own);
    if done.is_err() {
        assert_eq!(bits(&w), bits(params));
        assert_eq!(bits(&own), bits(slots));
    }
    done.map(|()| [w, own].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(fused_lstm_tests::random::cases(64)))]

    /// Whatever the numbers, an update gives finite ones or is refused and does nothing.
    #[test]
    fn an_update_leaves_finite_numbers_or_nothing_changed(
        n in 1usize..70,
        scale in -45i32..39,
        one in prop_oneof![Just(f32::NAN), Just(f32::INFINITY), Just(1e-44f32), Just(0.0), Just(3e38)],
        at in any::<prop::sample::Index>(),
        seed in any::<u64>(),
    ) {
        let mut random = Random(seed);
        let params = random.vec(n, 1.0);
        let mut gradients: Vec<f32> =
            random.vec(n, 1.0).iter().map(|g| (f64::from(*g) * 10f64.powi(scale)) as f32).collect();
        gradients[at.index(n)] = one;
        each_level(|level| {
            for optimizer in optimizers() {
                let mut slots = vec![0.0; optimizer.slots_len(n)];
                optimizer.init_slots(&mut slots);
                let done = update(optimizer, &params, &gradients, &slots);
                if let Ok(numbers) = &done {
                    assert!(numbers.iter().all(|v| v.is_finite()), "{level} {optimizer:?}");
                }
                if !one.is_finite() {
                    let what = "gradients";
                    assert_eq!(done, Err(ArgumentError::NotFinite { what }), "{level} {optimizer:?}");
                } else if scale < 18 && one < 1.0 {
                    assert!(done.is_ok(), "{level} {optimizer:?} {done:?}");
                }
            }
        });
    }

    /// Clipping against its definition in `f64`, over the whole range of gradients.
    #[test]
    fn clipping_is_that_of_the_definition(
        n in 1usize..70,
        scale in -40i32..38,
        clip in -30i32..30,
        seed in any::<u64>(),
    ) {
        let gradients: Vec<f32> = Random(seed)
            .vec(n, 1.0)
            .iter()
            .map(|g| (f64::from(*g) * 10f64.powi(scale)) as f32)
            .collect();
        let clip = 10f32.powi(clip);
        let norm = gradients.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
        let factor = (f64::from(clip) / norm).min(1.0);
        each_level(|level| {
            let mut clipped = gradients.clone();
            let got = f64::from(clip_by_global_norm(&mut clipped, clip).unwrap());
            assert!((got - norm).abs() <= 1e-6 * norm + 1e-44, "{level}: {got:e}, not {norm:e}");
            for (&got, &g) in clipped.iter().zip(&gradients) {
                let want = f64::from(g) * factor;
                let off = (f64::from(got) - want).abs();
                assert!(off <= 1e-6 * norm * factor + 1e-44, "{level}: {got:e}, not {want:e}");
            }
        });
    }
}

#[test]
fn updates_that_lose_a_number_are_refused_by_name() {
    let not_finite = |what| Err(ArgumentError::NotFinite { what });
    each_level(|_| {
        for optimizer in optimizers() {
            let slots = vec![0.5; optimizer.slots_len(1)];
            let done =
                |w: f32, g: f32, slots: &[f32]| update(optimizer, &[w], &[g], slots).map(|_| ());
            assert_eq!(done(1.0, 1.0, &slots), Ok(()), "{optimizer:?}");
            assert_eq!(done(1.0, f32::NAN, &slots), not_finite("gradients"));
            match optimizer {
                Optimizer::Sgd(_) => {
                    assert_eq!(done(f32::MAX, -3e38, &slots), not_finite("params"));
                }
                Optimizer::Momentum(_) => {
                    assert_eq!(done(1.0, 3e38, &[3e38]), not_finite("slots"));
                    assert_eq!(done(f32::MAX, -3e38, &slots), not_finite("params"));
                }
                // The square of the gradient is infinite, or the slot is before.
                Optimizer::Adagrad(_) => {
                    assert_eq!(done(1.0, 2e19, &slots), not_finite("slots"));
                    assert_eq!(done(1.0, 0.0, &[f32::INFINITY]), not_finite("slots"));
                }
                _ => {
                    assert_eq!(done(1.0, 2e19, &slots), not_finite("slots"));
                    assert_eq!(done(1.0, 0.0, &[f32::NAN, 0.0]), not_finite("slots"));
                    assert_eq!(done(1.0, 0.0, &[0.0, f32::NAN]), not_finite("slots"));
                }
            }
        }
        // No number at all, and one that only lanes beyond the end would lose: 0 / √0.
        assert_eq!(
            update(Optimizer::Sgd(Sgd::new(1.0)), &[], &[], &[]),
            Ok(vec![])
        );
        let mut rms = RmsProp::pytorch(0.1);
        rms.epsilon = 0.0;
        let done = update(Optimizer::RmsProp(rms), &[1.0; 3], &[1.0; 3], &[0.0; 6]);
        assert!(done.is_ok());
    });
}

#[test]
fn a_root_of_zero_takes_no_step() {
    let mut adam = Adam::pytorch(0.1);
    let mut rms = RmsProp::pytorch(0.1);
    (adam.epsilon, rms.epsilon) = (0.0, 0.0);
    // Adagrad's accumulators without `init_slots`.
    let adagrad = Optimizer::Adagrad(Adagrad::tensorflow(0.1));
    each_level(|_| {
        for optimizer in [adagrad, Optimizer::Adam(adam), Optimizer::RmsProp(rms)] {
            let mut slots = vec![0.0; optimizer.slots_len(19)];
            let (mut params, mut gradients) = ([1.0; 19], [0.0; 19]);
            gradients[18] = 2.0;
            let done = optimizer.update(1, &mut params, &gradients, &mut slots);
            assert_eq!(done, Ok(()));
            assert_eq!(params[..18], [1.0; 18]);
            assert!(params[18] < 0.95 && slots.iter().all(|v| v.is_finite()));
        }
    });
}

#[test]
fn learning_rates_that_are_not_finite_are_refused() {
    for rate in [f32::NAN, f32::INFINITY] {
        for optimizer in [
            Optimizer::Sgd(Sgd::new(rate)),
            Optimizer::Momentum(Momentum::new(rate, 0.9)),
            Optimizer::Adagrad(Adagrad::tensorflow(rate)),
            Optimizer::Adam(Adam::tensorflow(rate)),
            Optimizer::RmsProp(RmsProp::tensorflow(rate)),
        ] {
            let (mut params, mut slots) = ([1.0; 2], vec![0.5; optimizer.slots_len(2)]);
            let refused = optimizer.update(1, &mut params, &[1.0; 2], &mut slots);
            let what = "learning_rate";
            assert_eq!(refused, Err(ArgumentError::NotFinite { what }));
            assert_eq!(params, [1.0; 2]);
        }
    }
}

#[test]
fn a_learning_rate_of_its_own_for_an_update() {
    const SGD: Optimizer = Optimizer::Sgd(Sgd::new(9.0)).with_learning_rate(0.25);
    assert_eq!(SGD, Optimizer::Sgd(Sgd::new(0.25)));
    let each = |rate| {
        [
            Optimizer::Sgd(Sgd::new(rate)),
            Optimizer::Momentum(Momentum::new(rate, 0.9).nesterov()),
            Optimizer::Adagrad(Adagrad::tensorflow(rate)),
            Optimizer::Adam(Adam::pytorch_adamw(rate)),
            Optimizer::RmsProp(RmsProp::pytorch(rate)),
        ]
    };
    for (one, other) in each(0.1).into_iter().zip(each(0.7)) {
        assert_eq!(one.with_learning_rate(0.7), other);
    }
}
