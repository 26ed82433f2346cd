"""Makes loss_weighted.safetensors and layer_norm_*.safetensors: PyTorch's numbers in float64.

    pip install torch numpy safetensors
    python make_torch.py

loss_weighted: torch.nn.functional.cross_entropy of `logits` [7,4] and `labels` (-1 is left out) for
each of the cases weights, smoothing and both: NAME.loss, NAME.grad.

layer_norm_NAME: tf.contrib.rnn.LayerNormBasicLSTMCell, and with options LayerNormLSTMCell, of
TensorFlow 1.15 written again line by line, because TensorFlow 2 has neither; the gradients are
autograd's. The keys are those of cell_*: kernel [I+H, 4H], gates i, j, f, o; for each of input,
transform, forget, output and state a gamma and a beta; the forget bias of 1 is added by the cell.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

HERE = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
F64 = torch.float64


def save(name, tensors):
    """Numbers as f32, whole ones as i32."""
    to = {F64: torch.float32, torch.float32: torch.float32, torch.int64: torch.int32}
    tensors = {key: t.detach().to(to[t.dtype]).contiguous().clone() for key, t in tensors.items()}
    save_file(tensors, HERE / f"{name}.safetensors")


def rounded(*shape, scale=1.0):
    """Random numbers that f32 has, as float64."""
    return (torch.randn(*shape, dtype=F64) * scale).float().double()


def losses():
    torch.manual_seed(31)
    logits, labels = rounded(7, 4, scale=2.0), torch.tensor([2, 0, -1, 3, 1, -1, 0])
    weights = torch.tensor([0.5, 2.0, 1.25, 0.0], dtype=F64)
    out = {"logits": logits, "labels": labels, "weights": weights}
    smooth = torch.tensor(0.15).double().item()
    for name, options in [
        ("weights", {"weight": weights}),
        ("smoothing", {"label_smoothing": smooth}),
        ("both", {"weight": weights, "label_smoothing": smooth}),
    ]:
        z = logits.clone().requires_grad_()
        loss = cross_entropy(z, labels, ignore_index=-1, **options)
        loss.backward()
        out |= {f"{name}.loss": loss.reshape(1), f"{name}.grad": z.grad}
    save("loss_weighted", out)


def layer_norm(inp, gamma, beta):
    """contrib.layers.layer_norm: nn.moments over the last axis, nn.batch_normalization."""
    mean = inp.mean(dim=-1, keepdim=True)
    variance = ((inp - mean) ** 2).mean(dim=-1, keepdim=True)
    inv = torch.rsqrt(variance + 1e-12) * gamma
    return inp * inv + (beta - mean * inv)


def cell(p, inputs, state, options):
    """call of LayerNormBasicLSTMCell, and of LayerNormLSTMCell where there are options."""
    sigmoid, tanh = torch.sigmoid, torch.tanh
    c, h = state
    concat = torch.cat([inputs, h], 1) @ p["kernel"]
    i, j, f, o = torch.chunk(concat, 4, dim=1)
    i = layer_norm(i, p["input.gamma"], p["input.beta"])
    j = layer_norm(j, p["transform.gamma"], p["transform.beta"])
    f = layer_norm(f, p["forget.gamma"], p["forget.beta"])
    o = layer_norm(o, p["output.gamma"], p["output.beta"])
    if options:
        new_c = sigmoid(f + 1.0 + p["w_f_diag"] * c) * c + sigmoid(i + p["w_i_diag"] * c) * tanh(j)
    else:
        new_c = c * sigmoid(f + 1.0) + sigmoid(i) * tanh(j)
    new_c = layer_norm(new_c, p["state.gamma"], p["state.beta"])
    if options:
        new_c = torch.clamp(new_c, -options["cell_clip"], options["cell_clip"])
        m = sigmoid(o + p["w_o_diag"] * new_c) * tanh(new_c)
        new_h = torch.clamp(m @ p["projection.kernel"], -options["proj_clip"], options["proj_clip"])
    else:
        new_h = tanh(new_c) * sigmoid(o)
    return new_h, (new_c, new_h)


def layers(name, options):
    torch.manual_seed(32)
    steps, batch, inputs, hidden = 6, 3, 7, 5
    outputs = 3 if options else hidden
    p = {"kernel": rounded(inputs + outputs, 4 * hidden, scale=0.6)}
    for scope in ["input", "transform", "forget", "output", "state"]:
        p[f"{scope}.gamma"] = 1.0 + rounded(hidden, scale=0.3)
        p[f"{scope}.beta"] = rounded(hidden, scale=0.3)
    if options:
        for key in ["w_i_diag", "w_f_diag", "w_o_diag"]:
            p[key] = rounded(hidden, scale=0.5)
        p["projection.kernel"] = rounded(hidden, outputs, scale=0.6)
    p = {key: value.float().double().requires_grad_() for key, value in p.items()}
    leaves = p | {
        "x": rounded(steps, batch, inputs).requires_grad_(),
        "c0": rounded(batch, hidden, scale=0.5).requires_grad_(),
        "h0": rounded(batch, outputs, scale=0.5).requires_grad_(),
    }
    state, rows = (leaves["c0"], leaves["h0"]), []
    for x in leaves["x"]:
        row, state = cell(p, x, state, options)
        rows.append(row)
    y, (c, h) = torch.stack(rows), state
    given = {
        "cotangent": rounded(steps, batch, outputs),
        "cotangent_cT": rounded(batch, hidden),
        "cotangent_hT": rounded(batch, outputs),
    }
    out = leaves | given | {"output": y, "cT": c, "hT": h}
    loss = (y * given["cotangent"]).sum()
    full = loss + (c * given["cotangent_cT"]).sum() + (h * given["cotangent_hT"]).sum()
    for prefix, loss in [("grad", loss), ("grad_full", full)]:
        grads = torch.autograd.grad(loss, list(leaves.values()), retain_graph=True)
        out |= {f"{prefix}.{key}": grad for key, grad in zip(leaves, grads)}
    clips = {f"opt.{key}": torch.tensor([value], dtype=F64) for key, value in options.items()}
    save(f"layer_norm_{name}", out | clips)


losses()
layers("plain", {})
layers("all", {"cell_clip": 1.25, "proj_clip": 0.5})
