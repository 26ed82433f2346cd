"""Makes training.safetensors: whole training runs of PyTorch, in float64.

    pip install torch numpy safetensors
    python make_training.py

An LSTM of 2 inputs and 3 units below a linear layer of 2 outputs, 6 sequences of 5 steps in batches of 2
in their order, 4 epochs. `x` [6,5,2], `numbers` [6,5,2], `labels` [6], `lengths` [6]; `start` are the weights
before, NAME those after a run, in the layout of this project: the kernel [I+H, 4H] and the bias [4H], gates
i, j, f, o, then the linear layer's kernel [H, O] and bias [O]. Of `plateau` there are also the rates and the
validation losses of its epochs; what it is validated by is `numbers` with the sign changed.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy, huber_loss

HERE = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
I, H, O, N, T, B, EPOCHS = 2, 3, 2, 6, 5, 2, 4
torch.set_default_dtype(torch.float64)


def rounded(*shape, scale=1.0):
    return (torch.randn(*shape) * scale).float().double()


torch.manual_seed(47)
X, NUMBERS = rounded(N, T, I), rounded(N, T, O, scale=0.5)
LABELS, LENGTHS = torch.tensor([0, 1, 1, 0, 1, 1]), torch.tensor([5, 3, 4, 5, 2, 5])
START = rounded((I + H + 1) * 4 * H + (H + 1) * O, scale=0.5)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.dense = torch.nn.LSTM(I, H, batch_first=True), torch.nn.Linear(H, O)
        kernel, bias, w, b = START.split([(I + H) * 4 * H, 4 * H, H * O, O])
        # Gates i, j, f, o in this project; i, f, g, o in torch.
        turn = lambda m: m.unflatten(-1, (4, H))[..., [0, 2, 1, 3], :].flatten(-2)
        kernel = turn(kernel.view(I + H, 4 * H))
        with torch.no_grad():
            self.lstm.weight_ih_l0.copy_(kernel[:I].T)
            self.lstm.weight_hh_l0.copy_(kernel[I:].T)
            self.lstm.bias_ih_l0.copy_(turn(bias))
            self.lstm.bias_hh_l0.zero_()
            self.dense.weight.copy_(w.view(H, O).T)
            self.dense.bias.copy_(b)
        # There is one bias here.
        self.lstm.bias_hh_l0.requires_grad_(False)

    def forward(self, x, state=None):
        h, state = self.lstm(x, state)
        return self.dense(h), state

    def weights(self):
        turn = lambda m: m.unflatten(-1, (4, H))[..., [0, 2, 1, 3], :].flatten(-2)
        kernel = torch.cat([self.lstm.weight_ih_l0.T, self.lstm.weight_hh_l0.T])
        parts = [turn(kernel), turn(self.lstm.bias_ih_l0), self.dense.weight.T, self.dense.bias]
        return torch.cat([part.detach().flatten() for part in parts])


def batches():
    return [slice(at, at + B) for at in range(0, N, B)]


def squared(net, rows):
    return ((net(X[rows])[0] - NUMBERS[rows]) ** 2).mean()


def run(make, loss=squared, schedule=None, each="update", clip=None, accumulate=1):
    net = Net()
    parameters = [p for p in net.parameters() if p.requires_grad]
    optimizer = make(parameters)
    schedule = schedule and schedule(optimizer)
    for _ in range(EPOCHS):
        waiting = 0
        for index, rows in enumerate(batches()):
            last = index + 1 == len(batches())
            group = min(accumulate, len(batches()) - index + waiting)
            (loss(net, rows) / group).backward()
            waiting += 1
            if waiting < accumulate and not last:
                continue
            if clip:
                torch.nn.utils.clip_grad_norm_(parameters, clip)
            optimizer.step()
            optimizer.zero_grad()
            waiting = 0
            if schedule and each == "update":
                schedule.step()
        if schedule and each == "epoch":
            schedule.step()
    return net.weights()


def truncated():
    """Two steps at a time, with the state carried on."""
    net = Net()
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1)
    for _ in range(EPOCHS):
        for rows in batches():
            state = None
            for at in range(0, T, 2):
                y, state = net(X[rows, at : at + 2], state)
                state = tuple(s.detach() for s in state)
                ((y - NUMBERS[rows, at : at + 2]) ** 2).mean().backward()
                optimizer.step()
                optimizer.zero_grad()
    return net.weights()


def plateau():
    net = Net()
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.2)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2, threshold=0)
    rates, losses = [], []
    for _ in range(12):
        for rows in batches():
            squared(net, rows).backward()
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            losses.append(((net(X)[0] + NUMBERS) ** 2).mean())
        rates.append(torch.tensor(optimizer.param_groups[0]["lr"]))
        schedule.step(losses[-1])
    return net.weights(), torch.stack(rates), torch.stack(losses)


def at_the_end(net, rows):
    """Classes by the last step that a row has."""
    y, _ = net(X[rows])
    y = y[torch.arange(len(y)), LENGTHS[rows] - 1]
    weight = torch.tensor([N / (2 * 2), N / (2 * 4)]).float().double()
    return cross_entropy(y, LABELS[rows], weight=weight, label_smoothing=0.1)


def cosine(optimizer):
    """A line from 0 over 3 updates, and then half a cosine down to a tenth."""
    warm, whole, least = 3, EPOCHS * len(batches()), 0.1
    scheduler = torch.optim.lr_scheduler
    up = scheduler.LinearLR(optimizer, 1 / (warm + 1), 1.0, warm)
    down = scheduler.CosineAnnealingLR(optimizer, whole - warm, least * 0.01)
    return scheduler.SequentialLR(optimizer, [up, down], [warm])


optim = torch.optim
halves = lambda o: optim.lr_scheduler.StepLR(o, 1, 0.5)
huber = lambda net, rows: huber_loss(net(X[rows])[0], NUMBERS[rows], delta=0.3)
out = {
    "x": X, "numbers": NUMBERS, "labels": LABELS, "lengths": LENGTHS, "start": START,
    "adam_cosine": run(lambda p: optim.Adam(p, 0.01), schedule=cosine, clip=0.2),
    "adamw_step": run(lambda p: optim.AdamW(p, 0.01, weight_decay=0.1), schedule=halves, each="epoch"),
    "sgd_accumulate": run(lambda p: optim.SGD(p, 0.1, weight_decay=0.05), accumulate=2),
    "momentum_huber": run(lambda p: optim.SGD(p, 0.05, momentum=0.9), loss=huber),
    "classes": run(lambda p: optim.Adam(p, 0.01), loss=at_the_end),
    "truncated": truncated(),
}
weights, rates, losses = plateau()
out |= {"plateau": weights, "plateau.rates": rates, "plateau.losses": losses}
to = lambda t: t.to(torch.int32 if t.dtype == torch.int64 else torch.float32).contiguous().clone()
save_file({key: to(value) for key, value in out.items()}, HERE / "training.safetensors")
print(rates)
