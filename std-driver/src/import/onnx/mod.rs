//! ONNX: the layers on the way from a graph's input to its output.

mod affine;
mod arithmetic;
mod axes;
mod branch;
mod constants;
mod dense;
mod fold;
mod given;
mod graph;
mod lstm;
mod moves;
mod nodes;
mod path;
mod proto;
mod states;
mod store;
mod tensor;
mod turn;

#[cfg(test)]
mod tests;

use super::{Format, Found, Options, Source};
use crate::Error;
use graph::Graph;
use proto::Model;

/// Whether the file is a model of ONNX.
pub(crate) fn is(source: &Source) -> bool {
    proto::is_model(source.bytes())
}

/// Its layers.
pub(crate) fn read(source: &Source, options: &Options) -> Result<Found, Error> {
    let broken = |e: super::wire::Broken| source.problem(e.to_string());
    let model = Model::parse(source.bytes()).map_err(broken)?;
    let Some(bytes) = model.graph else {
        return Err(source.problem("expected a graph, got none"));
    };
    let rate = model.metadata.iter().find(|(key, _)| *key == "sample_rate");
    let rate = rate.and_then(|(_, text)| text.trim().parse().ok());
    let mut graph = Graph::new(source, model.opset, options.part.as_deref());
    let outputs = graph.run(bytes, "")?;
    let layers = graph.layers(&outputs)?;
    // What is no branch and no output may be the name of a layer.
    let left = graph.wanted.iter().filter(|(_, used)| !used);
    let part = left.map(|(name, _)| name.clone()).collect();
    for kind in std::mem::take(&mut graph.store.converted) {
        graph.note(format!("{kind} weights are float32 here"));
    }
    Ok(Found {
        format: Format::Onnx,
        part: Some(part),
        layers,
        notes: graph.notes,
        sample_rate: rate.filter(|rate: &f64| rate.is_finite() && *rate > 0.0),
    })
}
