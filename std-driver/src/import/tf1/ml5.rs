//! The form in which ml5's charRNN has the variables of a checkpoint: a list, and a file for each.

use super::variables::{Values, Variable};
use crate::Error;
use crate::import::Source;
use crate::import::raw::Raw;
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

/// What the list says of a variable.
#[derive(Deserialize)]
struct Entry {
    filename: String,
    shape: Vec<usize>,
}

fn entries(bytes: &[u8]) -> Option<BTreeMap<String, Entry>> {
    let entries: BTreeMap<String, Entry> = serde_json::from_slice(bytes).ok()?;
    (!entries.is_empty()).then_some(entries)
}

/// Whether it is such a list.
pub(super) fn is(bytes: &[u8]) -> bool {
    entries(bytes).is_some()
}

/// The files, which are read when their numbers are asked for.
pub(super) struct Manifest<'a> {
    source: &'a Source,
    files: Vec<String>,
}

impl<'a> Manifest<'a> {
    pub(super) fn open(source: &'a Source) -> Result<(Self, Vec<Variable>), Error> {
        let entries = entries(source.bytes())
            .ok_or_else(|| source.problem("expected a list of files and shapes"))?;
        let (mut files, mut variables) = (Vec::new(), Vec::new());
        let mut known = HashSet::new();
        for (name, Entry { filename, shape }) in entries {
            // Of one file there could be as many copies in memory as there are names.
            if !known.insert(Path::new(&filename).components().collect::<PathBuf>()) {
                let text = format!("key {name}: expected a file of its own, got {filename} again");
                return Err(source.problem(text));
            }
            variables.push(Variable {
                name,
                shape,
                float: true,
                at: files.len(),
            });
            files.push(filename);
        }
        Ok((Self { source, files }, variables))
    }
}

impl Values for Manifest<'_> {
    fn values(&mut self, variable: &Variable) -> Result<(Vec<f32>, Raw), Error> {
        let file = self.files.get(variable.at).map_or("", |file| file);
        let file = self.source.sibling(file)?;
        let got = file.bytes().len();
        if variable.len().and_then(|len| len.checked_mul(4)) != Some(got) {
            let shape = &variable.shape;
            return Err(file.problem(format!(
                "expected float32 numbers of shape {shape:?}, got {got} bytes"
            )));
        }
        Ok((Raw::F32.read(file.bytes())?, Raw::F32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_for_each() {
        let list = r#"{"a": {"filename": "x", "shape": [2]}, "b": {"filename": "x", "shape": []}}"#;
        assert!(is(list.as_bytes()));
        let source = Source::from_bytes(Path::new("manifest.json"), list.into());
        let problem = Manifest::open(&source).err().map(|e| e.to_string());
        let expected = "manifest.json: key b: expected a file of its own, got x again";
        assert_eq!(problem.as_deref(), Some(expected));
        let list = r#"{"a": {"filename": "../x", "shape": [2]}}"#;
        let source = Source::from_bytes(Path::new("manifest.json"), list.into());
        let (mut manifest, variables) = Manifest::open(&source).unwrap();
        let problem = manifest.values(&variables[0]).unwrap_err().to_string();
        let expected = "manifest.json: expected names of files in the same folder, got ../x";
        assert_eq!(problem, expected);
        assert!(!is(br#"{"a": {"filename": 1, "shape": []}}"#));
        assert!(!is(b"{}"));
    }
}
