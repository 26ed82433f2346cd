"""Makes the Keras and TensorFlow.js fixtures and their references.

    python make_keras.py    # with keras 3.15.1, tensorflow-cpu and safetensors
    python make_keras.py    # with tensorflow-cpu 2.15.1 and safetensors, under Python 3.11

Each writes those of its version of Keras, the second also those of TensorFlow.js.
"""

import json
import os
import pathlib
import zipfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import keras
from keras import layers, models
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).parent
THREE = keras.__version__.startswith("3.")
PREFIX = "keras3" if THREE else "keras2"


def randomise(model, seed):
    """Weights that no initialiser would give, so that zeros and ones hide nothing."""
    rng = np.random.default_rng(seed)
    values = []
    for variable in model.weights:
        shape = tuple(variable.shape)
        low, high = (0.3, 2.0) if "variance" in (getattr(variable, "path", None) or variable.name) else (-0.9, 0.9)
        values.append(rng.uniform(low, high, shape).astype("float32"))
    model.set_weights(values)


def recurrent(model):
    kinds = (layers.LSTM, layers.Bidirectional)
    return [layer for layer in model.layers if isinstance(layer, kinds)]


def steps_first(y):
    """[B,T,O] or [B,O] to [T,B,O]."""
    y = np.asarray(y, dtype="float32")
    return np.ascontiguousarray(y[None] if y.ndim == 2 else y.transpose(1, 0, 2))


def reference(name, model, seed, steps=5, batch=2, ids=None):
    rng = np.random.default_rng(seed + 1000)
    tensors = {}
    if ids:
        whole = rng.integers(0, ids, (batch, steps)).astype("int32")
        tensors["ids"] = np.ascontiguousarray(whole.T)
    else:
        whole = rng.uniform(-1.5, 1.5, (batch, steps, model.input_shape[-1])).astype("float32")
        tensors["model.x"] = steps_first(whole)
    at = whole
    stack = recurrent(model)
    for layer in model.layers:
        if isinstance(layer, layers.InputLayer):
            continue
        if layer is stack[0]:
            tensors["x"] = steps_first(at)
        if layer in stack:
            states(tensors, layer, stack.index(layer), np.asarray(at))
        at = layer(at, training=False)
        if layer is stack[-1]:
            tensors["y"] = steps_first(at)
    y = model.predict(whole, verbose=0)
    assert np.abs(np.asarray(at) - y).max() < 1e-5
    tensors["model.y"] = steps_first(y)
    save_file(tensors, HERE / f"{name}.ref.safetensors", {"made by": f"keras {keras.__version__}"})


def states(tensors, layer, index, x):
    """The final states of a layer: c, then h."""
    if isinstance(layer, layers.Bidirectional):
        sides = [(".forward", layer.forward_layer), (".backward", layer.backward_layer)]
    else:
        sides = [("", layer)]
    for side, one in sides:
        config = one.get_config()
        config.update(return_state=True, return_sequences=False, name=None)
        config.pop("batch_input_shape", None)
        twin = layers.LSTM.from_config(config)
        twin.build(x.shape)
        twin.set_weights(one.get_weights())
        _, h, c = twin(x)
        tensors[f"state.{index}{side}"] = np.stack([np.asarray(c), np.asarray(h)])


def sequential(shape, *stack):
    return models.Sequential([layers.Input(shape), *stack])


def stack():
    """Two layers, batch normalisation, a function and dropout."""
    return sequential(
        (None, 3),
        layers.LSTM(4, return_sequences=True, name="first"),
        layers.Dropout(0.2),
        layers.BatchNormalization(),
        layers.LSTM(3, use_bias=False, name="second"),
        layers.Dense(2, activation="tanh", name="head"),
    )


def hard():
    """Hard gates, whose slope depends on the version."""
    return sequential(
        (None, 3),
        layers.LSTM(4, return_sequences=True, recurrent_activation="hard_sigmoid"),
        layers.LSTM(3, recurrent_activation="hard_sigmoid", use_bias=False),
    )


def bidirectional():
    """An embedding, and two directions over the sequence."""
    return sequential(
        (None,),
        layers.Embedding(7, 3, name="table"),
        layers.Bidirectional(layers.LSTM(4, return_sequences=True), name="both"),
        layers.Dense(3, activation="softmax", name="head"),
    )


def ends():
    """Two directions with the step that each takes last."""
    return sequential((None, 2), layers.Bidirectional(layers.LSTM(3)))


def backwards():
    """Backwards with the sequence, and with the last step; a Functional model."""
    x = layers.Input((None, 2), name="signal")
    y = layers.LSTM(3, return_sequences=True, go_backwards=True, name="turned")(x)
    y = layers.LSTM(2, go_backwards=True, name="last")(y)
    y = layers.Dense(1, use_bias=False, name="head")(y)
    return models.Model(x, y, name="backwards")


def mean():
    """The mean over the steps."""
    return sequential(
        (None, 2),
        layers.LSTM(3, return_sequences=True, activation="relu"),
        layers.GlobalAveragePooling1D(),
        layers.Dense(2, activation="sigmoid"),
    )


def tfjs(name, model, seed, quantised=None, old=False):
    """What tensorflowjs_converter writes, by hand."""
    config = json.loads(model.to_json())
    topology = {"class_name": config["class_name"], "config": config["config"]}
    if old:
        top = {"modelTopology": {"keras_version": "2.2.4", "backend": "tensorflow", "model_config": topology}}
    else:
        top = {"format": "layers-model", "generatedBy": f"keras v{keras.__version__}", "modelTopology": topology}
    entries, blobs = [], []
    for layer in model.layers:
        for variable in layer.weights:
            value = variable.numpy()
            path = variable.name.split(":")[0] if not THREE else variable.path
            entry = {"name": path, "shape": list(value.shape), "dtype": "float32"}
            if quantised:
                levels = np.iinfo(quantised).max
                low, scale = float(value.min()), float((value.max() - value.min()) / levels) or 1.0
                stored = np.round((value - low) / scale).astype(quantised)
                entry["quantization"] = {"dtype": quantised, "min": low, "scale": scale, "original_dtype": "float32"}
                variable.assign(stored.astype("float32") * np.float32(scale) + np.float32(low))
                blobs.append(stored.tobytes())
            else:
                blobs.append(value.tobytes())
            entries.append(entry)
    blob = b"".join(blobs)
    files = [f"{name}.group1-shard1of2.bin", f"{name}.group1-shard2of2.bin"]
    # Cut inside a number, as the shards of large models are.
    cut = len(blob) // 2 + 1
    (HERE / files[0]).write_bytes(blob[:cut])
    (HERE / files[1]).write_bytes(blob[cut:])
    top["weightsManifest"] = [{"paths": files, "weights": entries}]
    (HERE / f"{name}.json").write_text(json.dumps(top))
    reference(name, model, seed)


def deflate(path):
    """Compresses what Keras stores, as tools that repack an archive do; smaller, too."""
    with zipfile.ZipFile(path) as archive:
        files = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files:
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)


def main():
    made = {
        "stack": (stack(), 1, None),
        "hard": (hard(), 2, None),
        "bidirectional": (bidirectional(), 3, 7),
        "ends": (ends(), 4, None),
        "backwards": (backwards(), 5, None),
        "mean": (mean(), 6, None),
    }
    for name, (model, seed, ids) in made.items():
        randomise(model, seed)
        stem = f"{PREFIX}_{name}"
        if name in ("stack", "bidirectional", "backwards"):
            model.save(HERE / f"{stem}.keras")
            deflate(HERE / f"{stem}.keras")
        if name == "mean":
            model.save(HERE / f"{stem}.keras")
        if name in (("hard", "ends") if THREE else ("hard", "bidirectional", "backwards")):
            model.save(str(HERE / f"{stem}.h5"))
        if name in ("hard", "ends"):
            model.save_weights(str(HERE / f"{stem}.weights.h5"))
        reference(stem, model, seed, ids=ids)
    if not THREE:
        # Weights alone in the older form.
        made["bidirectional"][0].save_weights(str(HERE / f"{PREFIX}_bidirectional_weights.h5"), save_format="h5")
        tfjs("tfjs_hard", made["hard"][0], 2, old=True)
        tfjs("tfjs_uint8", made["stack"][0], 1, quantised="uint8")
        tfjs("tfjs_uint16", made["backwards"][0], 5, quantised="uint16")


if __name__ == "__main__":
    main()
