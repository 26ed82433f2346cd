//! Gradient descent and its relatives, on flat slices.
//!
//! An optimizer is a small `Copy` description. What it remembers stands in
//! `slots`: so many numbers for every parameter, one slot after the other, each
//! in the parameters' order ([`Optimizer::slots_len`]). Before the first step the
//! slots are set with `init_slots`. `step` counts the updates from 1.
//!
//! An update that would leave numbers from which no training goes on is refused with
//! [`ArgumentError::NotFinite`] before a weight or a slot has changed: if the learning rate or a
//! gradient is not finite (`"learning_rate"`, `"gradients"`), if a new slot might not be (`"slots"`: the square of a gradient of 2e19 is
//! infinite), and for [`Sgd`] and [`Momentum`], whose step grows with the gradient, if a new
//! weight might not be (`"params"`). The steps of the others are bounded by the learning rate. What
//! might be is told from the largest gradient, slot and weight, wherever they are.
//!
//! TensorFlow and PyTorch mean different things by the same names; the
//! constructors `tensorflow` and `pytorch` hold what each of them does by
//! default:
//!
//! | optimizer | TensorFlow 1 | PyTorch |
//! |---|---|---|
//! | [`Adagrad`] | accumulator starts at 0.1, no epsilon | starts at 0, epsilon 1e-10 added to the root |
//! | [`Adam`] | epsilon 1e-8 added to √v before its bias is corrected ("epsilon hat") | added after |
//! | [`RmsProp`] | mean square starts at 1, epsilon 1e-10 inside the root, decay 0.9 | starts at 0, epsilon 1e-8 outside, decay 0.99 |
//! | [`Momentum`] | the same | the same, without dampening |

use crate::error::ArgumentError;
use crate::layout::Cut;
use crate::simd::map::{Block, Elementwise, for_each_block, sum_of_scaled_squares};
use crate::simd::{Arithmetic, Simd, dispatch_inline};

/// Plain gradient descent: w −= η·g. No slots.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sgd {
    /// η.
    pub learning_rate: f32,
}

/// Gradient descent with momentum: a = μ·a + g, then w −= η·a, or with Nesterov's
/// look ahead w −= η·(g + μ·a). One slot, a, from 0.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Momentum {
    /// η.
    pub learning_rate: f32,
    /// μ.
    pub momentum: f32,
    /// Whether to look ahead (Sutskever et al. 2013).
    pub nesterov: bool,
}

/// Adagrad (Duchi et al. 2011): a += g², w −= η·g / (√a + ε). One slot, a.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Adagrad {
    /// η.
    pub learning_rate: f32,
    /// What a starts from.
    pub initial_accumulator: f32,
    /// ε.
    pub epsilon: f32,
}

impl Sgd {
    /// `tf.train.GradientDescentOptimizer(learning_rate)`, `torch.optim.SGD(lr=learning_rate)`.
    pub const fn new(learning_rate: f32) -> Self {
        Self { learning_rate }
    }
}

impl Momentum {
    /// `tf.train.MomentumOptimizer(learning_rate, momentum)`,
    /// `torch.optim.SGD(lr=learning_rate, momentum=momentum)`.
    pub const fn new(learning_rate: f32, momentum: f32) -> Self {
        Self {
            learning_rate,
            momentum,
            nesterov: false,
        }
    }
    /// The same with Nesterov's look ahead.
    pub const fn nesterov(self) -> Self {
        Self {
            nesterov: true,
            ..self
        }
    }
}

impl Adagrad {
    /// `tf.train.AdagradOptimizer(learning_rate)`.
    pub const fn tensorflow(learning_rate: f32) -> Self {
        Self {
            learning_rate,
            initial_accumulator: 0.1,
            epsilon: 0.0,
        }
    }
    /// `torch.optim.Adagrad(lr=learning_rate)`.
    pub const fn pytorch(learning_rate: f32) -> Self {
        Self {
            learning_rate,
            initial_accumulator: 0.0,
            epsilon: 1e-10,
        }
    }
}

/// Adam (Kingma and Ba 2015), and AdamW (Loshchilov and Hutter 2019) if
/// `weight_decay` is not 0. Two slots, m and v, from 0.
///
/// m += (1−β₁)·(g−m) and v += (1−β₂)·(g²−v). With the corrections
/// κ₁ = 1−β₁ᵗ and κ₂ = 1−β₂ᵗ the update is
/// w −= η·m/κ₁ / (√(v/κ₂) + ε), or, if `epsilon_hat`,
/// w −= η·√κ₂/κ₁·m / (√v + ε); before it, w −= η·λ·w.
///
/// The fields hold 1−β and not β: in `f32` 1 − 0.999 is not 0.001, TensorFlow
/// takes the one and PyTorch the other, and v differs by 1.3e-5 of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Adam {
    /// η.
    pub learning_rate: f32,
    /// 1 − β₁.
    pub one_minus_beta1: f32,
    /// 1 − β₂.
    pub one_minus_beta2: f32,
    /// ε.
    pub epsilon: f32,
    /// Whether ε is added to √v before its bias is corrected.
    pub epsilon_hat: bool,
    /// λ, decoupled from the gradient.
    pub weight_decay: f32,
}

impl Adam {
    /// `tf.train.AdamOptimizer(learning_rate)`.
    pub const fn tensorflow(learning_rate: f32) -> Self {
        let (one_minus_beta1, one_minus_beta2) = (1.0 - 0.9, 1.0 - 0.999);
        Self {
            one_minus_beta1,
            one_minus_beta2,
            epsilon_hat: true,
            ..Self::pytorch(learning_rate)
        }
    }
    /// `torch.optim.Adam(lr=learning_rate)`.
    pub const fn pytorch(learning_rate: f32) -> Self {
        Self {
            learning_rate,
            one_minus_beta1: 0.1,
            one_minus_beta2: 0.001,
            epsilon: 1e-8,
            epsilon_hat: false,
            weight_decay: 0.0,
        }
    }
    /// `torch.optim.AdamW(lr=learning_rate)`.
    pub const fn pytorch_adamw(learning_rate: f32) -> Self {
        Self {
            weight_decay: 0.01,
            ..Self::pytorch(learning_rate)
        }
    }
}

/// RMSProp (Hinton 2012). Two slots: the mean square s, and the momentum a from 0.
///
/// s += (1−ρ)·(g²−s), then a = μ·a + η·g / √(s+ε), or g / (√s + ε) unless
/// `epsilon_inside`, then w −= a.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct RmsProp {
    /// η.
    pub learning_rate: f32,
    /// ρ.
    pub decay: f32,
    /// μ.
    pub momentum: f32,
    /// ε.
    pub epsilon: f32,
    /// Whether ε stands inside the root.
    pub epsilon_inside: bool,
    /// What s starts from.
    pub initial_mean_square: f32,
}

impl RmsProp {
    /// `tf.train.RMSPropOptimizer(learning_rate)`.
    pub const fn tensorflow(learning_rate: f32) -> Self {
        Self {
            learning_rate,
            decay: 0.9,
            momentum: 0.0,
            epsilon: 1e-10,
            epsilon_inside: true,
            initial_mean_square: 1.0,
        }
    }
    /// `torch.optim.RMSprop(lr=learning_rate)`.
    pub const fn pytorch(learning_rate: f32) -> Self {
        Self {
            learning_rate,
            decay: 0.99,
            momentum: 0.0,
            epsilon: 1e-8,
            epsilon_inside: false,
            initial_mean_square: 0.0,
        }
    }
}

/// Any of the optimizers, chosen at run time.
///
/// ```
/// use fused_lstm::optimizer::{Adagrad, Optimizer};
///
/// let optimizer = Optimizer::Adagrad(Adagrad::tensorflow(0.3));
/// let (mut params, mut slots) = ([1.0, -1.0], [0.0; 2]);
/// assert_eq!(optimizer.slots_len(params.len()), slots.len());
/// optimizer.init_slots(&mut slots);
/// optimizer.update(1, &mut params, &[0.5, -0.5], &mut slots)?;
/// let moved = 0.3 * 0.5 / (0.1f32 + 0.25).sqrt();
/// assert!((params[0] - (1.0 - moved)).abs() < 1e-7);
/// assert_eq!(slots, [0.35, 0.35]);
/// # Ok::<(), fused_lstm::ArgumentError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Optimizer {
    /// Plain gradient descent.
    Sgd(Sgd),
    /// With momentum.
    Momentum(Momentum),
    /// Adagrad.
    Adagrad(Adagrad),
    /// Adam and AdamW.
    Adam(Adam),
    /// RMSProp.
    RmsProp(RmsProp),
}

impl Optimizer {
    /// Numbers remembered for each parameter.
    pub const fn slots(&self) -> usize {
        match self {
            Self::Sgd(_) => 0,
            Self::Momentum(_) | Self::Adagrad(_) => 1,
            Self::Adam(_) | Self::RmsProp(_) => 2,
        }
    }

    /// The length of `slots` for `params` parameters.
    pub const fn slots_len(&self, params: usize) -> usize {
        self.slots().saturating_mul(params)
    }

    /// The same with another learning rate: that of a schedule is an argument of each update.
    ///
    /// ```
    /// use fused_lstm::optimizer::{Adam, Optimizer};
    ///
    /// let optimizer = Optimizer::Adam(Adam::pytorch(0.01));
    /// let (mut params, mut slots) = ([1.0], [0.0; 2]);
    /// optimizer.init_slots(&mut slots);
    /// for step in 1..=100 {
    ///     let rate = 0.01 / (step as f32).sqrt();
    ///     optimizer.with_learning_rate(rate).update(step, &mut params, &[1.0], &mut slots)?;
    /// }
    /// assert!(params[0] < 0.9);
    /// # Ok::<(), fused_lstm::ArgumentError>(())
    /// ```
    pub const fn with_learning_rate(self, learning_rate: f32) -> Self {
        match self {
            Self::Sgd(_) => Self::Sgd(Sgd { learning_rate }),
            Self::Momentum(own) => Self::Momentum(Momentum {
                learning_rate,
                ..own
            }),
            Self::Adagrad(own) => Self::Adagrad(Adagrad {
                learning_rate,
                ..own
            }),
            Self::Adam(own) => Self::Adam(Adam {
                learning_rate,
                ..own
            }),
            Self::RmsProp(own) => Self::RmsProp(RmsProp {
                learning_rate,
                ..own
            }),
        }
    }

    /// Sets the slots to what they are before the first step.
    pub fn init_slots(&self, slots: &mut [f32]) {
        let first = match self {
            Self::Adagrad(adagrad) => adagrad.initial_accumulator,
            Self::RmsProp(rms) => rms.initial_mean_square,
            _ => 0.0,
        };
        let (first_slot, others) = {
            let at = slots.len().checked_div(self.slots()).unwrap_or(0);
            slots.cut(at)
        };
        first_slot.fill(first);
        others.fill(0.0);
    }

    /// One update: `params` is changed, `gradients` read, `slots` changed, or nothing if the
    /// update is refused. `step` is 1 for the first update; only [`Adam`] looks at it.
    ///
    /// ```
    /// use fused_lstm::ArgumentError;
    /// use fused_lstm::optimizer::{Adagrad, Optimizer};
    ///
    /// let optimizer = Optimizer::Adagrad(Adagrad::tensorflow(0.3));
    /// let (mut params, mut slots) = ([1.0], [0.1]);
    /// let refused = optimizer.update(1, &mut params, &[2e19], &mut slots); // its square is infinite
    /// assert_eq!(refused, Err(ArgumentError::NotFinite { what: "slots" }));
    /// assert_eq!((params, slots), ([1.0], [0.1]));
    /// ```
    pub fn update(
        &self,
        step: u32,
        params: &mut [f32],
        gradients: &[f32],
        slots: &mut [f32],
    ) -> Result<(), ArgumentError> {
        match self {
            Self::Sgd(o) => o.update(params, gradients),
            Self::Momentum(o) => o.update(params, gradients, slots),
            Self::Adagrad(o) => o.update(params, gradients, slots),
            Self::Adam(o) => o.update(step, params, gradients, slots),
            Self::RmsProp(o) => o.update(params, gradients, slots),
        }
    }
}

/// The buffers of one update, of one length, and what to do with them.
struct Update<'a, R> {
    params: &'a mut [f32],
    gradients: &'a [f32],
    slots: [&'a mut [f32]; 2],
    rule: R,
}

/// One optimizer's formula: new parameters and slots.
trait Rule: Copy {
    const SLOTS: usize;
    fn rate(self) -> f32;
    fn apply<A: Arithmetic>(self, s: A, w: A::V, g: A::V, slots: [A::V; 2]) -> (A::V, [A::V; 2]);

    /// What might not be finite after an update, from the largest magnitudes of a gradient and a
    /// slot. Most slots are sums of squares, and bound the step.
    fn lost(self, gradient: f32, slot: f32, _params: &[f32]) -> Option<&'static str> {
        (!fits(slot + gradient * gradient)).then_some("slots")
    }
}

/// The step over its root. A root of 0 is that of gradients that were all 0, and takes no step.
#[inline(always)]
fn quotient<A: Arithmetic>(s: A, step: A::V, root: A::V) -> A::V {
    let zero = s.splat(0.0);
    s.select_lt(zero, root, s.div(step, root), zero)
}

/// Whether a bound is finite, with room for roundings. NaN is not.
fn fits(bound: f32) -> bool {
    bound < 0.999 * f32::MAX
}

/// The largest magnitude; infinity or NaN if not all numbers are finite. By their bits, which
/// ascend with the magnitude.
#[inline(never)]
fn largest(values: &[f32]) -> f32 {
    let magnitude = |v: &f32| v.to_bits() & (u32::MAX >> 1);
    f32::from_bits(values.iter().map(magnitude).fold(0, u32::max))
}

impl<R: Rule> Elementwise for Update<'_, R> {
    #[inline(always)]
    fn block<A: Arithmetic>(&mut self, s: A, at: impl Block<A>) {
        let mut slots = [s.splat(0.0); 2];
        for (v, slot) in slots.iter_mut().zip(&self.slots).take(R::SLOTS) {
            *v = at.load(slot);
        }
        let (w, slots) = self
            .rule
            .apply(s, at.load(self.params), at.load(self.gradients), slots);
        at.store(self.params, w);
        for (v, slot) in slots.into_iter().zip(&mut self.slots).take(R::SLOTS) {
            at.store(slot, v);
        }
    }
}

/// The error of the first buffer that has another length than it should: one function for all
/// rules, where code must be small.
#[cold]
#[inline(never)]
fn wrong_length(
    params: &[f32],
    gradients: &[f32],
    slots_len: usize,
    slots: &[f32],
) -> ArgumentError {
    let (what, expected, got) = if gradients.len() == params.len() {
        ("slots", slots_len, slots.len())
    } else {
        ("gradients", params.len(), gradients.len())
    };
    ArgumentError::Length {
        what,
        expected,
        got,
    }
}

fn run<R: Rule>(
    rule: R,
    params: &mut [f32],
    gradients: &[f32],
    slots: &mut [f32],
) -> Result<(), ArgumentError> {
    let slots_len = R::SLOTS.saturating_mul(params.len());
    if gradients.len() != params.len() || slots.len() != slots_len {
        return Err(wrong_length(params, gradients, slots_len, slots));
    }
    let gradient = largest(gradients);
    let lost = if !rule.rate().is_finite() {
        Some("learning_rate")
    } else if gradient.is_finite() {
        rule.lost(gradient, largest(slots), params)
    } else {
        Some("gradients")
    };
    if let Some(what) = lost {
        return Err(ArgumentError::NotFinite { what });
    }
    let (first, second) = slots.cut(if R::SLOTS == 0 { 0 } else { params.len() });
    let len = params.len();
    let slots = [first, second];
    let mut update = Update {
        params,
        gradients,
        slots,
        rule,
    };
    let update = &mut update;
    dispatch_inline!(s => for_each_block(s, len, update));
    Ok(())
}

impl Sgd {
    /// One update: `params` is changed, `gradients` read.
    ///
    /// ```
    /// let mut params = [1.0];
    /// fused_lstm::optimizer::Sgd::new(0.5).update(&mut params, &[1.0])?;
    /// assert_eq!(params, [0.5]);
    /// # Ok::<(), fused_lstm::ArgumentError>(())
    /// ```
    pub fn update(&self, params: &mut [f32], gradients: &[f32]) -> Result<(), ArgumentError> {
        run(*self, params, gradients, &mut [])
    }
}

impl Rule for Sgd {
    const SLOTS: usize = 0;
    fn rate(self) -> f32 {
        self.learning_rate
    }
    fn lost(self, gradient: f32, _slot: f32, params: &[f32]) -> Option<&'static str> {
        let step = self.learning_rate * gradient;
        (!fits(largest(params) + step.abs())).then_some("params")
    }
    #[inline(always)]
    fn apply<A: Arithmetic>(self, s: A, w: A::V, g: A::V, slots: [A::V; 2]) -> (A::V, [A::V; 2]) {
        (s.fma(s.splat(-self.learning_rate), g, w), slots)
    }
}

impl Momentum {
    /// One update: `params` and `slots` are changed, `gradients` read.
    ///
    /// ```
    /// use fused_lstm::optimizer::Momentum;
    /// let momentum = Momentum::new(0.5, 0.5);
    /// let (mut params, mut slots) = ([1.0], [2.0]);
    /// momentum.update(&mut params, &[1.0], &mut slots)?;
    /// assert_eq!((params, slots), ([0.0], [2.0]));
    /// # Ok::<(), fused_lstm::ArgumentError>(())
    /// ```
    pub fn update(
        &self,
        params: &mut [f32],
        gradients: &[f32],
        slots: &mut [f32],
    ) -> Result<(), ArgumentError> {
        run(*self, params, gradients, slots)
    }
}

impl Rule for Momentum {
    const SLOTS: usize = 1;
    fn rate(self) -> f32 {
        self.learning_rate
    }
    fn lost(self, gradient: f32, slot: f32, params: &[f32]) -> Option<&'static str> {
        let momentum = self.momentum.abs();
        let a = momentum * slot + gradient;
        if !fits(a) {
            return Some("slots");
        }
        let direction = if self.nesterov {
            momentum * a + gradient
        } else {
            a
        };
        let step = self.learning_rate * direction;
        (!fits(largest(params) + step.abs())).then_some("params")
    }
    #[inline(always)]
    fn apply<A: Arithmetic>(
        self,
        s: A,
        w: A::V,
        g: A::V,
        [a, unused]: [A::V; 2],
    ) -> (A::V, [A::V; 2]) {
        let momentum = s.splat(self.momentum);
        let a = s.fma(momentum, a, g);
        let direction = if self.nesterov {
            s.fma(momentum, a, g)
        } else {
            a
        };
        (
            s.fma(s.splat(-self.learning_rate), direction, w),
            [a, unused],
        )
    }
}

impl Adagrad {
    /// One update: `params` and `slots` are changed, `gradients` read.
    ///
    /// ```
    /// use fused_lstm::optimizer::Adagrad;
    /// let (mut params, mut slots) = ([1.0], [0.0]);
    /// Adagrad::pytorch(0.25).update(&mut params, &[2.0], &mut slots)?;
    /// assert_eq!((params, slots), ([0.75], [4.0]));
    /// # Ok::<(), fused_lstm::ArgumentError>(())
    /// ```
    pub fn update(
        &self,
        params: &mut [f32],
        gradients: &[f32],
        slots: &mut [f32],
    ) -> Result<(), ArgumentError> {
        run(*self, params, gradients, slots)
    }
}

impl Rule for Adagrad {
    const SLOTS: usize = 1;
    fn rate(self) -> f32 {
        self.learning_rate
    }
    #[inline(always)]
    fn apply<A: Arithmetic>(
        self,
        s: A,
        w: A::V,
        g: A::V,
        [a, unused]: [A::V; 2],
    ) -> (A::V, [A::V; 2]) {
        let a = s.fma(g, g, a);
        let root = s.add(s.sqrt(a), s.splat(self.epsilon));
        let step = quotient(s, s.mul(s.splat(self.learning_rate), g), root);
        (s.sub(w, step), [a, unused])
    }
}

impl Adam {
    /// Update number `step`, from 1: `params` and `slots` are changed, `gradients`
    /// read.
    ///
    /// ```
    /// use fused_lstm::optimizer::Adam;
    /// let (mut params, mut slots) = ([1.0], [0.0; 2]);
    /// Adam::pytorch(0.25).update(1, &mut params, &[3.0], &mut slots)?;
    /// assert!((params[0] - 0.75).abs() < 1e-6); // the first step is the learning rate
    /// # Ok::<(), fused_lstm::ArgumentError>(())
    /// ```
    pub fn update(
        &self,
        step: u32,
        params: &mut [f32],
        gradients: &[f32],
        slots: &mut [f32],
    ) -> Result<(), ArgumentError> {
        // 1 − βᵗ, without the cancellation.
        let correction =
            |one_minus_beta: f32| -libm::expm1f(step.max(1) as f32 * libm::log1pf(-one_minus_beta));
        let correction1 = correction(self.one_minus_beta1);
        let correction2 = libm::sqrtf(correction(self.one_minus_beta2));
        let (rate, root_scale) = if self.epsilon_hat {
            (self.learning_rate * correction2 / correction1, 1.0)
        } else {
            (self.learning_rate / correction1, 1.0 / correction2)
        };
        let rule = AdamRule {
            rate,
            root_scale,
            one_minus_beta1: self.one_minus_beta1,
            one_minus_beta2: self.one_minus_beta2,
            epsilon: self.epsilon,
            keep: 1.0 - self.learning_rate * self.weight_decay,
        };
        run(rule, params, gradients, slots)
    }
}

/// [`Adam`] with what depends on the step worked out.
#[derive(Clone, Copy)]
struct AdamRule {
    rate: f32,
    root_scale: f32,
    one_minus_beta1: f32,
    one_minus_beta2: f32,
    epsilon: f32,
    keep: f32,
}

impl Rule for AdamRule {
    const SLOTS: usize = 2;
    fn rate(self) -> f32 {
        self.rate
    }
    #[inline(always)]
    fn apply<A: Arithmetic>(self, s: A, w: A::V, g: A::V, [m, v]: [A::V; 2]) -> (A::V, [A::V; 2]) {
        let m = s.fma(s.splat(self.one_minus_beta1), s.sub(g, m), m);
        let v = s.fma(s.splat(self.one_minus_beta2), s.sub(s.mul(g, g), v), v);
        let root = s.fma(s.sqrt(v), s.splat(self.root_scale), s.splat(self.epsilon));
        let step = quotient(s, s.mul(s.splat(self.rate), m), root);
        (s.sub(s.mul(s.splat(self.keep), w), step), [m, v])
    }
}

impl RmsProp {
    /// One update: `params` and `slots` are changed, `gradients` read.
    ///
    /// ```
    /// use fused_lstm::optimizer::RmsProp;
    /// let mut rms = RmsProp::pytorch(0.25);
    /// rms.decay = 0.0;
    /// let (mut params, mut slots) = ([1.0], [0.0; 2]);
    /// rms.update(&mut params, &[2.0], &mut slots)?;
    /// assert_eq!((params, slots), ([0.75], [4.0, 0.25]));
    /// # Ok::<(), fused_lstm::ArgumentError>(())
    /// ```
    pub fn update(
        &self,
        params: &mut [f32],
        gradients: &[f32],
        slots: &mut [f32],
    ) -> Result<(), ArgumentError> {
        run(*self, params, gradients, slots)
    }
}

impl Rule for RmsProp {
    const SLOTS: usize = 2;
    fn rate(self) -> f32 {
        self.learning_rate
    }
    #[inline(always)]
    fn apply<A: Arithmetic>(
        self,
        s: A,
        w: A::V,
        g: A::V,
        [square, a]: [A::V; 2],
    ) -> (A::V, [A::V; 2]) {
        let change = s.sub(s.mul(g, g), square);
        let square = s.fma(s.splat(1.0 - self.decay), change, square);
        let epsilon = s.splat(self.epsilon);
        let root = if self.epsilon_inside {
            s.sqrt(s.add(square, epsilon))
        } else {
            s.add(s.sqrt(square), epsilon)
        };
        let step = quotient(s, s.mul(s.splat(self.learning_rate), g), root);
        let a = s.fma(s.splat(self.momentum), a, step);
        (s.sub(w, a), [square, a])
    }
}

/// Scales `gradients` so that their norm is at most `clip_norm`, and gives the
/// norm that they had: TensorFlow's `clip_by_global_norm` of all of them as one
/// vector.
///
/// The squares may be beyond the range of `f32` as long as the gradients are not; the norm that is
/// given is infinite if it is itself beyond. Gradients that are not finite are refused with
/// [`ArgumentError::NotFinite`], a `clip_norm` that is not above zero with
/// [`ArgumentError::NotPositive`], and `gradients` stays as it was.
///
/// ```
/// use fused_lstm::optimizer::clip_by_global_norm;
///
/// let mut gradients = [3.0, 4.0];
/// assert_eq!(clip_by_global_norm(&mut gradients, 1.0)?, 5.0);
/// assert!((gradients[0] - 0.6).abs() < 1e-7 && (gradients[1] - 0.8).abs() < 1e-7);
/// assert_eq!(clip_by_global_norm(&mut gradients, 10.0)?, 1.0); // and no change
///
/// let mut gradients = [2e19, 0.0];
/// assert_eq!(clip_by_global_norm(&mut gradients, 1.0)?, 2e19);
/// assert_eq!(gradients, [1.0, 0.0]);
/// # Ok::<(), fused_lstm::ArgumentError>(())
/// ```
pub fn clip_by_global_norm(gradients: &mut [f32], clip_norm: f32) -> Result<f32, ArgumentError> {
    // NaN is not above zero either.
    if clip_norm > 0.0 {
        dispatch_inline!(s => clip(s, gradients, clip_norm))
    } else {
        Err(ArgumentError::NotPositive { what: "clip_norm" })
    }
}

#[inline(always)]
fn clip<S: Simd>(s: S, gradients: &mut [f32], clip_norm: f32) -> Result<f32, ArgumentError> {
    /// Times this the square of the largest number, and times its inverse that of the
    /// smallest, is well within the range of `f32`.
    const DOWN: f32 = 1.0 / UP;
    const UP: f32 = (1u128 << 100) as f32;
    /// Squares that underflow leave no trace in a sum from here on.
    const SMALL: f32 = 1.0 / (1u128 << 90) as f32;

    let (mut scale, mut unscale) = (1.0, 1.0);
    let sum = loop {
        let sum = sum_of_scaled_squares(s, gradients, scale);
        // Once more if squares have overflown or vanished. A sum of NaN stays one.
        if scale != 1.0 || !(sum == f32::INFINITY || sum < SMALL) {
            break sum;
        }
        (scale, unscale) = if sum < SMALL { (UP, DOWN) } else { (DOWN, UP) };
    };
    if !sum.is_finite() {
        return Err(ArgumentError::NotFinite { what: "gradients" });
    }
    let scaled_norm = libm::sqrtf(sum);
    let norm = scaled_norm * unscale;
    if norm > clip_norm {
        let (mut factor, mut shrink) = (clip_norm / scaled_norm, 1.0);
        // A subnormal factor has too few digits.
        if factor < f32::MIN_POSITIVE {
            (factor, shrink) = (clip_norm / SMALL / scaled_norm, SMALL);
        }
        for g in gradients {
            *g = *g * scale * shrink * factor;
        }
    }
    Ok(norm)
}
