//! LSTM layers, in one direction and in two.

use super::build::{Builder, Refused};
use super::config::{Entry, Wrong};
use super::lstm;
use super::store::{Side, Weights};
use crate::Error;
use crate::import::{Kind, Lstm};
use fused_lstm::{Activation, Cell, Direction, Returns};
use serde_json::Value;

impl Builder<'_> {
    /// The equations of an LSTM, or why it is not run.
    fn cell(&mut self, entry: &Entry) -> Result<Result<Cell, Refused>, Error> {
        if entry.class == "CuDNNLSTM" {
            return Ok(Ok(Cell::PLAIN));
        }
        for key in ["activation", "recurrent_activation"] {
            if !entry.settings.contains_key(key) {
                return Err(self.problem(entry, format!("expected {key}, got none")));
            }
        }
        let gates = self.function(entry.settings.get("recurrent_activation"));
        let candidate = self.function(entry.settings.get("activation"));
        Ok(match (gates, candidate) {
            (Err(name), _) | (_, Err(name)) => Err(name),
            (Ok(Activation::Softmax), _) | (_, Ok(Activation::Softmax)) => {
                Err("softmax".to_owned())
            }
            (Ok(gates), Ok(candidate)) => Ok(Cell {
                gates,
                candidate,
                output: candidate,
                ..Cell::PLAIN
            }),
        })
    }

    /// The layer in the forward direction that returns the sequence, and whether it goes
    /// backwards and returns the sequence; or why it is not run.
    fn one_lstm(
        &mut self,
        entry: &Entry,
        name: &str,
        weights: &Weights,
    ) -> Result<Result<(Lstm, bool, bool), Refused>, Error> {
        let store = self.store;
        let wrong = |e: Wrong| store.problem(format!("layer {name}: {e}"));
        let units = entry.count("units").map_err(wrong)?;
        let biased = entry.class == "CuDNNLSTM" || entry.flag("use_bias", true).map_err(wrong)?;
        let backwards = entry.flag("go_backwards", false).map_err(wrong)?;
        let sequence = entry.flag("return_sequences", false).map_err(wrong)?;
        let stateful = entry.flag("stateful", false).map_err(wrong)?;
        let dropout = entry.number("dropout", 0.0).map_err(wrong)? != 0.0
            || entry.number("recurrent_dropout", 0.0).map_err(wrong)? != 0.0;
        let cell = match self.cell(entry)? {
            Ok(cell) => cell,
            Err(function) => return Ok(Err(format!("activation {function}"))),
        };
        let roles = lstm::ROLES.get(..if biased { 3 } else { 2 }).unwrap_or(&[]);
        let loaded = weights.load(store, name, roles)?;
        let params = lstm::params(store, name, &loaded, self.width, Some(units))?;
        if params.cudnn {
            self.note(format!(
                "layer {name}: the weights were in cuDNN's layout, with two biases"
            ));
        }
        if stateful {
            self.note(format!(
                "layer {name} is stateful: Keras goes on from the state of the batch before, which is the caller's here"
            ));
        }
        if dropout {
            self.note("dropout, noise and regularisation are left out: they act in training only");
        }
        let mut lstm = Lstm::new(params.layer, params.params);
        lstm.cell = cell;
        Ok(Ok((lstm, backwards, sequence)))
    }

    pub(super) fn lstm(&mut self, entry: &Entry, weights: &Weights) -> Result<(), Error> {
        let name = &entry.name;
        let (mut lstm, backwards, sequence) = match self.one_lstm(entry, name, weights)? {
            Ok(found) => found,
            Err(why) => {
                let shapes = weights.describe(self.store);
                self.other(name, format!("{} with {why}{shapes}", entry.class));
                return Ok(());
            }
        };
        match (backwards, sequence) {
            (false, _) => {}
            // Keras returns the steps in the order in which it took them.
            (true, true) => self.push(name, Kind::Reverse),
            (true, false) => lstm.direction = Direction::Reverse,
        }
        self.push_lstm(name, lstm, sequence);
        Ok(())
    }

    fn push_lstm(&mut self, name: &str, mut lstm: Lstm, sequence: bool) {
        if !sequence {
            lstm.returns = Returns::Last;
            self.rank = Some(2);
        }
        let width = lstm.stage().outputs();
        self.width = Some(width.saturating_mul(lstm.direction.count()));
        self.push(name, Kind::Lstm(Box::new(lstm)));
    }

    pub(super) fn bidirectional(&mut self, entry: &Entry, weights: &Weights) -> Result<(), Error> {
        let name = &entry.name;
        let wrong = |e: Wrong| self.store.problem(format!("layer {name}: {e}"));
        let forward = entry.inner("layer").map_err(wrong)?;
        let forward = forward.ok_or_else(|| wrong("expected a layer, got none".to_owned()))?;
        let backward = entry.inner("backward_layer").map_err(wrong)?;
        let shapes = weights.describe(self.store);
        let refuse = |class: &str, why: &str| format!("Bidirectional {class}{why}{shapes}");
        let class = forward.class.as_str();
        if !matches!(class, "LSTM" | "CuDNNLSTM") {
            self.other(name, refuse(class, ""));
            return Ok(());
        }
        // A merge mode of null gives two outputs.
        let mode = entry.settings.get("merge_mode");
        if mode.is_some_and(|mode| mode.as_str() != Some("concat")) {
            let mode = entry.text("merge_mode").unwrap_or("null");
            self.other(name, refuse(class, &format!(" merged by {mode}")));
            return Ok(());
        }
        let backward = backward.unwrap_or_else(|| {
            let mut backward = forward.clone();
            let back = Value::Bool(true);
            backward.settings.insert("go_backwards".to_owned(), back);
            backward
        });
        let mut found = Vec::new();
        for (side, entry) in [(Side::Forward, &forward), (Side::Backward, &backward)] {
            if entry.class != forward.class {
                self.other(name, refuse(class, &format!(" and {}", entry.class)));
                return Ok(());
            }
            match self.one_lstm(
                entry,
                name,
                &weights.side(side, [&forward.name, &backward.name]),
            )? {
                Ok(one) => found.push(one),
                Err(why) => {
                    self.other(name, refuse(class, &format!(" with {why}")));
                    return Ok(());
                }
            }
        }
        let [(mut lstm, first, sequence), (back, second, other)] = match <[_; 2]>::try_from(found) {
            Ok(both) => both,
            Err(_) => return Err(self.problem(entry, "expected two directions".to_owned())),
        };
        let same = lstm.layer == back.layer && lstm.cell == back.cell && sequence == other;
        if !same || first || !second {
            self.other(name, refuse(class, " whose directions differ"));
            return Ok(());
        }
        lstm.direction = Direction::Both;
        lstm.params.extend(back.params);
        self.push_lstm(name, lstm, sequence);
        Ok(())
    }
}
