//! The jobs: the files of each, and its loss.

use super::JobName;
use crate::Error;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A job with its data and its loss.
#[derive(Clone, Debug, PartialEq)]
pub enum Job {
    /// Values to come of a series.
    Forecast {
        /// The series.
        data: Forecast,
        /// The loss.
        loss: ForecastLoss,
    },
    /// A class of a sequence, or of each of its steps.
    Classify {
        /// The sequences.
        data: Classify,
        /// The loss.
        loss: ClassifyLoss,
    },
    /// What a device does to a sound.
    Audio {
        /// The sounds.
        data: Audio,
        /// The loss.
        loss: AudioLoss,
    },
    /// The next character of a text.
    Text {
        /// The text.
        data: Text,
        /// The loss.
        loss: TextLoss,
    },
}

/// Rows of a table, in the order of time, one row a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Forecast {
    /// A CSV file with a header, an NPY file, or a safetensors file whose keys are the columns.
    pub file: PathBuf,
    /// The columns that are read; all if there are none here.
    pub inputs: Vec<String>,
    /// The columns that are foretold; the inputs if there are none here.
    pub targets: Vec<String>,
    /// How many rows ahead.
    pub horizon: usize,
    /// Rows that a forecast is made from.
    pub window: usize,
    /// Rows from the beginning of one window to that of the next, in training.
    pub stride: usize,
    /// Whether the output is added to the last value, so that the network learns the change. The
    /// targets must be inputs that stand side by side.
    pub change: bool,
    /// The part of the rows, before those of the test, that the network is chosen by.
    pub validation: f64,
    /// The part of the rows, the last ones, that it is judged by at the end.
    pub test: f64,
}

/// The loss of a forecast.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", deny_unknown_fields, rename_all = "kebab-case")]
pub enum ForecastLoss {
    /// The mean square of the errors.
    Mse {},
    /// Squares up to `delta`, and a line beyond: torch's `HuberLoss`.
    Huber {
        /// In standard deviations of a target.
        delta: f32,
    },
}

/// Sequences with classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Classify {
    /// A folder of CSV files with a table of labels, or a safetensors file with `x` f32 `[N, T, I]`,
    /// `labels` int32 `[N]` or `[N, T]`, and, where sequences are shorter, `lengths` int32 `[N]`.
    pub source: PathBuf,
    /// Of a folder: the table of labels, in it, with a header; every row is a file.
    pub labels: String,
    /// Its column with the names of the files.
    pub file_column: String,
    /// Its column with the labels. If it has none of that name, but the files do, every step has a
    /// label.
    pub label_column: String,
    /// Its column by which the parts are made, so that what has the same value there is in one part, as
    /// the recordings of one person; sequences are taken one by one if it is empty.
    pub group_column: String,
    /// The columns that are read; all but the label if there are none here.
    pub inputs: Vec<String>,
    /// Sequences are cut into windows of so many steps; 0 for whole sequences.
    pub window: usize,
    /// Steps from the beginning of one window to that of the next, in training.
    pub stride: usize,
    /// Whether a class is that of the mean over a sequence's steps, and not of the last one.
    pub mean: bool,
    /// The part of the sequences that the network is chosen by.
    pub validation: f64,
    /// The part of them that it is judged by at the end.
    pub test: f64,
    /// Groups, by their names, that are the validation's, in the place of a part of all.
    pub validation_groups: Vec<String>,
    /// Groups that are the test's.
    pub test_groups: Vec<String>,
}

/// The loss of classes: cross-entropy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ClassifyLoss {
    /// What each class weighs.
    pub class_weights: ClassWeights,
    /// The part of the target that is spread over all classes.
    pub label_smoothing: f32,
}

/// What each class weighs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClassWeights {
    /// The same.
    Equal,
    /// One over its share of the training data, so that all count the same in sum.
    Balanced,
}

/// A sound before and after a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Audio {
    /// WAV files of what goes in, one channel each; or CSV, NPY or safetensors with such a column.
    pub dry: Vec<PathBuf>,
    /// Those of what comes out, as long as these.
    pub processed: Vec<PathBuf>,
    /// The column of a table that goes in.
    pub dry_column: String,
    /// That of what comes out.
    pub processed_column: String,
    /// Samples of a sequence.
    pub segment: usize,
    /// Whether the output is added to the input, so that the network learns the difference.
    pub skip: bool,
    /// The part of each sound, before that of the test, that the network is chosen by.
    pub validation: f64,
    /// The part of each sound, its end, that it is judged by.
    pub test: f64,
}

/// The loss of a sound: a weighted sum of the mean square of the errors and of their energy beside that
/// of the target, both behind a filter that lifts high frequencies (Wright et al. 2020).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AudioLoss {
    /// The weight of the mean square.
    pub mse: f32,
    /// The weight of the error-to-signal ratio.
    pub esr: f32,
    /// a of the filter y(t) = x(t) − a·x(t−1).
    pub pre_emphasis: f32,
}

/// A text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Text {
    /// A file in UTF-8, or of any bytes.
    pub file: PathBuf,
    /// What a step is.
    pub unit: Unit,
    /// Numbers that stand for a unit and are learnt with the network; 0 for one-hot inputs.
    pub embedding: usize,
    /// The part of the text, before that of the test, that the network is chosen by.
    pub validation: f64,
    /// The part of it, its end, that it is judged by.
    pub test: f64,
    /// Units of a sample that is printed after each epoch; 0 for none.
    pub sample: usize,
}

/// What a step of a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// A Unicode scalar value.
    Character,
    /// A byte.
    Byte,
}

/// The loss of a text: cross-entropy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TextLoss {
    /// The part of the target that is spread over all units.
    pub label_smoothing: f32,
}

impl Job {
    pub(super) fn forecast() -> Self {
        Self::Forecast {
            data: Forecast {
                file: "series.csv".into(),
                inputs: Vec::new(),
                targets: Vec::new(),
                horizon: 1,
                window: 24,
                stride: 1,
                change: false,
                validation: 0.15,
                test: 0.15,
            },
            loss: ForecastLoss::Mse {},
        }
    }

    pub(super) fn classify() -> Self {
        Self::Classify {
            data: Classify {
                source: "recordings".into(),
                labels: "labels.csv".into(),
                file_column: "file".into(),
                label_column: "label".into(),
                group_column: String::new(),
                inputs: Vec::new(),
                window: 0,
                stride: 0,
                mean: false,
                validation: 0.15,
                test: 0.15,
                validation_groups: Vec::new(),
                test_groups: Vec::new(),
            },
            loss: ClassifyLoss {
                class_weights: ClassWeights::Equal,
                label_smoothing: 0.0,
            },
        }
    }

    pub(super) fn audio() -> Self {
        Self::Audio {
            data: Audio {
                dry: vec!["dry.wav".into()],
                processed: vec!["processed.wav".into()],
                dry_column: "dry".into(),
                processed_column: "processed".into(),
                segment: 8192,
                skip: true,
                validation: 0.1,
                test: 0.1,
            },
            loss: AudioLoss {
                mse: 1.0,
                esr: 1.0,
                pre_emphasis: 0.85,
            },
        }
    }

    pub(super) fn text() -> Self {
        Self::Text {
            data: Text {
                file: "text.txt".into(),
                unit: Unit::Character,
                embedding: 32,
                validation: 0.05,
                test: 0.05,
                sample: 200,
            },
            loss: TextLoss {
                label_smoothing: 0.0,
            },
        }
    }

    /// The job's name.
    pub fn name(&self) -> JobName {
        match self {
            Self::Forecast { .. } => JobName::Forecast,
            Self::Classify { .. } => JobName::Classify,
            Self::Audio { .. } => JobName::Audio,
            Self::Text { .. } => JobName::Text,
        }
    }

    /// The files that are read.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        match self {
            Self::Forecast { data, .. } => vec![data.file.clone()],
            Self::Classify { data, .. } => vec![data.source.clone()],
            Self::Audio { data, .. } => [&data.dry[..], &data.processed[..]].concat(),
            Self::Text { data, .. } => vec![data.file.clone()],
        }
    }

    /// The files of another job of the same kind.
    pub(crate) fn take_files(&mut self, other: &Self) {
        match (self, other) {
            (Self::Forecast { data, .. }, Self::Forecast { data: o, .. }) => {
                data.file.clone_from(&o.file)
            }
            (Self::Classify { data, .. }, Self::Classify { data: o, .. }) => {
                data.source.clone_from(&o.source);
            }
            (Self::Audio { data, .. }, Self::Audio { data: o, .. }) => {
                data.dry.clone_from(&o.dry);
                data.processed.clone_from(&o.processed);
            }
            (Self::Text { data, .. }, Self::Text { data: o, .. }) => data.file.clone_from(&o.file),
            _ => {}
        }
    }

    /// Reads other data of the same kind: a file, or a folder. Of sounds, `path` holds the columns.
    pub fn with_file(&mut self, path: PathBuf) {
        match self {
            Self::Forecast { data, .. } => data.file = path,
            Self::Classify { data, .. } => data.source = path,
            Self::Audio { data, .. } => {
                data.dry = vec![path.clone()];
                data.processed = vec![path];
            }
            Self::Text { data, .. } => data.file = path,
        }
    }

    /// Takes all of the data as one part.
    pub(super) fn whole(&mut self) {
        let (validation, test) = match self {
            Self::Forecast { data, .. } => {
                data.stride = 1;
                (&mut data.validation, &mut data.test)
            }
            Self::Classify { data, .. } => {
                data.stride = 0;
                data.validation_groups.clear();
                data.test_groups.clear();
                (&mut data.validation, &mut data.test)
            }
            Self::Audio { data, .. } => {
                data.segment = usize::MAX;
                (&mut data.validation, &mut data.test)
            }
            Self::Text { data, .. } => (&mut data.validation, &mut data.test),
        };
        (*validation, *test) = (0.0, 0.0);
    }

    /// The parts that are not trained on.
    fn parts(&self) -> [f64; 2] {
        match self {
            Self::Forecast { data, .. } => [data.validation, data.test],
            Self::Classify { data, .. } => [data.validation, data.test],
            Self::Audio { data, .. } => [data.validation, data.test],
            Self::Text { data, .. } => [data.validation, data.test],
        }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let parts = self.parts();
        if !(parts.iter().all(|part| (0.0..1.0).contains(part)) && parts[0] + parts[1] < 1.0) {
            let got = format!("{} and {}", parts[0], parts[1]);
            let expected = "parts from 0 on that leave something to train on";
            return Err(Error::recipe(
                "data.validation and data.test",
                expected,
                got,
            ));
        }
        let smoothing = |value: f32| {
            let key = "loss.label-smoothing";
            match (0.0..1.0).contains(&value) {
                true => Ok(()),
                false => Err(Error::recipe(key, "0 up to less than 1", value)),
            }
        };
        let positive = |key, value: usize| match value {
            0 => Err(Error::recipe(key, "at least 1", value)),
            _ => Ok(()),
        };
        match self {
            Self::Forecast { data, loss } => {
                positive("data.horizon", data.horizon)?;
                positive("data.window", data.window)?;
                positive("data.stride", data.stride)?;
                if let ForecastLoss::Huber { delta } = *loss
                    && !(delta.is_finite() && delta > 0.0)
                {
                    return Err(Error::recipe(
                        "loss.delta",
                        "a finite number above 0",
                        delta,
                    ));
                }
                Ok(())
            }
            Self::Classify { loss, .. } => smoothing(loss.label_smoothing),
            Self::Audio { data, loss } => {
                positive("data.segment", data.segment)?;
                if data.dry.is_empty() || data.dry.len() != data.processed.len() {
                    let expected = format!("as many files as data.dry, {}", data.dry.len().max(1));
                    return Err(Error::recipe(
                        "data.processed",
                        expected,
                        data.processed.len(),
                    ));
                }
                let weights = [loss.mse, loss.esr];
                if !weights.iter().all(|w| w.is_finite() && *w >= 0.0) || weights == [0.0; 2] {
                    let got = format!("{} and {}", loss.mse, loss.esr);
                    let expected = "weights from 0 on, one of them above";
                    return Err(Error::recipe("loss.mse and loss.esr", expected, got));
                }
                if !(0.0..=1.0).contains(&loss.pre_emphasis) {
                    let key = "loss.pre-emphasis";
                    return Err(Error::recipe(key, "0 to 1", loss.pre_emphasis));
                }
                Ok(())
            }
            Self::Text { loss, .. } => smoothing(loss.label_smoothing),
        }
    }
}
