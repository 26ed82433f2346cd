//! Dropout and zoneout: masks that are drawn for each row and step, so that their bits depend neither on
//! threads nor on where a batch is cut.

use super::Dropout;
use fused_lstm::{Chain, Extent, LstmStage, Stage};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Which rows and steps masks are drawn for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// The run's seed, and the number of the epoch.
    pub(super) seed: u64,
    pub(super) epoch: u64,
    /// The sequences that are the rows.
    pub(super) rows: &'a [usize],
    /// The first step.
    pub(super) first: usize,
    pub(super) steps: usize,
}

impl Place<'_> {
    /// The numbers of a kind of mask, of a row, from a step on.
    fn random(&self, kind: u64, row: usize, at: usize) -> ChaCha8Rng {
        // Other numbers than those that weights and the order of the data are drawn from.
        let seed = self.seed ^ 0x6d61_736b ^ self.epoch.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(kind << 48 ^ row as u64);
        random.set_word_pos(at as u128);
        random
    }
}

/// A number from 0 up to less than 1.
fn unit(random: &mut ChaCha8Rng) -> f32 {
    (random.next_u32() >> 8) as f32 / (1 << 24) as f32
}

/// Overwrites the masks of all stages.
pub(super) fn draw(chain: Chain, dropout: Dropout, place: Place, masks: &mut Vec<f32>) {
    masks.clear();
    let extent = Extent {
        steps: place.steps,
        batch: place.rows.len(),
    };
    let mut width = chain.inputs();
    for (index, stage) in chain.stages().iter().enumerate() {
        let kind = 8 * index as u64;
        match stage {
            Stage::Mask { .. } => {
                for &row in place.rows {
                    kept(
                        &mut place.random(kind, row, 0),
                        dropout.between,
                        width,
                        masks,
                    );
                }
            }
            Stage::Lstm(lstm) => {
                for direction in 0..lstm.direction.count() as u64 {
                    of_layer(lstm, dropout, place, kind + 4 * direction, masks);
                }
            }
            _ => {}
        }
        width = stage.width(width);
    }
    debug_assert_eq!(
        masks.len(),
        Chain::lengths(chain.inputs(), chain.stages(), extent).masks
    );
}

fn of_layer(lstm: &LstmStage, dropout: Dropout, place: Place, kind: u64, masks: &mut Vec<f32>) {
    if lstm.recurrent_mask {
        for &row in place.rows {
            let mut random = place.random(kind, row, 0);
            kept(&mut random, dropout.recurrent, lstm.outputs(), masks);
        }
    }
    let zoneout = lstm.cell.zoneout;
    let states = [
        (zoneout.cell, lstm.layer.hidden, kind + 1),
        (zoneout.hidden, lstm.outputs(), kind + 2),
    ];
    for (rate, width, kind) in states {
        if rate == 0.0 {
            continue;
        }
        for step in place.first..place.first + place.steps {
            for &row in place.rows {
                let mut random = place.random(kind, row, step * width);
                masks.extend((0..width).map(|_| f32::from(unit(&mut random) < rate)));
            }
        }
    }
}

/// 0 with the probability `rate`, else one over the share that is kept.
fn kept(random: &mut ChaCha8Rng, rate: f32, width: usize, masks: &mut Vec<f32>) {
    let keep = 1.0 / (1.0 - rate);
    masks.extend((0..width).map(|_| if unit(random) < rate { 0.0 } else { keep }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use fused_lstm::{Cell, DenseShape, LayerShape, Zoneout};

    fn stages() -> [Stage; 4] {
        let layer = LayerShape::new(2, 64);
        let cell = Cell {
            zoneout: Zoneout {
                cell: 0.1,
                hidden: 0.3,
            },
            ..Cell::PLAIN
        };
        [
            Stage::Lstm(LstmStage {
                cell,
                recurrent_mask: true,
                ..LstmStage::new(layer)
            }),
            Stage::Mask { per_step: false },
            Stage::Dense(DenseShape::new(64, 3)),
            Stage::Mask { per_step: false },
        ]
    }

    fn masks(rows: &[usize], first: usize, steps: usize) -> Vec<f32> {
        let stages = stages();
        let lens = Chain::lengths(2, &stages, Extent { steps: 1, batch: 1 });
        let params = vec![0.0; lens.params];
        let chain = Chain::new(2, &stages, &params).expect("a chain");
        let dropout = Dropout {
            between: 0.5,
            recurrent: 0.2,
        };
        let place = Place {
            seed: 7,
            epoch: 3,
            rows,
            first,
            steps,
        };
        let mut masks = Vec::new();
        draw(chain, dropout, place, &mut masks);
        masks
    }

    /// The parts of the masks of so many rows and steps: of the recurrence, of both zoneouts, and of the
    /// two stages.
    fn parts(all: &[f32], rows: usize, steps: usize) -> [Vec<f32>; 5] {
        let mut rest = all;
        [
            rows * 64,
            steps * rows * 64,
            steps * rows * 64,
            rows * 64,
            rows * 3,
        ]
        .map(|len| {
            let (own, after) = rest.split_at(len);
            rest = after;
            own.to_vec()
        })
    }

    #[test]
    fn their_mean_is_what_it_should_be() {
        let rows: Vec<usize> = (0..200).collect();
        let parts = parts(&masks(&rows, 0, 20), 200, 20);
        let mean = |part: &[f32]| part.iter().sum::<f32>() / part.len() as f32;
        // Of 12,800 numbers and of 256,000; five standard deviations.
        assert!((mean(&parts[0]) - 1.0).abs() < 5.0 * 0.5 / 113.0);
        assert!((mean(&parts[1]) - 0.1).abs() < 5.0 * 0.3 / 506.0);
        assert!((mean(&parts[2]) - 0.3).abs() < 5.0 * 0.46 / 506.0);
        assert!((mean(&parts[3]) - 1.0).abs() < 5.0 * 1.0 / 113.0);
        assert!(parts[0].iter().all(|&m| m == 0.0 || m == 1.25));
        assert!(parts[3].iter().all(|&m| m == 0.0 || m == 2.0));
    }

    #[test]
    fn they_do_not_depend_on_cuts() {
        let whole = parts(&masks(&[4, 9, 2], 0, 6), 3, 6);
        // Rows of their own.
        let row = parts(&masks(&[9], 0, 6), 1, 6);
        assert_eq!(row[0], whole[0][64..128]);
        assert_eq!(row[3], whole[3][64..128]);
        let steps = row[1].chunks(64).zip(whole[1].chunks(3 * 64));
        steps.for_each(|(one, all)| assert_eq!(one, &all[64..128]));
        // Later steps of the same rows.
        let later = parts(&masks(&[4, 9, 2], 4, 2), 3, 2);
        assert_eq!(later[0], whole[0]);
        assert_eq!(later[2], whole[2][4 * 3 * 64..]);
        // And other rows have others.
        assert_ne!(whole[0][..64], whole[0][64..128]);
    }
}
