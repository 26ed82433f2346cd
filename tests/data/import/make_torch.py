"""Makes the fixtures torch_*: small networks as PyTorch writes them, each with a reference.

    pip install torch numpy safetensors
    python make_torch.py

Beside each NAME lies NAME.ref.safetensors: x [T,B,I] and y of the LSTM layers alone, model.x (or ids)
and model.y of the whole network, state.N [2,B,H] with c, then h (.forward and .backward where there
are two directions).
"""

import json
import sys
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

HERE = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
STEPS, BATCH = 7, 2


class Stack(nn.Module):
    """An LSTM and a head."""

    def __init__(self, inputs, hidden, outputs, bias=True, **options):
        super().__init__()
        self.lstm = nn.LSTM(inputs, hidden, bias=bias, **options)
        width = options.get("proj_size") or hidden
        width *= 2 if options.get("bidirectional") else 1
        self.head = nn.Linear(width, outputs, bias=bias)

    def forward(self, x):
        y, _ = self.lstm(x)
        return self.head(y)


class Cells(nn.Module):
    """Two cells, step by step."""

    def __init__(self):
        super().__init__()
        self.cells = nn.ModuleList([nn.LSTMCell(3, 5), nn.LSTMCell(5, 4)])
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.stack(x)[0])

    def stack(self, x):
        states = []
        for cell in self.cells:
            state, rows = None, []
            for row in x:
                state = cell(row, state)
                rows.append(state[0])
            x = torch.stack(rows)
            states.append(state)
        return x, states


class Words(nn.Module):
    """Indices, two LSTM modules of different sizes, a norm and a head."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 4)
        self.first = nn.LSTM(4, 6)
        self.second = nn.LSTM(6, 5)
        self.norm = nn.BatchNorm1d(5)
        self.head = nn.Linear(5, 11)

    def forward(self, ids):
        y, _ = self.stack(self.embedding(ids))
        y = self.norm(y.transpose(1, 2)).transpose(1, 2)
        return self.head(y)

    def stack(self, x):
        x, first = self.first(x)
        x, second = self.second(x)
        return x, [first, second]


class Tall(nn.Module):
    """A head of several layers, with functions between them."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4)
        self.head = nn.Sequential(
            nn.Linear(4, 6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)
        )

    def forward(self, x):
        return self.head(self.lstm(x)[0])


class Mixed(nn.Module):
    """Layers that are not run here around an LSTM that is."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(2, 3, 3, padding=1)
        self.gru = nn.GRU(3, 4, num_layers=2, bidirectional=True)
        self.norm = nn.LayerNorm(8)
        self.lstm = nn.LSTM(8, 5)
        self.rnn = nn.RNN(5, 3)
        self.h0 = nn.Parameter(torch.randn(1, 1, 3))
        self.head = nn.Linear(3, 1)


def init(model):
    """Larger weights than PyTorch's own, so that the gates are far from linear."""
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p) * 0.6)
        for name, p in model.named_buffers():
            if "running" in name:
                p.copy_(torch.rand_like(p) + 0.5)
    return model.eval()


def states(lstm, state):
    """The final states by their names in a reference."""
    h, c = state
    ways = [".forward", ".backward"] if lstm.bidirectional else [""]
    pairs = {}
    for k in range(lstm.num_layers):
        for d, way in enumerate(ways):
            at = k * len(ways) + d
            # Where h is narrower than c, each has a tensor of its own.
            if c.shape[-1] == h.shape[-1]:
                pairs[f"state.{k}{way}"] = torch.stack([c[at], h[at]])
            else:
                pairs[f"state.{k}{way}.c"], pairs[f"state.{k}{way}.h"] = c[at], h[at]
    return pairs


def reference(name, model, ids=None):
    """Runs a network and writes what came."""
    with torch.no_grad():
        if ids is not None:
            x = model.embedding(ids)
            whole = {"ids": ids.to(torch.int32), "model.y": model(ids)}
        else:
            width = model.cells[0].input_size if isinstance(model, Cells) else model.lstm.input_size
            x = torch.randn(STEPS, BATCH, width)
            whole = {"model.x": x.clone(), "model.y": model(x)}
        if hasattr(model, "stack"):
            y, each = model.stack(x)
            pairs = {
                f"state.{k}": torch.stack([c.reshape(BATCH, -1), h.reshape(BATCH, -1)])
                for k, (h, c) in enumerate(each)
            }
        else:
            y, state = model.lstm(x)
            pairs = states(model.lstm, state)
    tensors = {"x": x, "y": y, **whole, **pairs}
    tensors = {key: value.detach().clone().contiguous() for key, value in tensors.items()}
    save_file(tensors, HERE / f"{name}.ref.safetensors", {"made_by": f"torch {torch.__version__}"})


def plain(name, model, **options):
    torch.save(model.state_dict(), HERE / name, **options)
    reference(name, model)


def save_script(module, name):
    """Without what is for debuggers, which has the paths of the machine in it."""
    path = HERE / name
    torch.jit.save(module, path)
    with zipfile.ZipFile(path) as archive:
        entries = [(entry, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for entry, data in entries:
            if not entry.filename.endswith(".debug_pkl"):
                archive.writestr(zipfile.ZipInfo(entry.filename), data, entry.compress_type)


def main():
    torch.manual_seed(20)
    plain("torch_stack.pt", init(Stack(3, 5, 2, num_layers=2)))
    plain("torch_no_bias.pt", init(Stack(3, 4, 2, bias=False)))
    both = init(Stack(3, 4, 2, num_layers=2, bidirectional=True))
    plain("torch_both.pt", both)
    plain("torch_projection.pt", init(Stack(3, 5, 2, num_layers=2, proj_size=3)))
    plain("torch_projection_both.pt", init(Stack(3, 4, 2, proj_size=2, bidirectional=True)))
    plain("torch_cells.pt", init(Cells()))
    legacy = init(Stack(3, 4, 2, num_layers=2, bidirectional=True))
    plain("torch_legacy.pt", legacy, _use_new_zipfile_serialization=False)

    words = init(Words())
    torch.save(words.state_dict(), HERE / "torch_words.pt")
    reference("torch_words.pt", words, torch.randint(0, 11, (STEPS, BATCH)))

    # Tensors that are views: all of one storage, one transposed, one with a step of two.
    model = init(Stack(3, 4, 2))
    state = model.state_dict()
    storage = torch.cat([torch.zeros(5)] + [value.flatten() for value in state.values()])
    at = 5
    for key, value in state.items():
        state[key] = storage[at : at + value.numel()].view(value.shape)
        at += value.numel()
    state["lstm.weight_ih_l0"] = state["lstm.weight_ih_l0"].t().contiguous().t()
    wide = torch.zeros(16, 2)
    wide[:, 1] = state["lstm.bias_ih_l0"]
    state["lstm.bias_ih_l0"] = wide[:, 1]
    torch.save(state, HERE / "torch_views.pt")
    reference("torch_views.pt", model)

    model = init(Stack(3, 4, 2)).double()
    torch.save(model.state_dict(), HERE / "torch_double.pt")
    reference("torch_double.pt", model.float())
    for dtype in [torch.float16, torch.bfloat16]:
        name = f"torch_{str(dtype).removeprefix('torch.')}"
        model = init(Stack(3, 4, 2)).to(dtype)
        torch.save(model.state_dict(), HERE / f"{name}.pt")
        save_file(model.state_dict(), HERE / f"{name}.safetensors")
        reference(f"{name}.pt", model.float())
        reference(f"{name}.safetensors", model)

    model = init(Stack(3, 5, 2, num_layers=2))
    save_file(model.state_dict(), HERE / "torch_stack.safetensors")
    reference("torch_stack.safetensors", model)

    model = init(Stack(3, 4, 2, num_layers=2))
    text = json.dumps({key: value.tolist() for key, value in model.state_dict().items()})
    (HERE / "torch_state.json").write_text(text + "\n")
    reference("torch_state.json", model)

    model = init(Stack(3, 4, 2))
    script = torch.jit.script(model)
    save_script(script, "torch_script.pt")
    reference("torch_script.pt", model)
    model = init(Stack(3, 4, 2, bidirectional=True))
    trace = torch.jit.trace(model, torch.zeros(STEPS, BATCH, 3))
    save_script(trace, "torch_trace.pt")
    reference("torch_trace.pt", model)

    # The whole object, with the classes of its modules.
    words = init(Words())
    torch.save(words, HERE / "torch_module.pt")
    reference("torch_module.pt", words, torch.randint(0, 11, (STEPS, BATCH)))

    # Activations in a sequence of modules, where their place is known, and without classes.
    model = init(Tall())
    torch.save(model, HERE / "torch_sequence.pt")
    reference("torch_sequence.pt", model)
    torch.save(model.state_dict(), HERE / "torch_sequence_state.pt")

    # As Lightning has it, behind DataParallel and after a step of Adam.
    model = init(Stack(3, 4, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.train()
    model(torch.randn(STEPS, BATCH, 3)).square().mean().backward()
    optimizer.step()
    model.eval()
    checkpoint = {
        "epoch": 3,
        "global_step": 120,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {f"module.{key}": value for key, value in model.state_dict().items()},
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 4}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'loss'}": {"best_score": torch.tensor(0.25)}},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [],
        "hyper_parameters": {"hidden": 4, "name": "stack"},
    }
    torch.save(checkpoint, HERE / "torch_lightning.ckpt")
    reference("torch_lightning.ckpt", model)

    torch.save(init(Mixed()).state_dict(), HERE / "torch_mixed.pt")


main()
