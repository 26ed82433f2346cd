#!/usr/bin/env python3
"""Trains the recipes of std-driver/recipes in PyTorch, beside `fused-lstm train`: the same data, parts,
sizes, losses and updates, on one core. Prints a table of metrics and times.

    benches/peers/training.py DATA [RECIPE...]      # DATA is where recipes/fetch put the files
"""

import csv
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
import wave

import numpy as np
import torch

torch.set_num_threads(1)
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
COMMAND = os.environ.get("FL", os.path.join(ROOT, "target", "release", "fused-lstm"))


def whole_recipe(path):
    """The recipe with all that it does not say, as the command prints it."""
    text = subprocess.run([COMMAND, "train", path, "--print-recipe"], check=True, capture_output=True, text=True)
    return tomllib.loads(text.stdout)


class Net(torch.nn.Module):
    def __init__(self, inputs, hidden, outputs, embedding=None):
        super().__init__()
        self.table = torch.nn.Embedding(*embedding) if embedding else None
        width = embedding[1] if embedding else inputs
        layers = []
        for units in hidden:
            layers.append(torch.nn.LSTM(width, units))
            width = units
        self.layers = torch.nn.ModuleList(layers)
        self.dense = torch.nn.Linear(width, outputs)

    def forward(self, x, states=None, pick=lambda h: h):
        h = self.table(x) if self.table else x
        after = []
        for index, layer in enumerate(self.layers):
            h, state = layer(h, None if states is None else states[index])
            after.append(state)
        return self.dense(pick(h)), after


def split_ends(length, data):
    test, validation = int(length * data["test"]), int(length * data["validation"])
    return length - test - validation, length - test


class Updates:
    """Adam with the recipe's schedule and clipping."""

    def __init__(self, net, training, updates):
        self.parameters = list(net.parameters())
        self.optimizer = torch.optim.Adam(self.parameters, training["learning-rate"])
        self.training, self.updates, self.done = training, updates, 0

    def rate(self):
        base, schedule = self.training["learning-rate"], self.training["schedule"]
        if schedule["kind"] != "cosine":
            return base
        warm = schedule["warm-up"]
        if self.done < warm:
            return base * (self.done + 1) / (warm + 1)
        at = min(1.0, (self.done - warm) / max(1, self.updates - warm))
        return base * (schedule["least"] + (1 - schedule["least"]) * 0.5 * (1 + np.cos(np.pi * at)))

    def step(self, loss):
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.training["clip-norm"] > 0:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.training["clip-norm"])
        self.optimizer.step()
        self.done += 1


def epochs(net, training, train, validate):
    """All epochs; the weights of the lowest validation loss are taken in the end."""
    best, kept, since = np.inf, None, 0
    for epoch in range(training["epochs"]):
        train(epoch)
        with torch.no_grad():
            loss = validate()
        since += 1
        if loss < best:
            best, since = loss, 0
            kept = {name: value.clone() for name, value in net.state_dict().items()}
        if training["patience"] and since >= training["patience"]:
            break
    net.load_state_dict(kept)
    return epoch + 1


def forecast(recipe):
    data, training = recipe["data"], recipe["training"]
    rows = list(csv.reader(open(data["file"])))
    values = np.array(rows[1:], dtype=np.float64)
    window, horizon = data["window"], data["horizon"]
    train_end, validation_end = split_ends(len(values), data)
    mean, deviation = values[:train_end].mean(0), values[:train_end].std(0)
    x = torch.tensor((values - mean) / deviation, dtype=torch.float32)
    ends = np.arange(window - 1, len(values) - horizon)
    parts = [ends[ends + horizon < train_end],
             ends[(ends + horizon >= train_end) & (ends + horizon < validation_end)],
             ends[ends + horizon >= validation_end]]
    windows = x.unfold(0, window, 1).permute(2, 0, 1).contiguous()
    net = Net(x.shape[1], recipe["model"]["hidden"], x.shape[1])
    batch = training["batch"]
    updates = Updates(net, training, training["epochs"] * -(-len(parts[0]) // batch))
    last = lambda h: h[-1]

    def error(some):
        y, _ = net(windows[:, some - window + 1], pick=last)
        return y - x[some + horizon]

    def train(epoch):
        order = np.random.RandomState(epoch).permutation(parts[0])
        for some in np.split(order, range(batch, len(order), batch)):
            updates.step((error(some) ** 2).mean())

    ran = epochs(net, training, train, lambda: (error(parts[1]) ** 2).mean().item())
    with torch.no_grad():
        e = error(parts[2]).double().numpy() * deviation
    return "RMSE", float(np.sqrt((e**2).mean())), ran


def classify(recipe):
    data, training = recipe["data"], recipe["training"]
    labels = list(csv.DictReader(open(os.path.join(data["source"], data["labels"]))))
    names = sorted({row["label"] for row in labels})
    parts = {"training": [], "validation": [], "test": []}
    for row in labels:
        group = row[data["group-column"]]
        part = "test" if group in data["test-groups"] else "validation" if group in data["validation-groups"] else "training"
        table = np.loadtxt(os.path.join(data["source"], row["file"]), delimiter=",", skiprows=1)
        parts[part].append((table, names.index(row["label"])))
    own = np.concatenate([table for table, _ in parts["training"]])
    mean, deviation = own.mean(0), own.std(0)
    window = data["window"]

    def cut(part, stride):
        pairs = [((table[at:at + window] - mean) / deviation, label)
                 for table, label in parts[part] for at in range(0, len(table) - window + 1, stride)]
        x = torch.tensor(np.stack([x for x, _ in pairs]), dtype=torch.float32).transpose(0, 1).contiguous()
        return x, torch.tensor([label for _, label in pairs])

    x, y = cut("training", data["stride"])
    judged = {part: cut(part, window) for part in ("validation", "test")}
    net = Net(x.shape[2], recipe["model"]["hidden"], len(names))
    batch = training["batch"]
    updates = Updates(net, training, training["epochs"] * -(-len(y) // batch))
    pick = (lambda h: h.mean(0)) if data["mean"] else (lambda h: h[-1])

    def train(epoch):
        order = np.random.RandomState(epoch).permutation(len(y))
        for some in np.split(order, range(batch, len(order), batch)):
            logits, _ = net(x[:, some], pick=pick)
            updates.step(torch.nn.functional.cross_entropy(logits, y[some]))

    def validate():
        logits, _ = net(judged["validation"][0], pick=pick)
        return torch.nn.functional.cross_entropy(logits, judged["validation"][1]).item()

    ran = epochs(net, training, train, validate)
    with torch.no_grad():
        logits, _ = net(judged["test"][0], pick=pick)
    return "accuracy", (logits.argmax(1) == judged["test"][1]).double().mean().item(), ran


def samples(path):
    with wave.open(path) as file:
        width, raw = file.getsampwidth(), file.readframes(file.getnframes())
    assert width == 2
    return np.frombuffer(raw, dtype="<i2").astype(np.float32) / 32768


def float_samples(path):
    """WAV files of 32-bit floats, which the wave module does not take."""
    raw = open(path, "rb").read()
    if int.from_bytes(raw[20:22], "little") == 1:
        return samples(path)
    at = raw.index(b"data") + 8
    return np.frombuffer(raw[at:at + int.from_bytes(raw[at - 4:at], "little")], dtype="<f4")


def audio(recipe):
    data, training, loss = recipe["data"], recipe["training"], recipe["loss"]
    segments, judged = [], ([], [])
    for dry, processed in zip(data["dry"], data["processed"]):
        x, y = float_samples(dry), float_samples(processed)
        train_end, validation_end = split_ends(len(x), data)
        for at in range(0, train_end, data["segment"]):
            end = min(at + data["segment"], train_end)
            if end - at > training["warm-up"]:
                segments.append((x[at:end], y[at:end]))
        judged[0].append((x[train_end:validation_end], y[train_end:validation_end]))
        judged[1].append((x[validation_end:], y[validation_end:]))
    net = Net(1, recipe["model"]["hidden"], 1)
    warm, chunk, batch = training["warm-up"], training["truncation"], training["batch"]
    chunks = -(-data["segment"] // chunk)
    updates = Updates(net, training, training["epochs"] * -(-len(segments) // batch) * chunks)

    def outputs(x, states=None):
        y, states = net(x[:, :, None], states)
        y = y[:, :, 0]
        return (y + x if data["skip"] else y), states

    def value(y, target):
        filtered = lambda v: v[1:] - loss["pre-emphasis"] * v[:-1]
        errors, signal = filtered(y - target), filtered(target)
        esr = (errors**2).sum() / ((signal**2).sum() + 1e-5 * y.numel())
        return loss["mse"] * ((y - target) ** 2).mean() + loss["esr"] * esr

    def train(epoch):
        order = np.random.RandomState(epoch).permutation(len(segments))
        for some in np.split(order, range(batch, len(order), batch)):
            rows = [segments[index] for index in some]
            length = min(len(x) for x, _ in rows)
            x = torch.tensor(np.stack([x[:length] for x, _ in rows], 1))
            target = torch.tensor(np.stack([y[:length] for _, y in rows], 1))
            states = None
            for at in range(0, length, chunk):
                if at + chunk <= warm:
                    with torch.no_grad():
                        _, states = outputs(x[at:at + chunk], states)
                    continue
                y, states = outputs(x[at:at + chunk], states)
                states = [(h.detach(), c.detach()) for h, c in states]
                skip = max(0, warm - at)
                updates.step(value(y[skip:], target[at:at + chunk][skip:]))

    def judge(pairs):
        return [(outputs(torch.tensor(x)[:, None])[0][warm:, 0], torch.tensor(y)[warm:]) for x, y in pairs]

    ran = epochs(net, training, train, lambda: sum(value(y, t).item() for y, t in judge(judged[0])))
    with torch.no_grad():
        pairs = judge(judged[1])
    errors = sum(((y - t) ** 2).double().sum().item() for y, t in pairs)
    return "ESR", errors / sum((t**2).double().sum().item() for _, t in pairs), ran


def text(recipe):
    data, training = recipe["data"], recipe["training"]
    characters = open(data["file"], encoding="utf-8", newline="").read()
    names = sorted(set(characters))
    ids = np.array([names.index(c) for c in characters])
    length = len(ids) - 1
    train_end, validation_end = split_ends(length, data)
    rows, chunk = training["batch"], training["truncation"]

    def cut(start, end, rows):
        each = (end - start) // rows
        at = start + np.arange(rows) * each
        grid = at[None, :] + np.arange(each)[:, None]
        return torch.tensor(ids[grid]), torch.tensor(ids[grid + 1])

    def judged(start, end):
        return cut(start, end, max(1, min(rows, (end - start) // 2048)))

    x, y = cut(0, train_end, rows)
    parts = judged(train_end, validation_end), judged(validation_end, length)
    net = Net(len(names), recipe["model"]["hidden"], len(names), (len(names), data["embedding"]))
    updates = Updates(net, training, training["epochs"] * -(-len(x) // chunk))

    def train(_):
        states = None
        for at in range(0, len(x), chunk):
            logits, states = net(x[at:at + chunk], states)
            states = [(h.detach(), c.detach()) for h, c in states]
            updates.step(torch.nn.functional.cross_entropy(logits.flatten(0, 1), y[at:at + chunk].flatten()))

    def bits(part):
        total, states = 0.0, None
        for at in range(0, len(part[0]), 256):
            logits, states = net(part[0][at:at + 256], states)
            target = part[1][at:at + 256].flatten()
            total += torch.nn.functional.cross_entropy(logits.flatten(0, 1), target, reduction="sum").item()
        return total / part[1].numel() / np.log(2)

    ran = epochs(net, training, train, lambda: bits(parts[0]))
    with torch.no_grad():
        return "bits per unit", bits(parts[1]), ran


def ours(path, name):
    began = time.time()
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "log.csv")
        run = subprocess.run([COMMAND, "train", path, "--set", "data.sample=0", "--log", log] if name == "text" else
                             [COMMAND, "train", path, "--log", log], check=True, capture_output=True, text=True)
        ran = len(open(log).readlines()) - 1
    return run.stdout, time.time() - began, ran


def main():
    os.chdir(os.path.dirname(os.path.abspath(sys.argv[1])))
    jobs = {"forecast": forecast, "classify": classify, "audio": audio, "text": text}
    recipes = sys.argv[2:] or ["mackey-glass", "elnino", "watch", "amp", "fortunes"]
    print("| recipe | metric | fused-lstm | PyTorch | epochs | seconds an epoch | PyTorch | ratio |\n|---|---|---|---|---|---|---|---|")
    for name in recipes:
        path = os.path.join(ROOT, "std-driver", "recipes", f"{name}.toml")
        recipe = whole_recipe(path)
        printed, seconds, ran = ours(path, recipe["job"])
        torch.manual_seed(recipe["seed"])
        began = time.time()
        metric, value, theirs = jobs[recipe["job"]](recipe)
        other = time.time() - began
        own = float(re.search(rf"Test: .*?{metric} ([0-9.]+)", printed)[1])
        each, peers = seconds / ran, other / theirs
        print(f"| {name} | {metric} | {own:.4g} | {value:.4g} | {ran} and {theirs} | {each:.3f} | {peers:.3f} | {peers / each:.1f} |", flush=True)


if __name__ == "__main__":
    main()
