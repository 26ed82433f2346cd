"""Makes the fixtures of the JSON family with torch: NAM, RTNeural, GuitarML, ICU4X.

    python make_json.py

Needs torch, numpy and safetensors. The references are torch's own numbers.
"""

import json

import numpy as np
import torch
from safetensors.numpy import save_file

torch.manual_seed(5)
torch.set_grad_enabled(False)


def lists(tensor):
    return np.asarray(tensor, np.float32).tolist()


def lstm(inputs, hidden, layers=1, both=False):
    net = torch.nn.LSTM(inputs, hidden, layers, bidirectional=both)
    for name, value in net.named_parameters():
        value.copy_(torch.randn_like(value) * 0.6)
    return net


def keras(net, suffix=""):
    """Kernel [I, 4H], recurrent kernel [H, 4H], bias [4H]; the gates i, f, g, o are those of Keras."""
    get = lambda name: getattr(net, f"{name}_l0{suffix}")
    return get("weight_ih").T, get("weight_hh").T, get("bias_ih") + get("bias_hh")


def states(tensors, net, h, c):
    names = ["forward", "backward"] if net.bidirectional else [None]
    for index in range(h.shape[0]):
        layer, direction = divmod(index, len(names))
        name = f"state.{layer}" + (f".{names[direction]}" if names[direction] else "")
        tensors[name] = torch.stack([c[index], h[index]])


def save(name, tensors, **metadata):
    arrays = {key: np.ascontiguousarray(np.asarray(value)) for key, value in tensors.items()}
    save_file(arrays, f"{name}.ref.safetensors", {"made_by": f"torch {torch.__version__}", **metadata})


def nam(name, inputs, hidden, layers, sample_rate, container=False):
    net, head = lstm(inputs, hidden, layers), torch.nn.Linear(hidden, 1)
    h0, c0 = torch.randn(layers, 1, hidden) * 0.5, torch.randn(layers, 1, hidden)
    weights = []
    for layer in range(layers):
        get = lambda what: getattr(net, f"{what}_l{layer}")
        both = torch.cat([get("weight_ih"), get("weight_hh")], 1)
        bias = get("bias_ih") + get("bias_hh")
        for part in [both, bias, h0[layer, 0], c0[layer, 0]]:
            weights += lists(part.flatten())
    weights += lists(head.weight.flatten()) + lists(head.bias)
    model = {
        "version": "0.5.4",
        "architecture": "LSTM",
        "config": {"input_size": inputs, "hidden_size": hidden, "num_layers": layers},
        "weights": weights,
    }
    if sample_rate:
        model["sample_rate"] = sample_rate
    if container:
        wave = {"version": "0.5.4", "architecture": "WaveNet", "config": {}, "weights": []}
        model = {
            "version": "0.7.0",
            "architecture": "SlimmableContainer",
            "config": {"submodels": [{"max_value": 0.5, "model": wave}, {"max_value": 1.0, "model": model}]},
        }
    json.dump(model, open(f"{name}.nam", "w"))
    x = torch.randn(40, 1, inputs) * 0.3
    y, (h, c) = net(x, (h0, c0))
    zeros = 30
    _, warm = net(torch.zeros(zeros, 1, inputs), (h0, c0))
    tensors = {"x": x, "y": y, "model.y": head(y), "model.y_prewarmed": head(net(x, warm)[0])}
    states(tensors, net, h, c)
    for layer in range(layers):
        tensors[f"initial_state.{layer}"] = torch.stack([c0[layer], h0[layer]])
    save(name, tensors, prewarm_zero_samples=str(zeros))


def guitarml(name, inputs, hidden, layers, skip):
    net, lin = lstm(inputs, hidden, layers), torch.nn.Linear(hidden, 1)
    state = {f"rec.{key}": lists(value) for key, value in net.state_dict().items()}
    state |= {f"lin.{key}": lists(value) for key, value in lin.state_dict().items()}
    data = {
        "model": "SimpleRNN",
        "input_size": inputs,
        "skip": skip,
        "output_size": 1,
        "unit_type": "LSTM",
        "num_layers": layers,
        "hidden_size": hidden,
        "bias_fl": True,
    }
    json.dump({"model_data": data, "state_dict": state}, open(f"{name}.json", "w"))
    x = torch.randn(40, 1, inputs) * 0.3
    y, (h, c) = net(x)
    tensors = {"x": x, "y": y, "model.y": lin(y) + skip * x[..., :1]}
    states(tensors, net, h, c)
    save(name, tensors)


def rtneural(name, **extra):
    before, net, after, out = torch.nn.Linear(2, 5), lstm(5, 6), torch.nn.Linear(6, 4), torch.nn.Linear(4, 1)
    kernel, recurrent, bias = keras(net)
    dense = lambda layer: [lists(layer.weight.T), lists(layer.bias)]
    gamma, beta, mean, variance = (torch.rand(4) + 0.5 for _ in range(4))
    layers = [
        {"type": "time-distributed-dense", "activation": "tanh", "shape": [None, None, 5], "weights": dense(before)},
        {
            "type": "lstm",
            "activation": "tanh",
            "shape": [None, None, 6],
            "weights": [lists(kernel), lists(recurrent), lists(bias)],
        },
        {"type": "dense", "activation": "relu", "shape": [None, None, 4], "weights": dense(after)},
        {
            "type": "batchnorm",
            "activation": "",
            "shape": [None, None, 4],
            "epsilon": 0.001,
            "weights": [lists(gamma), lists(beta), lists(mean), lists(variance)],
        },
        {"type": "dense", "activation": "sigmoid", "shape": [None, None, 1], "weights": dense(out)},
    ]
    json.dump({"in_shape": [None, None, 2], "layers": layers, **extra}, open(f"{name}.json", "w"))
    x = torch.randn(40, 1, 2)
    gain = lambda key: 10 ** (extra.get(key, 0) / 20)
    stack = torch.tanh(before(x * gain("in_gain")))
    y, (h, c) = net(stack)
    normal = (torch.relu(after(y)) - mean) / torch.sqrt(variance + 0.001) * gamma + beta
    whole = torch.sigmoid(out(normal)) + extra.get("in_skip", 0) * gain("in_gain") * x[..., :1]
    tensors = {"x": stack, "y": y, "model.x": x, "model.y": whole * gain("out_gain")}
    states(tensors, net, h, c)
    save(name, tensors)


def icu(name):
    table, net, dense = torch.randn(12, 4), lstm(4, 5, both=True), torch.nn.Linear(10, 4)
    model = {"model": name, "dic": {chr(0xE01 + k): k for k in range(11)}}
    matrices = [table, *keras(net), *keras(net, "_reverse"), dense.weight.T, dense.bias]
    for index, matrix in enumerate(matrices, 1):
        model[f"mat{index}"] = {"v": 1, "dim": list(matrix.shape), "data": lists(matrix.flatten())}
    json.dump(model, open(f"{name}.json", "w"))
    ids = torch.randint(0, 12, (20, 1))
    x = table[ids]
    y, (h, c) = net(x)
    tensors = {"ids": ids.to(torch.int32), "x": x, "y": y, "model.y": torch.softmax(dense(y), -1)}
    states(tensors, net, h, c)
    save(name, tensors)


nam("nam_two_layers", 1, 5, 2, 48000)
nam("nam_container", 1, 3, 1, None, container=True)
guitarml("guitarml_skip", 1, 6, 1, 1)
guitarml("guitarml_knobs", 3, 4, 2, 0)
rtneural("rtneural_layers", samplerate="44100")
rtneural("rtneural_aida", in_skip=1, in_gain=-3.0, out_gain=6.0)
icu("icu_both")
