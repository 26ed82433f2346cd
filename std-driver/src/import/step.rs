//! A step of an LSTM cell that a graph has as small operations: which of them is which gate.

use super::gates::Gate;
use fused_lstm::{Activation, Cell};

/// An output of a node: both by their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Value {
    pub(crate) node: usize,
    pub(crate) output: usize,
}

/// What a node does, as far as a cell has such.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Op {
    Add,
    Mul,
    Minimum,
    Maximum,
    /// Between its second and third input.
    Clip,
    /// Of each number.
    Activation(Activation),
    /// In four, side by side.
    Split,
    /// Weights are the second input.
    MatMul,
    /// Numbers of the file.
    Constant,
    Other,
}

/// A graph of nodes.
pub(crate) trait Graph {
    /// What makes a value: what only hands a value on is not seen.
    fn op(&self, value: Value) -> Op;
    /// The data that it takes; of a split without the number of the axis.
    fn input(&self, value: Value, number: usize) -> Option<Value>;
    /// A constant of one number.
    fn scalar(&self, value: Value) -> Option<f32>;
    /// x, then weights, of a product that adds a bias of its own: that.
    fn own_bias(&self, value: Value) -> Option<Value>;
}

/// A product that is added up to the four gates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Product {
    pub(crate) of: Value,
    pub(crate) weights: Value,
}

/// A step of a cell.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// The gates in the order of the columns.
    pub(crate) order: [Gate; 4],
    pub(crate) products: Vec<Product>,
    pub(crate) biases: Vec<Value>,
    pub(crate) forget_bias: f32,
    /// Of i, f and o.
    pub(crate) peepholes: Option<[Value; 3]>,
    /// The cell state before and after it.
    pub(crate) before: Value,
    pub(crate) after: Value,
    /// o·tanh c, which is h without a projection.
    pub(crate) output: Value,
    /// Functions and the limit of c.
    pub(crate) cell: Cell,
}

/// A sum has no more summands than these.
const SUMMANDS: usize = 12;

/// What a gate is made of.
#[derive(Clone, Copy, Debug)]
struct Side {
    function: Activation,
    /// What it is a part of, and which.
    split: usize,
    part: usize,
    added: f32,
    /// Weights, and the state that they multiply.
    peephole: Option<[Value; 2]>,
}

/// The step that ends with a product o·tanh c, if there is one.
pub(crate) fn step(graph: &dyn Graph, output: Value) -> Option<Step> {
    let (a, b) = operands(graph, output, Op::Mul)?;
    [(a, b), (b, a)]
        .into_iter()
        .find_map(|(gate, state)| step_of(graph, output, gate, state))
}

fn operands(graph: &dyn Graph, value: Value, op: Op) -> Option<(Value, Value)> {
    let found = graph.op(value) == op;
    found.then_some((graph.input(value, 0)?, graph.input(value, 1)?))
}

fn function(graph: &dyn Graph, value: Value) -> Option<(Activation, Value)> {
    match graph.op(value) {
        Op::Activation(kind) => Some((kind, graph.input(value, 0)?)),
        _ => None,
    }
}

/// A value that is clipped to numbers of the same magnitude, and that magnitude.
pub(crate) fn clipped(graph: &dyn Graph, value: Value) -> (Value, f32) {
    let constant = |value, number| {
        let inputs = [graph.input(value, number)?, graph.input(value, 1 - number)?];
        Some((inputs[0], graph.scalar(inputs[1])?))
    };
    let either = |value| constant(value, 0).or_else(|| constant(value, 1));
    let clip = || match graph.op(value) {
        Op::Clip => {
            let of = graph.input(value, 0)?;
            let least = graph.scalar(graph.input(value, 1)?)?;
            Some((of, least, graph.scalar(graph.input(value, 2)?)?))
        }
        Op::Maximum => {
            let (inner, least) = either(value)?;
            let (of, most) = either(inner).filter(|_| graph.op(inner) == Op::Minimum)?;
            Some((of, least, most))
        }
        Op::Minimum => {
            let (inner, most) = either(value)?;
            let (of, least) = either(inner).filter(|_| graph.op(inner) == Op::Maximum)?;
            Some((of, least, most))
        }
        _ => None,
    };
    match clip() {
        Some((of, least, most)) if least == -most && most > 0.0 => (of, most),
        _ => (value, f32::INFINITY),
    }
}

/// All that is added up to a value.
fn summands(graph: &dyn Graph, value: Value) -> Option<Vec<Value>> {
    let (mut open, mut all) = (vec![value], Vec::new());
    while let Some(value) = open.pop() {
        if open.len() + all.len() > SUMMANDS {
            return None;
        }
        match operands(graph, value, Op::Add) {
            Some((a, b)) => open.extend([b, a]),
            None => all.push(value),
        }
    }
    Some(all)
}

fn side(graph: &dyn Graph, value: Value) -> Option<Side> {
    let (function, sum) = function(graph, value)?;
    let (mut of, mut added, mut peephole) = (None, 0.0, None);
    for value in summands(graph, sum)? {
        match graph.op(value) {
            Op::Split if of.is_none() => of = Some(value),
            Op::Constant => added += graph.scalar(value)?,
            Op::Mul if peephole.is_none() => {
                let (a, b) = operands(graph, value, Op::Mul)?;
                let constant = |value| graph.op(value) == Op::Constant;
                peephole = Some(match (constant(a), constant(b)) {
                    (true, false) => [a, b],
                    (false, true) => [b, a],
                    _ => return None,
                });
            }
            _ => return None,
        }
    }
    let of = of.filter(|of| of.output < 4)?;
    Some(Side {
        function,
        split: of.node,
        part: of.output,
        added,
        peephole,
    })
}

fn step_of(graph: &dyn Graph, output: Value, gate: Value, state: Value) -> Option<Step> {
    let o = side(graph, gate)?;
    let (out, after) = function(graph, state)?;
    let (sum, cell_clip) = clipped(graph, after);
    let (a, b) = operands(graph, sum, Op::Add)?;
    let found = [(a, b), (b, a)].into_iter().find_map(|(kept, new)| {
        let (a, b) = operands(graph, new, Op::Mul)?;
        let (i, j) = (side(graph, a)?, side(graph, b)?);
        // Two sides of the same function could be exchanged, unless the functions differ.
        let (i, j) = match (i.function == o.function, j.function == o.function) {
            (true, false) => (i, j),
            (false, true) => (j, i),
            _ => return None,
        };
        let (a, b) = operands(graph, kept, Op::Mul)?;
        let mine = |value| side(graph, value).filter(|side| side.split == o.split);
        let (f, before) = match (mine(a), mine(b)) {
            (Some(f), None) => (f, b),
            (None, Some(f)) => (f, a),
            _ => return None,
        };
        Some((i, j, f, before))
    });
    let (i, j, f, before) = found?;
    let one_split = [i, j, f].iter().all(|side| side.split == o.split);
    let no_sums = [i, j, o].iter().all(|side| side.added == 0.0);
    if !one_split || !no_sums || f.function != o.function || j.peephole.is_some() {
        return None;
    }
    let mut order = [None; 4];
    for (gate, side) in [(Gate::I, i), (Gate::J, j), (Gate::F, f), (Gate::O, o)] {
        *order.get_mut(side.part)? = Some(gate);
    }
    let [Some(first), Some(second), Some(third), Some(fourth)] = order else {
        return None;
    };
    let peepholes = match [i, f, o].map(|side| side.peephole) {
        [Some(i), Some(f), Some(o)] => {
            let states = [before, before, after];
            if [i[1], f[1], o[1]] != states {
                return None;
            }
            Some([i[0], f[0], o[0]])
        }
        [None, None, None] => None,
        _ => return None,
    };
    let split = Value {
        node: o.split,
        output: 0,
    };
    let (mut products, mut biases) = (Vec::new(), Vec::new());
    for value in summands(graph, graph.input(split, 0)?)? {
        match graph.op(value) {
            Op::MatMul => {
                products.push(Product {
                    of: graph.input(value, 0)?,
                    weights: graph.input(value, 1)?,
                });
                biases.extend(graph.own_bias(value));
            }
            Op::Constant => biases.push(value),
            _ => return None,
        }
    }
    Some(Step {
        order: [first, second, third, fourth],
        products,
        biases,
        forget_bias: f.added,
        peepholes,
        before,
        after,
        output,
        cell: Cell {
            peepholes: peepholes.is_some(),
            gates: o.function,
            candidate: j.function,
            output: out,
            cell_clip,
            ..Cell::PLAIN
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes of the test itself: a split by the number of its outputs, constants by their number.
    struct Nodes(Vec<(Op, Vec<Value>, f32)>);

    impl Nodes {
        fn add(&mut self, op: Op, inputs: &[Value]) -> Value {
            self.0.push((op, inputs.to_vec(), 0.0));
            let node = self.0.len() - 1;
            Value { node, output: 0 }
        }

        fn number(&mut self, number: f32) -> Value {
            let value = self.add(Op::Constant, &[]);
            self.0[value.node].2 = number;
            value
        }
    }

    impl Graph for Nodes {
        fn op(&self, value: Value) -> Op {
            self.0[value.node].0
        }

        fn input(&self, value: Value, number: usize) -> Option<Value> {
            self.0[value.node].1.get(number).copied()
        }

        fn scalar(&self, value: Value) -> Option<f32> {
            let (op, _, number) = self.0[value.node];
            (op == Op::Constant && number != 0.0).then_some(number)
        }

        fn own_bias(&self, _: Value) -> Option<Value> {
            None
        }
    }

    use Gate::{F, I, J, O};

    /// A step with the gates at places of the split, and with the operands of sums and products
    /// exchanged or not.
    fn cell(order: [Gate; 4], exchanged: bool) -> (Nodes, Value) {
        let mut nodes = Nodes(Vec::new());
        let two = |a, b| if exchanged { [b, a] } else { [a, b] };
        let [x, c] = [0; 2].map(|_| nodes.add(Op::Other, &[]));
        let [kernel, bias] = [0; 2].map(|_| nodes.add(Op::Constant, &[]));
        let product = nodes.add(Op::MatMul, &[x, kernel]);
        let sum = nodes.add(Op::Add, &two(product, bias));
        let split = nodes.add(Op::Split, &[sum]);
        let gate = |wanted: Gate| Value {
            output: order.iter().position(|&gate| gate == wanted).unwrap(),
            ..split
        };
        let [sigmoid, tanh] = [Activation::Sigmoid, Activation::Tanh].map(Op::Activation);
        let one = nodes.number(1.0);
        let f = nodes.add(Op::Add, &two(gate(F), one));
        let f = nodes.add(sigmoid, &[f]);
        let i = nodes.add(sigmoid, &[gate(I)]);
        let j = nodes.add(tanh, &[gate(J)]);
        let o = nodes.add(sigmoid, &[gate(O)]);
        let kept = nodes.add(Op::Mul, &two(f, c));
        let new = nodes.add(Op::Mul, &two(i, j));
        let sum = nodes.add(Op::Add, &two(kept, new));
        let [least, most] = [-3.0, 3.0].map(|limit| nodes.number(limit));
        let below = nodes.add(Op::Minimum, &two(sum, most));
        let clipped = nodes.add(Op::Maximum, &two(below, least));
        let out = nodes.add(tanh, &[clipped]);
        let h = nodes.add(Op::Mul, &two(o, out));
        (nodes, h)
    }

    #[test]
    fn gates_in_any_order() {
        for order in [[I, J, F, O], [I, F, J, O], [O, F, I, J], [J, O, I, F]] {
            for exchanged in [false, true] {
                let (nodes, h) = cell(order, exchanged);
                let step = step(&nodes, h).unwrap();
                assert_eq!(step.order, order);
                assert_eq!(step.forget_bias, 1.0);
                assert_eq!(step.cell.cell_clip, 3.0);
                assert_eq!(step.before.node, 1);
                assert_eq!((step.products.len(), step.biases.len()), (1, 1));
                // No other product is a step.
                let others = (0..nodes.0.len()).filter(|&node| node != h.node);
                let mut found =
                    others.filter_map(|node| super::step(&nodes, Value { node, output: 0 }));
                assert!(found.next().is_none());
            }
        }
    }

    #[test]
    fn what_is_no_cell() {
        let (mut nodes, h) = cell([I, J, F, O], false);
        // Two gates from one place of the split.
        let place = nodes
            .0
            .iter()
            .position(|(op, ..)| *op == Op::Split)
            .unwrap();
        for node in &mut nodes.0 {
            for input in &mut node.1 {
                if input.node == place && input.output == 3 {
                    input.output = 2;
                }
            }
        }
        assert!(step(&nodes, h).is_none());
        // A limit that is not the same on both sides.
        let (mut nodes, h) = cell([I, J, F, O], false);
        let limit = nodes.0.iter().position(|(.., number)| *number == -3.0);
        nodes.0[limit.unwrap()].2 = -2.0;
        assert!(step(&nodes, h).is_none());
    }
}
