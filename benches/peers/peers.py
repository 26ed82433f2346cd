"""The Python peers of the benchmark: PyTorch, ONNX Runtime, TensorFlow 1 code and JAX.

    python peers.py {torch,onnxruntime,tensorflow,jax} THREADS
    python peers.py onnx OUTFILE MODE HEAD I H L B T NUMBERS

The first answers the lines of README.md's protocol; the second writes the
network as an ONNX model, which other peers load.

A peer is a generator: for a task it yields the settings worth trying, each with
a function that builds the network and returns `step`, one call, and `read`, which
makes the outcome from what `step` returned. The fastest setting is taken.
"""

import math
import os
import sys
from functools import partial
from itertools import count
from time import perf_counter_ns

import numpy as np


class No(Exception):
    """The peer cannot do the task."""


class Task:
    """The words of a `load` line and the numbers of its file."""

    def __init__(self, mode, head, i, h, l, b, t, numbers):
        self.mode, self.head = mode, head
        i, h, l, b, t = map(int, (i, h, l, b, t))
        self.i, self.h, self.l, self.b, self.t = i, h, l, b, t
        self.train = mode == "train"
        raw = np.fromfile(numbers, "<f4")

        def take(*shape):
            nonlocal raw
            taken, raw = np.split(raw, [math.prod(shape)])
            return taken.reshape(shape)

        # Of every layer the kernel [inputs + H, 4 * H] and the bias [4 * H].
        self.layers = [(take((h if n else i) + h, 4 * h), take(4 * h)) for n in range(l)]
        self.dense = (take(h, 2), take(2)) if head != "none" else None
        self.x = take(t, b, i)
        self.dy = take(t, b, h)
        self.labels = take(t, b).view("<u4").astype(np.int32)

    def variables(self):
        """All parameters in the order of the file."""
        return [v for layer in self.layers for v in layer] + list(self.dense or ())


def regate(v, order, axis=-1):
    """The four gates along an axis in another order."""
    return np.concatenate([np.split(v, 4, axis)[g] for g in order], axis)


# PyTorch: its gates are i, f, j, o, which is the same exchange in both directions.
IFJO = (0, 2, 1, 3)


def torch_peer(task, threads):
    import torch

    torch.set_num_threads(threads)

    def tensor(v):
        return torch.from_numpy(np.array(v, order="C"))

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(task.i, task.h, task.l)
            self.dense = torch.nn.Linear(task.h, 2) if task.dense else None
            for n, (kernel, bias) in enumerate(task.layers):
                w, r = np.split(regate(kernel, IFJO), [len(kernel) - task.h])
                values = (w.T, r.T, regate(bias, IFJO), np.zeros_like(bias))
                for p, value in zip(self.lstm.all_weights[n], values):
                    p.data = tensor(value)
                # One bias is enough: two would be updated twice.
                self.lstm.all_weights[n][3].requires_grad_(False)
            if task.dense:
                self.dense.weight.data = tensor(task.dense[0].T)
                self.dense.bias.data = tensor(task.dense[1])

        def forward(self, x, h, c):
            y, (h, c) = self.lstm(x, (h, c))
            return (y if self.dense is None else self.dense(y).softmax(-1)), h, c

        def variables(self):
            values = []
            for w, r, bias, _ in self.lstm.all_weights:
                values.append(regate(np.concatenate([w.detach().numpy().T, r.detach().numpy().T]), IFJO))
                values.append(regate(bias.detach().numpy(), IFJO))
            if self.dense is not None:
                values += [self.dense.weight.detach().numpy().T, self.dense.bias.detach().numpy()]
            return values

    x, dy, labels = tensor(task.x), tensor(task.dy), tensor(task.labels).long().flatten()
    zero = torch.zeros(task.l, task.b, task.h)

    def train(mkldnn):
        torch.backends.mkldnn.set_flags(mkldnn)
        net = Net()
        trained = [p for p in net.parameters() if p.requires_grad]
        optimizer = {
            "none": lambda: torch.optim.SGD(trained, 1e-3, fused=True),
            "adagrad": lambda: torch.optim.Adagrad(
                trained, 0.3, initial_accumulator_value=0.1, eps=0, fused=True
            ),
            "adam": lambda: torch.optim.Adam(trained, 0.3, fused=True),
        }[task.head]()

        def step():
            optimizer.zero_grad()
            y, _ = net.lstm(x)
            if net.dense is None:
                y.backward(dy)
            else:
                logits = net.dense(y).view(-1, 2)
                torch.nn.functional.cross_entropy(logits, labels).backward()
            optimizer.step()

        return step, lambda _: net.variables()

    def infer(mkldnn, traced):
        torch.backends.mkldnn.set_flags(mkldnn)
        net = Net().eval()
        if traced:
            net = torch.jit.freeze(torch.jit.trace(net, (x, zero, zero)))
        state = (zero, zero)

        @torch.inference_mode()
        def step():
            nonlocal state
            y, *after = net(x, *state)
            if task.mode == "stream":
                state = after
            return y

        return step, lambda y: [y.numpy()]

    for mkldnn in (True, False):
        if task.train:
            yield f"mkldnn={mkldnn}", partial(train, mkldnn)
        else:
            for traced in (True, False):
                yield f"mkldnn={mkldnn} traced={traced}", partial(infer, mkldnn, traced)


def onnx_model(task):
    """The network as an ONNX model; for a stream the state is input and output."""
    from onnx import TensorProto, checker, helper, numpy_helper

    nodes, constants, inputs, outputs = [], [], [], []

    def constant(name, v):
        constants.append(numpy_helper.from_array(np.ascontiguousarray(v), name))
        return name

    def port(ports, name, *shape):
        ports.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def node(op, takes, gives, **attributes):
        nodes.append(helper.make_node(op, takes, gives, **attributes))

    last = "y" if task.dense is None else "hidden"
    last_of = [f"y{n}" for n in range(task.l - 1)] + [last]
    above = port(inputs, "x", task.t, task.b, task.i)
    port(outputs, "y", task.t, task.b, task.h if task.dense is None else 2)
    axis = constant("axis", np.array([1]))
    for n, (kernel, bias) in enumerate(task.layers):
        # ONNX wants i, o, f, j, and the second bias is of the hidden state.
        w, r = np.split(regate(kernel, (0, 3, 2, 1)), [len(kernel) - task.h])
        takes = [
            above,
            constant(f"w{n}", w.T[None]),
            constant(f"r{n}", r.T[None]),
            constant(f"b{n}", np.concatenate([regate(bias, (0, 3, 2, 1)), 0 * bias])[None]),
        ]
        gives = [f"directions{n}"]
        if task.mode == "stream":
            shape = (1, task.b, task.h)
            takes += ["", port(inputs, f"h{n}", *shape), port(inputs, f"c{n}", *shape)]
            gives += [port(outputs, f"h{n}_after", *shape), port(outputs, f"c{n}_after", *shape)]
        node("LSTM", takes, gives, hidden_size=task.h)
        above = last_of[n]
        node("Squeeze", [f"directions{n}", axis], [above])
    if task.dense is not None:
        kernel, bias = task.dense
        node("MatMul", [above, constant("kernel", kernel)], ["product"])
        node("Add", ["product", constant("bias", bias)], ["logits"])
        node("Softmax", ["logits"], ["y"], axis=-1)
    graph = helper.make_graph(nodes, "lstm", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    checker.check_model(model)
    return model.SerializeToString()


def onnxruntime_peer(task, threads):
    import onnxruntime as ort

    if task.train:
        raise No("ONNX Runtime's package for inference does not train")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL

    def build(bound):
        session = ort.InferenceSession(onnx_model(task), options, ["CPUExecutionProvider"])
        names = [i.name for i in session.get_inputs()]
        zero = np.zeros((1, task.b, task.h), np.float32)
        feeds = {name: task.x if name == "x" else zero for name in names}

        def run():
            y, *after = session.run(None, feeds)
            feeds.update(zip(names[1:], after))
            return y

        if not bound:
            return run, lambda y: [y]

        # Memory bound once, the state in two copies that change their roles.
        def value(v):
            return ort.OrtValue.ortvalue_from_numpy(v)

        first, *states = [o.shape for o in session.get_outputs()]
        x, y = value(task.x), value(np.zeros(first, np.float32))
        pair = [[value(np.zeros(s, np.float32)) for s in states] for _ in range(2)]
        bindings = []
        for before, after in ((0, 1), (1, 0)):
            binding = session.io_binding()
            for name, v in zip(names, [x] + pair[before]):
                binding.bind_ortvalue_input(name, v)
            for o, v in zip(session.get_outputs(), [y] + pair[after]):
                binding.bind_ortvalue_output(o.name, v)
            bindings.append(binding)
        calls = count()

        def step():
            session.run_with_iobinding(bindings[next(calls) % 2])
            # A binding does not keep what is bound to it.
            return x, y, pair

        return step, lambda bound: [bound[1].numpy()]

    for bound in (True, False):
        yield f"bound={bound}", partial(build, bound)


def tensorflow_peer(task, threads):
    import tensorflow.compat.v1 as tf

    tf.disable_eager_execution()

    def block(x, state):
        """The layers as LSTMBlockFusedCell of tf.contrib.rnn makes them."""
        after = []
        zeros = tf.zeros([task.h])
        for n, (c, h) in enumerate(state):
            kernel = tf.get_variable(f"kernel{n}", task.layers[n][0].shape)
            bias = tf.get_variable(f"bias{n}", task.layers[n][1].shape)
            cell = tf.raw_ops.BlockLSTM(
                seq_len_max=tf.constant(task.t, tf.int64), x=x, cs_prev=c, h_prev=h, w=kernel,
                wci=zeros, wcf=zeros, wco=zeros, b=bias, forget_bias=0.0, cell_clip=-1.0,
            )  # fmt: skip
            x = cell.h
            after.append((cell.cs[-1], cell.h[-1]))
        return x, after

    def static(x, state):
        cell = tf.nn.rnn_cell.MultiRNNCell(
            [tf.nn.rnn_cell.LSTMCell(task.h, forget_bias=0.0) for _ in task.layers]
        )
        state = tuple(tf.nn.rnn_cell.LSTMStateTuple(*s) for s in state)
        y, after = tf.nn.static_rnn(cell, tf.unstack(x), state)
        return tf.stack(y), after

    def build(kind):
        tf.reset_default_graph()
        # -1 runs the operations in the caller's thread, which is good for small ones.
        inter = -1 if task.mode == "stream" else 1
        config = tf.ConfigProto(
            intra_op_parallelism_threads=threads, inter_op_parallelism_threads=inter
        )
        session = tf.Session(config=config)
        zero = np.zeros((task.b, task.h), np.float32)
        x = tf.placeholder(tf.float32, task.x.shape)
        fed = [x] + [tf.placeholder(tf.float32, zero.shape) for _ in range(2 * task.l)]
        state = [zero] * (2 * task.l)
        if task.mode != "stream":
            del fed[1:]
        given = fed[1:] or [tf.zeros(zero.shape) for _ in state]
        pairs = list(zip(given[::2], given[1::2]))
        y, after = (block if kind == "block" else static)(x, pairs)
        if task.dense:
            kernel, bias = (tf.get_variable(f"dense{v.ndim}", v.shape) for v in task.dense)
            logits = tf.reshape(y, [-1, task.h]) @ kernel + bias
            y = tf.reshape(tf.nn.softmax(logits), [task.t, task.b, 2])
        variables = tf.trainable_variables()
        fetched = [y] + [s for pair in after for s in pair] if task.mode == "stream" else [y]
        if task.train:
            rows = tf.placeholder(tf.int32, [task.t * task.b])
            dy = tf.placeholder(tf.float32, task.dy.shape)
            if task.dense:
                rate = {"adagrad": tf.train.AdagradOptimizer, "adam": tf.train.AdamOptimizer}
                optimizer = rate[task.head](0.3)
                loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=rows, logits=logits)
                update = optimizer.minimize(tf.reduce_mean(loss))
                fed, values = [x, rows], [task.x, task.labels.flatten()]
            else:
                optimizer = tf.train.GradientDescentOptimizer(1e-3)
                gradients = tf.gradients(y, variables, grad_ys=dy)
                update = optimizer.apply_gradients(zip(gradients, variables))
                fed, values = [x, dy], [task.x, task.dy]
        session.run(tf.global_variables_initializer())
        for variable, value in zip(variables, task.variables()):
            variable.load(value, session)

        if task.train:
            call = session.make_callable(update, fed)
            return lambda: call(*values), lambda _: session.run(variables)
        call = session.make_callable(fetched, fed)

        def step():
            nonlocal state
            if task.mode == "infer":
                return call(task.x)[0]
            y, *state = call(task.x, *state)
            return y

        return step, lambda y: [y]

    # Dynamic is hardly ever the fastest one, and takes long to try.
    for kind in ("block", "static"):
        yield kind, partial(build, kind)


def jax_peer(task, threads):
    import jax
    import jax.numpy as jnp

    def lstm(layers, x, state, unroll):
        after = []
        for (w, r, bias), carry in zip(layers, state):

            def cell(carry, z):
                h, c = carry
                i, j, f, o = jnp.split(z + h @ r, 4, -1)
                c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(j)
                h = jax.nn.sigmoid(o) * jnp.tanh(c)
                return (h, c), h

            carry, x = jax.lax.scan(cell, carry, x @ w + bias, unroll=unroll)
            after.append(carry)
        return x, after

    def logits(dense, y):
        return y @ dense[0] + dense[1]

    def loss(params, x, labels, unroll):
        layers, dense = params
        y, _ = lstm(layers, x, zero(), unroll)
        chosen = jax.nn.log_softmax(logits(dense, y))
        return -jnp.take_along_axis(chosen, labels[..., None], -1).mean()

    def update(w, g, m, v, t):
        if task.head == "none":
            return w - 1e-3 * g, m, v
        if task.head == "adagrad":
            v = v + g * g
            return w - 0.3 * g / jnp.sqrt(v), m, v
        m = m + (1 - 0.9) * (g - m)
        v = v + (1 - 0.999) * (g * g - v)
        rate = 0.3 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        return w - rate * m / (jnp.sqrt(v) + 1e-8), m, v

    def zero():
        return [tuple(jnp.zeros((2, task.b, task.h))) for _ in task.layers]

    def split():
        layers = [(*np.split(k, [len(k) - task.h]), b) for k, b in task.layers]
        return jax.tree.map(jnp.array, (layers, task.dense))

    def train(unroll):
        x, dy, labels = map(jnp.array, (task.x, task.dy, task.labels))

        def run(params, m, v, t):
            if task.dense:
                gradients = jax.grad(loss)(params, x, labels, unroll)
            else:
                layers = lambda p: lstm(p[0], x, zero(), unroll)[0]
                (gradients,) = jax.vjp(layers, params)[1](dy)
            leaves, tree = jax.tree.flatten(params)
            rest = (tree.flatten_up_to(s) for s in (gradients, m, v))
            updated = [update(*leaf, t) for leaf in zip(leaves, *rest)]
            return tuple(tree.unflatten(part) for part in zip(*updated))

        run = jax.jit(run, donate_argnums=(0, 1, 2))
        params = split()
        start = 0.1 if task.head == "adagrad" else 0.0
        # Slots that no update uses are single numbers.
        shape = (lambda p: ()) if task.head == "none" else (lambda p: p.shape)
        slot = lambda value: jax.tree.map(lambda p: jnp.full(shape(p), value), params)
        kept = (params, slot(0.0), slot(start))
        steps = count(1)

        def step():
            nonlocal kept
            kept = jax.block_until_ready(run(*kept, np.float32(next(steps))))

        def read(_):
            layers, dense = jax.tree.map(np.asarray, kept[0])
            values = [v for w, r, b in layers for v in (np.concatenate([w, r]), b)]
            return values + list(dense or ())

        return step, read

    def infer(unroll):
        params, stream = split(), task.mode == "stream"

        def run(params, x, state):
            layers, dense = params
            y, after = lstm(layers, x, state if stream else zero(), unroll)
            y = jax.nn.softmax(logits(dense, y)) if dense else y
            return (y, after) if stream else (y, None)

        run = jax.jit(run, donate_argnums=2)
        state = zero() if stream else None

        def step():
            nonlocal state
            y, state = run(params, task.x, state)
            return np.asarray(y)

        return step, lambda y: [y]

    # In training unrolled loops take a minute to compile and are not faster.
    for unroll in (1,) if task.train or task.t < 4 else (1, 4):
        yield f"unroll={unroll}", partial(train if task.train else infer, unroll)


def timed(step, ns, calls=1):
    """Nanoseconds per call, in samples of so many calls, for about `ns` or at least once."""
    samples = []
    end = perf_counter_ns() + ns
    while not samples or perf_counter_ns() < end:
        start = perf_counter_ns()
        for _ in range(calls):
            step()
        samples.append((perf_counter_ns() - start) / calls)
    return samples


def at_most(most, samples):
    """Evenly chosen samples and the smallest of all."""
    if len(samples) <= most:
        return samples
    chosen = [samples[n * len(samples) // (most - 1)] for n in range(most - 1)]
    return chosen + [min(samples)]


def load(peer, task, threads):
    """The fastest setting's `step`, and the outcome of its first call."""
    settings = dict(peer(task, threads))
    best, *others = settings
    if others:
        costs = {}
        for name, build in settings.items():
            step, _ = build()
            # The first call prepares much; a second one that is slow is enough.
            step()
            costs[name] = min(timed(step, 0))
            if costs[name] < 500_000_000:
                costs[name] = min(timed(step, 200_000_000))
        best = min(costs, key=costs.get)
        print(task.mode, "in ns per call:", costs, file=sys.stderr)
    # Once more, as some settings are the whole process's.
    step, read = settings[best]()
    return step, read(step())


def serve(peer, threads, answers):
    step = None
    for line in sys.stdin:
        command, *words = line.split() or [""]
        if command == "quit":
            break
        try:
            if command == "load":
                step = None
                step, outcome = load(peer, Task(*words[:-1]), threads)
                with open(words[-1], "wb") as file:
                    for v in outcome:
                        file.write(np.ascontiguousarray(v, "<f4").tobytes())
                answer = "ok"
            elif command == "time" and step:
                ns = float(words[0]) * 1e9
                cost = min(timed(step, ns / 10))
                calls = max(1, math.ceil(20_000 / cost))
                answer = "ns " + " ".join(f"{s:.0f}" for s in at_most(200, timed(step, ns, calls)))
            else:
                answer = f"no sense in {command!r} here"
        except Exception as error:
            kind = "" if isinstance(error, No) else f"{type(error).__name__}: "
            answer = "no " + " ".join(f"{kind}{error}".split())[:300]
        print(answer, file=answers, flush=True)


def main():
    if sys.argv[1] == "onnx":
        with open(sys.argv[2], "wb") as file:
            file.write(onnx_model(Task(*sys.argv[3:])))
        return
    name, threads = sys.argv[1], sys.argv[2]
    # Read when the libraries are imported.
    os.environ |= {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "NPROC": threads,
        "JAX_PLATFORMS": "cpu",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    if threads == "1":
        os.environ["XLA_FLAGS"] = (
            "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        )
    # What the libraries print is not an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    peers = {
        "torch": torch_peer,
        "onnxruntime": onnxruntime_peer,
        "tensorflow": tensorflow_peer,
        "jax": jax_peer,
    }
    serve(peers[name], int(threads), answers)


if __name__ == "__main__":
    main()
