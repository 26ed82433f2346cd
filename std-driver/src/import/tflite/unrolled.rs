//! LSTM layers of which a graph has a cell for each step, of small operators.

use super::model::Model;
use super::ops;
use crate::import::step::{self, Graph, Op, Product, Step, Value};
use fused_lstm::Activation;
use std::collections::HashMap;

/// The steps of a layer, in the order of time.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    /// By their place in [`Unrolled::steps`].
    pub(super) steps: Vec<usize>,
    /// The weights of x, of which the tensors are known once it is known what x is.
    pub(super) weights: Option<[usize; 2]>,
}

/// What a chain takes.
pub(super) enum Rows {
    Tensor(usize),
    Chain(Chain),
}

/// All steps in a graph.
pub(super) struct Unrolled {
    pub(super) steps: Vec<Step>,
    /// By the tensor of the output, and by that of the cell state.
    outputs: HashMap<usize, usize>,
    states: HashMap<Value, usize>,
}

/// How many operators may only hand a value on, one behind the other.
const HOPS: usize = 8;
/// What a tensor that no operator makes has instead of the number of one.
const OF_TENSOR: usize = 1 << 24;

/// The graph as [`step`] sees it.
struct Lite<'a>(&'a Model<'a>);

impl Lite<'_> {
    fn value(&self, tensor: usize) -> Value {
        let mut tensor = self.0.constant(tensor).unwrap_or(tensor);
        for _ in 0..HOPS {
            let Some((node, output)) = self.0.makers.get(tensor).copied().flatten() else {
                break;
            };
            let operator = self.0.operators.get(node);
            let same = operator.filter(|operator| {
                matches!(operator.code, ops::QUANTIZE | ops::DEQUANTIZE)
                    || matches!(
                        operator.code,
                        ops::RESHAPE | ops::SQUEEZE | ops::EXPAND_DIMS
                    ) && without_effect(self.0, operator.input(0), operator.output())
            });
            match same.and_then(|operator| operator.input(0)) {
                Some(before) => tensor = before,
                None => return Value { node, output },
            }
        }
        Value {
            node: OF_TENSOR + tensor,
            output: 0,
        }
    }

    fn operator(&self, value: Value) -> Option<&super::model::Operator<'_>> {
        self.0.operators.get(value.node)
    }

    fn tensor(&self, value: Value) -> Option<usize> {
        match value.node.checked_sub(OF_TENSOR) {
            Some(tensor) => Some(tensor),
            None => {
                let output = self.operator(value)?.outputs.get(value.output)?;
                usize::try_from(output).ok()
            }
        }
    }
}

/// Whether two tensors have the same rows, apart from dimensions of one.
pub(super) fn without_effect(model: &Model, before: Option<usize>, after: Option<usize>) -> bool {
    let (Some(before), Some(after)) = (before, after) else {
        return false;
    };
    let sizes = |tensor| {
        let sizes = model.shape(tensor).iter().copied();
        sizes.filter(|&size| size != 1).collect::<Vec<usize>>()
    };
    let last = |tensor| model.shape(tensor).last().copied();
    sizes(before) == sizes(after) && last(before) == last(after)
}

impl Graph for Lite<'_> {
    fn op(&self, value: Value) -> Op {
        let Some(operator) = self.operator(value) else {
            let constant = self
                .tensor(value)
                .and_then(|tensor| self.0.constant(tensor));
            return constant.map_or(Op::Other, |_| Op::Constant);
        };
        let plain = operator
            .options
            .is_none_or(|options| options.u8(0).is_ok_and(|function| function == 0));
        match operator.code {
            ops::ADD if plain => Op::Add,
            ops::MUL if plain => Op::Mul,
            ops::MINIMUM => Op::Minimum,
            ops::MAXIMUM => Op::Maximum,
            ops::LOGISTIC => Op::Activation(Activation::Sigmoid),
            ops::TANH => Op::Activation(Activation::Tanh),
            ops::RELU => Op::Activation(Activation::Relu),
            ops::SPLIT if operator.outputs.len() == 4 => Op::Split,
            ops::FULLY_CONNECTED if plain => Op::MatMul,
            _ => Op::Other,
        }
    }

    fn input(&self, value: Value, number: usize) -> Option<Value> {
        let operator = self.operator(value)?;
        // The axis is the first input of a split.
        let first = usize::from(operator.code == ops::SPLIT);
        Some(self.value(operator.input(number + first)?))
    }

    fn scalar(&self, value: Value) -> Option<f32> {
        self.0.scalar(self.tensor(value)?)
    }

    fn own_bias(&self, value: Value) -> Option<Value> {
        Some(self.value(self.operator(value)?.input(2)?))
    }
}

impl Unrolled {
    pub(super) fn of(model: &Model) -> Self {
        let lite = Lite(model);
        let mut all = Self {
            steps: Vec::new(),
            outputs: HashMap::new(),
            states: HashMap::new(),
        };
        for (node, operator) in model.operators.iter().enumerate() {
            if operator.code != ops::MUL {
                continue;
            }
            let step = step::step(&lite, Value { node, output: 0 });
            if let Some((step, output)) = step.zip(operator.output()) {
                all.outputs.insert(output, all.steps.len());
                all.states.insert(step.after, all.steps.len());
                all.steps.push(step);
            }
        }
        all
    }

    /// Whether a tensor is made of a cell state.
    pub(super) fn is_state(&self, model: &Model, tensor: usize) -> bool {
        let lite = Lite(model);
        let mut open = vec![tensor];
        for _ in 0..HOPS * HOPS {
            let Some(tensor) = open.pop() else { break };
            let value = lite.value(tensor);
            if self.states.contains_key(&value) {
                return true;
            }
            let Some(operator) = lite.operator(value) else {
                continue;
            };
            let hands_on = [
                ops::PACK,
                ops::CONCATENATION,
                ops::RESHAPE,
                ops::EXPAND_DIMS,
            ];
            if hands_on.contains(&operator.code) {
                open.extend(operator.inputs().take(HOPS * HOPS));
            }
        }
        false
    }

    fn step_of(&self, place: usize) -> Result<&Step, String> {
        let step = self.steps.get(place);
        step.ok_or_else(|| "expected a step of an LSTM cell".into())
    }

    /// The chain that ends with an output.
    pub(super) fn chain_to(&self, tensor: usize) -> Option<Result<Chain, String>> {
        let place = *self.outputs.get(&tensor)?;
        Some(self.chain(place))
    }

    fn chain(&self, last: usize) -> Result<Chain, String> {
        let mut steps = vec![last];
        let mut place = last;
        while let Some(&before) = self.states.get(&self.step_of(place)?.before) {
            if steps.len() > self.steps.len() {
                return Err("expected steps in a row, got a circle".into());
            }
            steps.push(before);
            place = before;
        }
        steps.reverse();
        Ok(Chain {
            steps,
            weights: None,
        })
    }

    /// The chain of which a tensor has all outputs, one behind the other.
    pub(super) fn packed(&self, model: &Model, tensor: usize) -> Option<Result<Chain, String>> {
        let (operator, _) = model.makers.get(tensor).copied().flatten()?;
        let operator = model.operators.get(operator)?;
        if operator.code != ops::PACK {
            return None;
        }
        let steps: Option<Vec<usize>> = operator
            .inputs()
            .map(|tensor| self.outputs.get(&tensor).copied())
            .collect();
        let steps = steps?;
        let chain = self.chain(*steps.last()?);
        Some(chain.and_then(|chain| match chain.steps == steps {
            true => Ok(chain),
            false => Err("expected all steps of an LSTM in their order, got others".into()),
        }))
    }

    /// What a chain takes, of which it then knows the weights.
    pub(super) fn rows(&self, model: &Model, chain: &mut Chain) -> Result<Rows, String> {
        let lite = Lite(model);
        let (x, [input, recurrent]) = self.products(&lite, chain)?;
        let weights = [input, recurrent].map(|value| lite.tensor(value));
        let [Some(input), Some(recurrent)] = weights else {
            return Err("expected constants as weights of an LSTM cell".into());
        };
        chain.weights = Some([input, recurrent]);
        let x: Vec<Value> = x.into_iter().map(|value| passed(&lite, value)).collect();
        // Each of them may be the output of a step before it.
        let tensors: Option<Vec<usize>> = x.iter().map(|&value| lite.tensor(value)).collect();
        let tensors = tensors.ok_or("expected tensors as inputs of an LSTM cell")?;
        let before: Option<Vec<usize>> = tensors
            .iter()
            .map(|tensor| self.outputs.get(tensor).copied())
            .collect();
        if let Some((before, &last)) = before.as_ref().and_then(|b| Some((b, b.last()?))) {
            let chain = self.chain(last)?;
            if chain.steps != *before {
                return Err("expected the steps of the LSTM before it, in their order".into());
            }
            return Ok(Rows::Chain(chain));
        }
        let first = x.first().copied();
        let unpacks = first.and_then(|first| Some((first.node, lite.operator(first)?)));
        if let Some((node, operator)) = unpacks.filter(|(_, o)| o.code == ops::UNPACK) {
            let in_order = (0..).zip(&x);
            let dimensions = operator.input(0).map_or(0, |of| model.shape(of).len());
            let axis = operator.options.map_or(Ok(0), |options| options.i32(1));
            let axis = axis.ok().and_then(|axis| usize::try_from(axis).ok());
            let in_time = axis.is_some_and(|axis| axis + 1 < dimensions);
            let all = in_time
                && operator.outputs.len() == x.len()
                && in_order
                    .map(|(output, value)| (Value { node, output }, value))
                    .all(|(expected, value)| expected == *value);
            if let Some(of) = operator.input(0).filter(|_| all) {
                return Ok(Rows::Tensor(of));
            }
        }
        match tensors[..] {
            [tensor] => Ok(Rows::Tensor(tensor)),
            _ => Err("expected the steps of a sequence, in their order".into()),
        }
    }

    /// The x of each step, and the weights of x and h, which all steps share.
    fn products(&self, lite: &Lite, chain: &Chain) -> Result<(Vec<Value>, [Value; 2]), String> {
        let mut recurrent = None;
        // The state that a step begins with tells which product is that of h.
        for pair in chain.steps.windows(2) {
            let [before, after] = pair else { continue };
            let before = self.step_of(*before)?.output;
            let of_h = |product: &&Product| product.of == before;
            let found = self.step_of(*after)?.products.iter().find(of_h);
            let found = found.ok_or("expected the weights of h, got another product")?;
            if recurrent.is_some_and(|known| known != found.weights) {
                return Err("expected the same weights in all steps, got others".into());
            }
            recurrent = Some(found.weights);
        }
        let first = self.step_of(*chain.steps.first().ok_or("expected steps, got none")?)?;
        if recurrent.is_none() {
            let state = origin(lite, first.before);
            let mut of_h = first
                .products
                .iter()
                .filter(|product| state.is_some() && origin(lite, product.of) == state);
            recurrent = of_h.next().map(|product| product.weights);
            if of_h.next().is_some() {
                recurrent = None;
            }
        }
        let recurrent = recurrent
            .ok_or("expected an LSTM cell of which the product of h can be told from that of x")?;
        let (mut all, mut input) = (Vec::new(), None);
        for &place in &chain.steps {
            let step = self.step_of(place)?;
            let mut of_x = step.products.iter().filter(|p| p.weights != recurrent);
            let (Some(product), None) = (of_x.next(), of_x.next()) else {
                return Err("expected a product of x and one of h in an LSTM cell".into());
            };
            let same = step.order == first.order
                && step.biases == first.biases
                && step.cell == first.cell
                && step.forget_bias == first.forget_bias
                && step.peepholes == first.peepholes
                && input.is_none_or(|known| known == product.weights);
            if !same {
                return Err("expected the same weights in all steps, got others".into());
            }
            input = Some(product.weights);
            all.push(product.of);
        }
        let input = input.ok_or("expected weights of x, got none")?;
        Ok((all, [input, recurrent]))
    }
}

/// A step of a sequence that was put together only to be taken apart: what it is.
fn passed(lite: &Lite, value: Value) -> Value {
    let through = || {
        let unpack = lite.operator(value).filter(|o| o.code == ops::UNPACK)?;
        let packed = lite.value(unpack.input(0)?);
        let pack = lite.operator(packed).filter(|o| o.code == ops::PACK)?;
        Some(lite.value(pack.input(value.output)?))
    };
    through().unwrap_or(value)
}

/// The input of the graph of which a value is a part.
fn origin(lite: &Lite, value: Value) -> Option<usize> {
    let mut value = value;
    for _ in 0..HOPS {
        let Some(operator) = lite.operator(value) else {
            let tensor = lite.tensor(value)?;
            return lite.0.inputs.contains(&tensor).then_some(tensor);
        };
        match operator.code {
            ops::STRIDED_SLICE | ops::UNPACK | ops::RESHAPE | ops::SQUEEZE | ops::GATHER => {}
            _ => return None,
        }
        value = lite.value(operator.input(0)?);
    }
    None
}

impl Unrolled {
    /// The tensor of a value.
    pub(super) fn tensor(&self, model: &Model, value: Value) -> Option<usize> {
        Lite(model).tensor(value)
    }

    /// Refuses a chain that starts from other constants than zeros.
    pub(super) fn starts_from_zeros(&self, model: &mut Model, chain: &Chain) -> Result<(), String> {
        let first = chain.steps.first().and_then(|&first| self.steps.get(first));
        let start = first.and_then(|step| self.tensor(model, step.before));
        let Some(start) = start.filter(|&start| model.constant(start).is_some()) else {
            return Ok(());
        };
        let shape = model.shape(start).to_vec();
        let values = model.numbers(start, &shape).map_err(|e| e.to_string())?;
        match values.iter().find(|&&value| value != 0.0) {
            Some(got) => Err(format!(
                "expected a state of zeros to start from, got {got}"
            )),
            None => Ok(()),
        }
    }
}
