"""Writes the ONNX fixtures of this folder and what onnxruntime and torch make of them.

    pip install onnx onnxruntime onnxscript torch safetensors numpy
    python make_onnx.py
"""

import io
import pathlib
import warnings

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

warnings.filterwarnings("ignore")
HERE = pathlib.Path(__file__).parent
T, B, I, H = 6, 3, 4, 5


def numbers(rng, *shape, scale=0.6):
    return rng.normal(0, scale, shape).astype(np.float32)


def session(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def save_ref(name, tensors):
    tensors = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
    versions = {"made_by": f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}, "
                f"torch {torch.__version__}"}
    save_file(tensors, HERE / f"{name}.ref.safetensors", metadata=versions)


def model_of(graph, opset=17):
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8,
        producer_name="make_onnx",
    )


def weights(rng, directions=1, peepholes=False, scale=0.6):
    result = {
        "W": numbers(rng, directions, 4 * H, I, scale=scale),
        "R": numbers(rng, directions, 4 * H, H, scale=scale),
        "B": numbers(rng, directions, 8 * H, scale=scale),
    }
    if peepholes:
        result["P"] = numbers(rng, directions, 3 * H, scale=scale)
    return result


def single(name, seed, attributes, peepholes=False, start=False, scale=0.6, lens=False):
    """One LSTM node, and what brings both directions side by side."""
    rng = np.random.default_rng(seed)
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    tensors = weights(rng, directions, peepholes, scale)
    if start:
        for key in ("initial_h", "initial_c"):
            rows = numbers(rng, directions, 1, H)
            tensors[key] = np.repeat(rows, B, axis=1)
    if lens:
        tensors["sequence_lens"] = np.full(B, T, np.int32)
    order = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
    inputs = [key if key == "X" or key in tensors else "" for key in order]
    while not inputs[-1]:
        inputs.pop()
    batch_first = attributes.get("layout", 0) == 1

    def graph(batch_first):
        own = dict(attributes, hidden_size=H)
        if not batch_first:
            own.pop("layout", None)
        given = dict(tensors)
        if batch_first:
            for key in ("initial_h", "initial_c"):
                if key in given:
                    given[key] = np.ascontiguousarray(given[key].transpose(1, 0, 2))
        nodes = [helper.make_node("LSTM", inputs, ["Y", "Y_h", "Y_c"], name="recurrent", **own)]
        turn = [0, 1, 2, 3] if batch_first else [0, 2, 1, 3]
        nodes.append(helper.make_node("Transpose", ["Y"], ["turned"], perm=turn))
        nodes.append(helper.make_node("Reshape", ["turned", "shape"], ["y"]))
        given["shape"] = np.array([0, 0, -1], np.int64)
        first = ["batch", "time"] if batch_first else ["time", "batch"]
        info = helper.make_tensor_value_info
        return helper.make_graph(
            nodes, name,
            [info("X", TensorProto.FLOAT, [*first, I])],
            [info("y", TensorProto.FLOAT, [*first, directions * H]),
             info("Y_h", TensorProto.FLOAT, None), info("Y_c", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(v, k) for k, v in given.items()],
        )

    onnx.save(model_of(graph(batch_first)), HERE / f"{name}.onnx")
    # onnxruntime knows no layout 1: the reference is the same layer with the other one.
    x = numbers(rng, T, B, I, scale=1.0)
    y, last_h, last_c = session(model_of(graph(False))).run(None, {"X": x})
    ref = {"x": x, "y": y, "model.x": x, "model.y": y}
    ends = ["forward", "backward"] if directions == 2 else [None]
    for k, end in enumerate(ends):
        key = "state.0" if end is None else f"state.0.{end}"
        ref[key] = np.stack([last_c[k], last_h[k]])
    save_ref(name, ref)
    return ref


class Tagger(torch.nn.Module):
    """Two layers in both directions, the batch first, and a head for every step."""

    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(I, H, 2, batch_first=True, bidirectional=True, dropout=0.1)
        self.head = torch.nn.Linear(2 * H, 3)

    def forward(self, x):
        return torch.sigmoid(self.head(self.lstm(x)[0]))


class LastStep(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(I, H, batch_first=True)
        self.head = torch.nn.Linear(H, 2)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1, :])


class LastState(torch.nn.Module):
    """The last layer's final state, of two layers."""

    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(I, H, 2)
        self.head = torch.nn.Linear(H, 2)

    def forward(self, x):
        _, (h, _) = self.lstm(x)
        return torch.tanh(self.head(h[-1]))


class BothStates(torch.nn.Module):
    """The final states of both directions, side by side."""

    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(I, H, bidirectional=True)
        self.head = torch.nn.Linear(2 * H, 2)

    def forward(self, x):
        _, (h, _) = self.lstm(x)
        return self.head(torch.cat([h[-2], h[-1]], dim=1))


class Words(torch.nn.Module):
    """An embedding, a state to start from that was learned, and the mean over the steps."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(11, I)
        self.lstm = torch.nn.LSTM(I, H, batch_first=True)
        self.h = torch.nn.Parameter(torch.randn(1, 1, H))
        self.c = torch.nn.Parameter(torch.randn(1, 1, H))
        self.head = torch.nn.Linear(H, 3)

    def forward(self, ids):
        batch = ids.shape[0]
        start = (self.h.expand(1, batch, H).contiguous(), self.c.expand(1, batch, H).contiguous())
        y, _ = self.lstm(self.table(ids), start)
        return torch.softmax(self.head(y.mean(1)), -1)


class Normal(torch.nn.Module):
    """A dense layer over flattened steps, and a normalisation of columns behind the LSTM."""

    def __init__(self):
        super().__init__()
        self.front = torch.nn.Linear(2, I)
        self.lstm = torch.nn.LSTM(I, H)
        self.norm = torch.nn.BatchNorm1d(H)
        self.head = torch.nn.Conv1d(H, 2, 1)

    def forward(self, x):
        steps, batch = x.shape[0], x.shape[1]
        flat = torch.relu(self.front(x.reshape(steps * batch, 2)))
        y, _ = self.lstm(flat.reshape(steps, batch, I))
        return torch.nn.functional.hardsigmoid(self.head(self.norm(y.permute(1, 2, 0))))


def torch_export(name, seed, module, dynamo=False):
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = module().eval()
    if isinstance(network, Normal):
        network.norm.running_mean.normal_()
        network.norm.running_var.uniform_(0.5, 2)
        torch.nn.init.normal_(network.norm.weight)
    batch_first = network.lstm.batch_first
    ids = isinstance(network, Words)
    width = 2 if isinstance(network, Normal) else I
    if ids:
        x = torch.from_numpy(rng.integers(0, 11, (B, T)))
    else:
        x = torch.from_numpy(numbers(rng, T, B, width, scale=1.0))
        x = x.transpose(0, 1).contiguous() if batch_first else x
    axes = {0: "batch", 1: "time"} if batch_first else {0: "time", 1: "batch"}
    if dynamo:
        shapes = ({k: torch.export.Dim(v, min=2, max=64) for k, v in axes.items()},)
        program = torch.onnx.export(network, (x,), dynamo=True, dynamic_shapes=shapes,
                                    input_names=["input"], output_names=["output"])
        model = program.model_proto
        for node in model.graph.node:
            node.ClearField("metadata_props")
        model.graph.ClearField("value_info")
        model.ClearField("functions")
    else:
        file = io.BytesIO()
        torch.onnx.export(network, (x,), file, dynamo=False, opset_version=17,
                          input_names=["input"], output_names=["output"],
                          dynamic_axes={"input": axes})
        model = onnx.load_from_string(file.getvalue())
    for node in model.graph.node:
        node.doc_string = ""
    onnx.save(model, HERE / f"{name}.onnx")
    seen = {}
    network.lstm.register_forward_hook(
        lambda _, given, made: seen.update(x=given[0], y=made[0], states=made[1])
    )
    with torch.no_grad():
        out = network(x)
    (got,) = session(model).run(None, {"input": x.numpy()})
    assert np.abs(got - out.numpy()).max() < 1e-5, name
    time_first = (lambda v: v.transpose(0, 1)) if batch_first else (lambda v: v)
    ref = {"x": time_first(seen["x"]).numpy(), "y": time_first(seen["y"]).numpy()}
    if ids:
        ref["ids"] = x.T.numpy().astype(np.int32)
    else:
        ref["model.x"] = time_first(x).numpy()
    out = out.numpy()
    if out.ndim == 2:
        out = out[None]
    elif isinstance(network, Normal):
        out = out.transpose(2, 0, 1)
    elif batch_first:
        out = out.transpose(1, 0, 2)
    ref["model.y"] = out
    h, c = (state.numpy() for state in seen["states"])
    both = network.lstm.bidirectional
    for k in range(network.lstm.num_layers):
        for d, end in enumerate(["forward", "backward"] if both else [None]):
            at = 2 * k + d if both else k
            key = f"state.{k}" if end is None else f"state.{k}.{end}"
            ref[key] = np.stack([c[at], h[at]])
    save_ref(name, ref)


def branches():
    """An `If` on an input, whose branches differ; the weights of one are cut out of others."""
    rng = np.random.default_rng(20)
    info = helper.make_tensor_value_info
    both = {"small": weights(rng), "large": weights(rng)}
    # Gates in torch's order, which nodes bring into ONNX's.
    i, o, f, j = np.split(both["large"]["W"][0], 4)
    constants = {
        "torch.weight": np.concatenate([i, f, j, o]),
        **{f"large.{k}": v for k, v in both["large"].items() if k != "W"},
        **{f"small.{k}": v for k, v in both["small"].items()},
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
        **{f"row{k}": np.array([k * H], np.int64) for k in range(5)},
    }
    node = helper.make_node
    cuts = [
        node("Slice", ["torch.weight", f"row{a}", f"row{b}", "zero"], [f"cut{a}"])
        for a, b in [(0, 1), (3, 4), (1, 3)]
    ]
    large = helper.make_graph(
        [*cuts,
         node("Concat", ["cut0", "cut3", "cut1"], ["joined"], axis=0),
         node("Unsqueeze", ["joined", "zero"], ["large.W"]),
         node("LSTM", ["X", "large.W", "large.R", "large.B"], ["large.Y"], hidden_size=H)],
        "large", [], [info("large.Y", TensorProto.FLOAT, None)],
    )
    small = helper.make_graph(
        [node("LSTM", ["X", "small.W", "small.R", "small.B"], ["small.Y"], hidden_size=H)],
        "small", [], [info("small.Y", TensorProto.FLOAT, None)],
    )
    graph = helper.make_graph(
        [node("If", ["careful"], ["Y"], then_branch=large, else_branch=small),
         node("Squeeze", ["Y", "one"], ["y"])],
        "branches",
        [info("X", TensorProto.FLOAT, ["time", "batch", I]), info("careful", TensorProto.BOOL, [])],
        [info("y", TensorProto.FLOAT, ["time", "batch", H])],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    model = model_of(graph)
    onnx.save(model, HERE / "onnx_branches.onnx")
    x = numbers(rng, T, B, I, scale=1.0)
    run = lambda careful: session(model).run(None, {"X": x, "careful": np.array(careful)})[0]
    save_ref("onnx_branches", {"x": x, "y": run(True), "model.x": x, "model.y": run(True),
                               "else.y": run(False)})


def kinds(name, kind, seed):
    """Weights of 16 or 64 bits, made float32 by the graph."""
    rng = np.random.default_rng(seed)
    info = helper.make_tensor_value_info
    tensors = {k: helper.make_tensor(k + "_", kind, v.shape, v.flatten().tolist())
               for k, v in weights(rng).items()}
    nodes = [helper.make_node("Cast", [k + "_"], [k], to=TensorProto.FLOAT) for k in tensors]
    nodes += [
        helper.make_node("LSTM", ["X", *tensors], ["Y"], hidden_size=H, name="recurrent"),
        helper.make_node("Squeeze", ["Y", "one"], ["y"]),
    ]
    one = numpy_helper.from_array(np.array([1], np.int64), "one")
    graph = helper.make_graph(
        nodes, name, [info("X", TensorProto.FLOAT, ["time", "batch", I])],
        [info("y", TensorProto.FLOAT, ["time", "batch", H])], [*tensors.values(), one],
    )
    onnx.save(model_of(graph), HERE / f"{name}.onnx")
    x = numbers(rng, T, B, I, scale=1.0)
    (y,) = session(model_of(graph)).run(None, {"X": x})
    save_ref(name, {"x": x, "y": y, "model.x": x, "model.y": y})


def external():
    name = "onnx_external"
    single(name, 30, {})
    model = onnx.load(HERE / f"{name}.onnx")
    data = HERE / f"{name}.onnx.data"
    data.unlink(missing_ok=True)
    onnx.save(model, HERE / f"{name}.onnx", save_as_external_data=True,
              all_tensors_to_one_file=True, location=data.name, size_threshold=64)


def main():
    single("onnx_plain", 1, {}, lens=True)
    single("onnx_reverse", 2, {"direction": "reverse"})
    single("onnx_bidirectional", 3, {"direction": "bidirectional"})
    single("onnx_peepholes", 4, {}, peepholes=True)
    clipped = single("onnx_clip", 5, {"clip": 0.7}, scale=1.5)
    free = session(onnx.load(HERE / "onnx_plain.onnx"))
    assert np.abs(clipped["state.0"][0]).max() > 0.7 and free
    single("onnx_coupled", 6, {"input_forget": 1})
    single("onnx_batch_first", 7, {"layout": 1}, start=True)
    single("onnx_hard_sigmoid", 8, {
        "activations": ["HardSigmoid", "Tanh", "Relu"],
        "activation_alpha": [1 / 6], "activation_beta": [0.5],
    })
    single("onnx_start", 9, {}, start=True)
    single("onnx_all", 10, {
        "direction": "bidirectional", "clip": 1.5, "input_forget": 1,
        "activations": ["HardSigmoid", "Relu", "Tanh"] * 2,
        "activation_alpha": [0.25, 0.25], "activation_beta": [0.5, 0.5],
    }, peepholes=True, start=True)
    external()
    kinds("onnx_float16", TensorProto.FLOAT16, 41)
    kinds("onnx_double", TensorProto.DOUBLE, 42)
    branches()
    torch_export("onnx_torch_tagger", 50, Tagger)
    torch_export("onnx_torch_last_step", 51, LastStep)
    torch_export("onnx_torch_last_state", 52, LastState)
    torch_export("onnx_torch_both_states", 53, BothStates)
    torch_export("onnx_torch_words", 54, Words)
    torch_export("onnx_torch_normal", 55, Normal)
    torch_export("onnx_dynamo_tagger", 60, Tagger, dynamo=True)
    torch_export("onnx_dynamo_words", 61, Words, dynamo=True)


main()
