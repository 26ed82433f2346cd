//! The gradients that training uses against finite differences of the oracle's
//! loss, and the losses against their own definitions.

use fused_lstm::{DenseShape, Extent, LossGradient, Model, NetworkShape, dense, loss};
use fused_lstm_tests::levels::each_level;
use fused_lstm_tests::oracle::{classifier_loss, wide};
use fused_lstm_tests::random::Random;

#[test]
fn classifier_gradients_are_slopes_of_the_loss() {
    for hidden in [&[4usize, 4, 4][..], &[4, 5], &[9]] {
        let shape = NetworkShape::new(2, hidden).with_head(3);
        let extent = Extent { steps: 5, batch: 3 };
        let mut random = Random(hidden.len() as u64);
        let params = random.vec(shape.params_len(), 0.7);
        let x = random.vec(extent.rows() * 2, 1.0);
        let initial = random.vec(shape.state_len(3), 0.5);
        let labels: Vec<u32> = (0..15).map(|k| k % 3).collect();
        let value = |params: &[f64]| {
            classifier_loss(shape, params, extent, &wide(&x), &labels, &wide(&initial))
        };
        let slope = |k: usize| {
            let moved = |by: f64| {
                let mut params = wide(&params);
                params[k] += by;
                value(&params)
            };
            (moved(1e-5) - moved(-1e-5)) / 2e-5
        };
        let slopes: Vec<f64> = (0..params.len()).map(slope).collect();
        each_level(|level| {
            let mut gradients = vec![0.0; params.len()];
            let loss = Model::new(shape, &params)
                .unwrap()
                .loss_gradient(
                    extent,
                    &labels,
                    LossGradient {
                        x: &x,
                        state: &mut initial.clone(),
                        gradients: &mut gradients,
                        outputs: &mut vec![0.0; shape.logits_len(extent)],
                        cache: &mut vec![0.0; shape.cache_len(extent)],
                        workspace: &mut vec![0.0; shape.workspace_len(extent)],
                    },
                )
                .unwrap();
            assert!((f64::from(loss) - value(&wide(&params))).abs() < 1e-6);
            for (k, (&got, want)) in gradients.iter().zip(&slopes).enumerate() {
                assert!(
                    (f64::from(got) - want).abs() < 1e-6,
                    "{level} [{k}]: {got}, not {want}"
                );
            }
        });
    }
}

#[test]
fn losses_are_exact_where_they_can_be() {
    each_level(|_| {
        // A certain and right answer costs its small probability of being wrong,
        // even where 1 minus it rounds to 1.
        let (mut logits, mut dlogits) = ([0.0, -20.0], [0.0; 2]);
        let loss = loss::softmax_cross_entropy(2, &mut logits, &[0], &mut dlogits).unwrap();
        assert!((loss / (-20f32).exp() - 1.0).abs() < 1e-6, "{loss:e}");
        // Wherever the logits lie.
        for offset in [-1e4, 1e4] {
            let (mut logits, mut dlogits) = ([offset, offset + 1.0], [0.0; 2]);
            let loss = loss::softmax_cross_entropy(2, &mut logits, &[0], &mut dlogits).unwrap();
            assert!((loss - (1.0 + 1f32.exp()).ln()).abs() < 1e-6);
            assert!((dlogits[0] + dlogits[1]).abs() < 1e-7);
        }
        // NaN and infinity are not hidden.
        for bad in [f32::NAN, f32::INFINITY] {
            let (mut logits, mut dlogits) = ([0.0, bad, 0.0, 0.0], [0.0; 4]);
            let loss = loss::softmax_cross_entropy(2, &mut logits, &[0, 0], &mut dlogits).unwrap();
            assert!(loss.is_nan());
            assert!(logits[0].is_nan() && dlogits[0].is_nan());
        }
        let n = 1000;
        let mut random = Random(1);
        let (y, target) = (random.vec(n, 1.0), random.vec(n, 1.0));
        let mut dy = vec![0.0; n];
        let loss = loss::mean_squared_error(&y, &target, &mut dy).unwrap();
        let want: f64 = y
            .iter()
            .zip(&target)
            .map(|(y, t)| f64::from(y - t).powi(2))
            .sum();
        assert!((f64::from(loss) - want / n as f64).abs() < 1e-6);
        for ((dy, y), t) in dy.iter().zip(&y).zip(&target) {
            assert!((dy - 2.0 * (y - t) / n as f32).abs() < 1e-9);
        }
    });
}

#[test]
fn dense_backward_is_the_transpose_of_forward() {
    // For every dy: ⟨forward(x) − b, dy⟩ = ⟨x, dx⟩ = ⟨W, dW⟩.
    each_level(|_| {
        for (inputs, outputs, rows) in [(1, 1, 1), (4, 2, 75), (33, 17, 5), (64, 3, 8)] {
            let shape = DenseShape::new(inputs, outputs);
            let mut random = Random(inputs as u64);
            let params = random.vec(shape.params_len(), 1.0);
            let x = random.vec(rows * inputs, 1.0);
            let dy = random.vec(rows * outputs, 1.0);
            let mut y = vec![0.0; dy.len()];
            dense::forward(shape, rows, &params, &x, &mut y).unwrap();
            let mut gradients = vec![0.0; params.len()];
            let (mut dx, mut work) = (vec![0.0; x.len()], vec![0.0; shape.kernel_len()]);
            dense::backward(
                shape,
                rows,
                dense::Backward {
                    params: &params,
                    x: &x,
                    dy: &dy,
                    gradients: &mut gradients,
                    dx: &mut dx,
                    workspace: &mut work,
                },
            )
            .unwrap();
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                a.iter()
                    .zip(b)
                    .map(|(a, b)| f64::from(*a) * f64::from(*b))
                    .sum()
            };
            let bias = shape.kernel_len();
            let without_bias = dot(&y, &dy) - dot(&params[bias..], &gradients[bias..]);
            assert!((without_bias - dot(&x, &dx)).abs() < 1e-3);
            assert!((without_bias - dot(&params[..bias], &gradients[..bias])).abs() < 1e-3);
        }
    });
}
