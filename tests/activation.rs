//! The errors of `sigmoid`, `tanh` and `exp` in units in the last place, and their
//! values at the ends.

use fused_lstm::activation::{exp_in_place, sigmoid_in_place, tanh_in_place};
use fused_lstm_tests::levels::each_level;

type InPlace = fn(&mut [f32]);

type Exact = fn(f64) -> f64;

/// Below this the series are exact to a double's last place.
const TINY: f64 = 1.0 / 4096.0;

fn sigmoid(x: f64) -> f64 {
    if x.abs() < TINY {
        0.5 + x * (0.25 - x * x / 48.0)
    } else if x.abs() > 120.0 {
        f64::from(x > 0.0)
    } else {
        1.0 / (1.0 + (-x).exp())
    }
}

fn tanh(x: f64) -> f64 {
    if x.abs() < TINY {
        x - x * x * x * (1.0 / 3.0 - x * x * (2.0 / 15.0))
    } else if x.abs() > 120.0 {
        x.signum()
    } else {
        x.tanh()
    }
}

fn exp(x: f64) -> f64 {
    if x.abs() < TINY {
        1.0 + x * (1.0 + x * (0.5 + x * (1.0 / 6.0 + x / 24.0)))
    } else if x < -120.0 {
        0.0
    } else if x > 120.0 {
        f64::INFINITY
    } else {
        x.exp()
    }
}

/// A function, what it should be, and the largest error that its docs allow.
const FUNCTIONS: [(&str, InPlace, Exact, f64); 3] = [
    ("sigmoid", sigmoid_in_place, sigmoid, 1.82),
    ("tanh", tanh_in_place, tanh, 1.23),
    ("exp", exp_in_place, exp, 1.28),
];

/// The distance in units in the last place of `want` as an `f32`; of the smallest
/// subnormal below the normal numbers. Infinity counts as the number after the
/// largest.
fn ulps(got: f32, want: f64) -> f64 {
    let beyond = 2f64.powi(128);
    let got = f64::from(got).clamp(-beyond, beyond);
    let want = want.clamp(-beyond, beyond);
    let exponent = ((want.abs().to_bits() >> 52) as i32 - 1023).clamp(-126, 127);
    (got - want).abs() / f64::from_bits(((exponent - 23 + 1023) as u64) << 52)
}

/// The largest errors seen: where the result is a normal number, and below.
#[derive(Clone, Copy, Default)]
struct Worst {
    normal: f64,
    subnormal: f64,
    at: f32,
}

impl Worst {
    fn see(&mut self, x: f32, got: f32, want: f64) {
        if x.is_nan() {
            assert!(got.is_nan(), "{x:?} gives {got}");
            return;
        }
        let error = ulps(got, want);
        assert!(!error.is_nan(), "{x:?} gives {got}");
        if want.abs() < f64::from(f32::MIN_POSITIVE) {
            self.subnormal = self.subnormal.max(error);
        } else if error > self.normal {
            (self.normal, self.at) = (error, x);
        }
    }

    fn or(self, other: Self) -> Self {
        let subnormal = self.subnormal.max(other.subnormal);
        Self {
            subnormal,
            ..if self.normal > other.normal {
                self
            } else {
                other
            }
        }
    }
}

/// The largest errors of `function` over every `stride`th bit pattern: of
/// the portable level, and of the fused ones, which must agree in every bit.
fn worst(function: InPlace, want: Exact, stride: usize) -> [Worst; 2] {
    let mut worst = [Worst::default(); 2];
    let mut patterns = (0..=u32::MAX).step_by(stride);
    loop {
        let x: Vec<f32> = patterns
            .by_ref()
            .take(1 << 20)
            .map(f32::from_bits)
            .collect();
        if x.is_empty() {
            return worst;
        }
        let mut kinds: [Option<Vec<f32>>; 2] = [None, None];
        for (level, y) in each_level(|_| {
            let mut y = x.clone();
            function(&mut y);
            y
        }) {
            match &mut kinds[usize::from(level.is_fused())] {
                None => kinds[usize::from(level.is_fused())] = Some(y),
                Some(other) => {
                    let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan();
                    assert!(
                        other.iter().zip(&y).all(same),
                        "{level} differs from its kind"
                    );
                }
            }
        }
        let judge = |from: usize, to: usize| {
            let mut worst = [Worst::default(); 2];
            for k in from..to {
                let want = want(x[k].into());
                for (worst, y) in worst.iter_mut().zip(&kinds) {
                    if let Some(y) = y {
                        worst.see(x[k], y[k], want);
                    }
                }
            }
            worst
        };
        let half = x.len() / 2;
        let (first, second) = std::thread::scope(|scope| {
            let first = scope.spawn(|| judge(0, half));
            let second = judge(half, x.len());
            (first.join().expect("the assertions hold"), second)
        });
        for (kind, worst) in worst.iter_mut().enumerate() {
            *worst = worst.or(first[kind]).or(second[kind]);
        }
    }
}

fn check(stride: usize) {
    for (name, function, want, bound) in FUNCTIONS {
        let kinds = ["portable", "fused"]
            .into_iter()
            .zip(worst(function, want, stride));
        for (
            kind,
            Worst {
                normal,
                subnormal,
                at,
            },
        ) in kinds
        {
            println!("{name:8} {kind:9} {normal:.3} ULP at {at:e}, subnormals {subnormal:.3}");
            assert!(normal <= bound, "{name}, {kind}: {normal} ULP at {at:e}");
            assert!(
                subnormal <= 1.0,
                "{name}, {kind}: {subnormal} units below normal"
            );
        }
    }
}

#[test]
fn errors_are_within_the_documented_bounds() {
    check(4999);
}

#[test]
#[ignore = "all 2^32 arguments: minutes, in release"]
fn errors_are_within_the_documented_bounds_everywhere() {
    check(1);
}

#[test]
fn ends_are_right() {
    let (inf, tiny) = (f32::INFINITY, f32::from_bits(1));
    each_level(|_| {
        let mut x = [0.0, -0.0, inf, -inf, tiny, -tiny, 100.0, -110.0];
        sigmoid_in_place(&mut x);
        assert_eq!(x, [0.5, 0.5, 1.0, 0.0, 0.5, 0.5, 1.0, 0.0]);

        let mut x = [0.0, -0.0, inf, -inf, tiny, -tiny, 100.0, -100.0];
        tanh_in_place(&mut x);
        let want = [0.0, -0.0, 1.0, -1.0, tiny, -tiny, 1.0, -1.0f32];
        assert_eq!(x.map(f32::to_bits), want.map(f32::to_bits));

        let mut x = [0.0, -0.0, inf, -inf, 89.0, -104.0];
        exp_in_place(&mut x);
        assert_eq!(x, [1.0, 1.0, inf, 0.0, inf, 0.0]);
    });
}
