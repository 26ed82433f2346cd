//! TensorFlow Lite: a graph of operators, of which those behind one another are the layers.

mod buffer;
mod fused;
mod layers;
mod model;
mod ops;
mod path;
mod unrolled;

use crate::Error;
use crate::import::{Found, Options, Source};

/// Whether it is such a model.
pub(crate) fn is(source: &Source) -> bool {
    source.bytes().get(4..8) == Some(b"TFL3")
}

/// All layers.
pub(crate) fn read(source: &Source, options: &Options) -> Result<Found, Error> {
    let mut model = model::Model::open(source)?;
    let unrolled = unrolled::Unrolled::of(&model);
    let path = path::path(&model, &unrolled, options.part.as_deref())?;
    layers::found(&mut model, &unrolled, &path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::Kind;
    use crate::import::tf1::tests::{broken, compare, folder};
    use fused_lstm::{Direction, Returns};
    use std::fs;
    use std::path::Path;

    fn fixture(name: &str) -> Option<Found> {
        let source = Source::open(&folder()?.join(format!("{name}.tflite"))).unwrap();
        assert!(is(&source));
        Some(super::read(&source, &Options::default()).unwrap())
    }

    #[test]
    fn as_the_interpreter_computes() {
        let Some(folder) = folder() else { return };
        for (name, most) in [
            ("lite_sequence", 1e-6),
            ("lite_last", 1e-6),
            ("lite_half", 1e-6),
            ("lite_both", 1e-6),
            ("lite_unrolled", 1e-6),
            ("lite_step", 1e-6),
            ("lite_coupled", 1e-6),
            ("lite_projected", 1e-6),
            ("lite_directions", 1e-6),
            // x and h are rounded to 8 bits there.
            ("lite_dynamic", 2e-2),
            ("lite_int8", 2e-2),
        ] {
            let found = fixture(name).unwrap();
            compare(
                &found,
                &folder.join(format!("{name}.ref.safetensors")),
                most,
            );
        }
    }

    #[test]
    fn what_layers_are() {
        let Some(found) = fixture("lite_both") else {
            return;
        };
        let lstm = |found: &Found| {
            let lstm = found.layers.iter().find_map(|layer| match &layer.kind {
                Kind::Lstm(lstm) => Some(lstm.clone()),
                _ => None,
            });
            lstm.unwrap()
        };
        assert_eq!(lstm(&found).direction, Direction::Both);
        assert_eq!(lstm(&found).cell.cell_clip, 10.0);
        let found = fixture("lite_last").unwrap();
        assert_eq!(lstm(&found).returns, Returns::Last);
        let found = fixture("lite_unrolled").unwrap();
        assert_eq!(lstm(&found).returns, Returns::Last);
        assert!(found.notes[0].ends_with("unrolled for 6 steps."));
        let found = fixture("lite_int8").unwrap();
        assert!(found.notes[0].starts_with("int8 weights were dequantised"));
    }

    #[test]
    fn broken_models() {
        let Some(folder) = folder() else { return };
        for name in [
            "lite_sequence",
            "lite_last",
            "lite_int8",
            "lite_both",
            "lite_step",
            "lite_half",
        ] {
            let path = folder.join(format!("{name}.tflite"));
            let bytes = fs::read(&path).unwrap();
            broken(&bytes, 3000, |bytes| {
                let source = Source::from_bytes(&path, bytes);
                let options = Options::default();
                if is(&source)
                    && let Err(problem) = super::read(&source, &options)
                {
                    assert_eq!(problem.to_string().lines().count(), 1);
                }
            });
        }
    }

    #[test]
    fn refused() {
        let problem = |bytes: &[u8]| {
            let source = Source::from_bytes(Path::new("file"), bytes.to_vec());
            let problem = super::read(&source, &Options::default()).unwrap_err();
            problem.to_string()
        };
        let outside =
            "file: expected a TensorFlow Lite model, got an offset that leads out of the file";
        for bytes in [
            &b""[..],
            b"\0\0\0\0TFL3",
            b"\xff\xff\xff\xffTFL3",
            b"\x08\0\0\0TFL3\0\0\0\x80\0\0",
        ] {
            assert_eq!(problem(bytes), outside);
        }
    }
}
