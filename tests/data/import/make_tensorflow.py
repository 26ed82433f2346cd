"""Makes the fixtures of TensorFlow 1 and TensorFlow Lite in this folder: small models with random
weights, and beside each what TensorFlow answers. Python 3.11, tensorflow-cpu 2.15.1, safetensors.

    python make_tensorflow.py
"""

import json
import os
import shutil

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"

import flatbuffers
import numpy as np
import tensorflow as tf
from safetensors.numpy import save_file
from tensorflow.lite.python import schema_py_generated as schema

v1 = tf.compat.v1
cells = v1.nn.rnn_cell
HERE = os.path.dirname(os.path.abspath(__file__))
T, B = 6, 3


def path(name):
    return os.path.join(HERE, name)


def reference(name, tensors):
    """float32 unless they are indices; all of them contiguous."""
    tensors = {
        key: np.ascontiguousarray(value, np.int32 if key == "ids" else np.float32)
        for key, value in tensors.items()
    }
    metadata = {"made by": f"tensorflow {tf.__version__}, numpy {np.__version__}"}
    save_file(tensors, path(name + ".ref.safetensors"), metadata)


def randomise(session, rng):
    """Biases of zero would hide an exchange of gates."""
    for variable in v1.trainable_variables():
        scale = 0.5 if variable.shape.rank == 1 else 0.7
        variable.load(rng.normal(0, scale, variable.shape).astype(np.float32), session)


def checkpoint(session, name, **more):
    for old in os.listdir(HERE):
        if old.startswith(name + "."):
            os.remove(path(old))
    v1.train.Saver(**more).save(
        session, path(name), write_meta_graph=False, write_state=False
    )


def freeze(session, name, output):
    graph = v1.graph_util.convert_variables_to_constants(
        session, session.graph_def, [output]
    )
    graph = v1.graph_util.remove_training_nodes(graph, [output])
    with open(path(name + ".pb"), "wb") as file:
        file.write(graph.SerializeToString(deterministic=True))


def state(c, h):
    return np.stack([c, h])


def two_basic_cells(rng, forget_bias=1.0):
    """Time-major, a sequence of logits; the checkpoint has Adam's slots, the frozen graph a softmax."""
    x = v1.placeholder(tf.float32, [T, B, 3], name="x")
    with v1.variable_scope("rnnlm"):
        each = [cells.BasicLSTMCell(n, forget_bias) for n in (4, 5)]
        stack = cells.MultiRNNCell(each)
        y, final = v1.nn.dynamic_rnn(stack, x, dtype=tf.float32, time_major=True)
        w = v1.get_variable("softmax_w", [5, 2])
        b = v1.get_variable("softmax_b", [2])
        logits = tf.matmul(tf.reshape(y, [-1, 5]), w) + b
        probabilities = tf.nn.softmax(logits, name="probabilities")
    step = v1.train.get_or_create_global_step()
    train = v1.train.AdamOptimizer().minimize(tf.reduce_sum(logits), step)
    values = rng.normal(0, 1, [T, B, 3]).astype(np.float32)
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        session.run(train, {x: values})
        randomise(session, rng)
        run = lambda what: session.run(what, {x: values})
        ran = run([y, logits, probabilities] + [part for s in final for part in s])
        common = {
            "x": values,
            "y": ran[0],
            "model.x": values,
            "state.0": state(ran[3], ran[4]),
            "state.1": state(ran[5], ran[6]),
        }
        checkpoint(session, "tf1_basic")
        reference("tf1_basic", common | {"model.y": ran[1].reshape(T, B, 2)})
        freeze(session, "tf1_basic_frozen", "rnnlm/probabilities")
        reference("tf1_basic_frozen", common | {"model.y": ran[2].reshape(T, B, 2)})
        ml5(session, "tf1_ml5")


def ml5(session, name):
    """The form that ml5's conversion script gives the variables of its charRNN."""
    shutil.rmtree(path(name), ignore_errors=True)
    os.mkdir(path(name))
    manifest = {}
    for variable in v1.trainable_variables() + [v1.train.get_global_step()]:
        key = variable.op.name
        value = session.run(variable).astype(np.float32)
        file = key.replace("/", "_")
        manifest[key] = {"filename": file, "shape": list(value.shape)}
        value.tofile(os.path.join(path(name), file))
    with open(os.path.join(path(name), "manifest.json"), "w") as file:
        json.dump(manifest, file, indent=2, sort_keys=True)


def peepholes_and_projection(rng, clips):
    """Batch-major, the last output; with clips in the frozen graph, which a checkpoint has not."""
    x = v1.placeholder(tf.float32, [None, None, 3], name="x")
    cell = cells.LSTMCell(
        5,
        use_peepholes=True,
        num_proj=2,
        forget_bias=0.5,
        cell_clip=0.4 if clips else None,
        proj_clip=0.3 if clips else None,
    )
    y, final = v1.nn.dynamic_rnn(cell, x, dtype=tf.float32)
    with v1.variable_scope("head"):
        w = v1.get_variable("kernel", [2, 3])
        b = v1.get_variable("bias", [3])
        out = tf.identity(tf.nn.relu(v1.nn.bias_add(tf.matmul(final.h, w), b)), name="out")
    values = rng.normal(0, 1, [B, T, 3]).astype(np.float32)
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        randomise(session, rng)
        y, c, h, out = session.run([y, final.c, final.h, out], {x: values})
        x = values.transpose(1, 0, 2)
        common = {"x": x, "y": y.transpose(1, 0, 2), "model.x": x}
        common |= {"state.0.c": c, "state.0.h": h}
        if clips:
            freeze(session, "tf1_lstm_frozen", "head/out")
            reference("tf1_lstm_frozen", common | {"model.y": out[None]})
        else:
            checkpoint(session, "tf1_lstm")
            reference("tf1_lstm", common)


def two_directions(rng):
    """bidirectional_dynamic_rnn, with the shapes of its variables only: a checkpoint."""
    x = v1.placeholder(tf.float32, [None, None, 3], name="x")
    both = [cells.LSTMCell(4, forget_bias=0.0) for _ in range(2)]
    (fw, bw), final = v1.nn.bidirectional_dynamic_rnn(*both, x, dtype=tf.float32)
    values = rng.normal(0, 1, [B, T, 3]).astype(np.float32)
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        randomise(session, rng)
        y, final = session.run([tf.concat([fw, bw], 2), final], {x: values})
        checkpoint(session, "tf1_both")
        tensors = {"x": values.transpose(1, 0, 2), "y": y.transpose(1, 0, 2)}
        for direction, s in zip(["forward", "backward"], final):
            tensors["state.0." + direction] = state(s.c, s.h)
        reference("tf1_both", tensors)


def unrolled(rng):
    """static_rnn: a cell for each step, the same weights in all of them."""
    x = v1.placeholder(tf.float32, [None, 4, 3], name="x")
    cell = cells.BasicLSTMCell(4, forget_bias=0.75)
    y, final = v1.nn.static_rnn(cell, tf.unstack(x, axis=1), dtype=tf.float32)
    out = tf.tanh(y[-1], name="out")
    values = rng.normal(0, 1, [B, 4, 3]).astype(np.float32)
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        randomise(session, rng)
        y, final, out = session.run([y, final, out], {x: values})
        freeze(session, "tf1_static_frozen", "out")
        x = values.transpose(1, 0, 2)
        tensors = {"x": x, "y": y, "model.x": x, "model.y": out[None]}
        reference("tf1_static_frozen", tensors | {"state.0": state(final.c, final.h)})


def in_graph(make, *arguments):
    """As TensorFlow 1 did it: loops of Enter, Merge, Switch and Exit, and plain variables."""
    v1.disable_control_flow_v2()
    v1.disable_resource_variables()
    with tf.Graph().as_default():
        v1.set_random_seed(1)
        make(np.random.default_rng(1), *arguments)
    v1.enable_control_flow_v2()
    v1.enable_resource_variables()


def keras_random(model, rng):
    model.set_weights(
        [rng.normal(0, 0.5, w.shape).astype(np.float32) for w in model.get_weights()]
    )


def keras_checkpoint():
    """An object-based checkpoint, as `save_weights` and SavedModels of TensorFlow 2 have it."""
    rng = np.random.default_rng(2)
    k = tf.keras.layers
    model = tf.keras.Sequential(
        [
            k.Embedding(7, 3),
            k.Bidirectional(k.LSTM(4, return_sequences=True)),
            k.Dropout(0.2),
            k.LSTM(5, return_sequences=True),
            k.Dense(2),
        ]
    )
    ids = rng.integers(0, 7, [B, T])
    model(ids)
    model.compile("adam", "mse")
    model.fit(ids, np.zeros([B, T, 2], np.float32), verbose=0)
    keras_random(model, rng)
    for old in os.listdir(HERE):
        if old.startswith("tf2_keras."):
            os.remove(path(old))
    tf.train.Checkpoint(model=model).write(path("tf2_model"))
    model.save_weights(path("tf2_keras"))
    os.remove(path("checkpoint"))
    x = model.layers[0](ids)
    y = model.layers[3](model.layers[1](x))
    swap = lambda v: np.asarray(v).transpose(1, 0, 2)
    tensors = {"x": swap(x), "y": swap(y), "ids": ids.T, "model.y": swap(model(ids))}
    reference("tf2_keras", tensors)


def lite(name, model, values, prepare=lambda converter: None, fixed=None):
    """Converts, and runs what came of it."""
    shape = fixed or [1] + list(values.shape[1:])
    function = tf.function(model).get_concrete_function(
        tf.TensorSpec(shape, values.dtype)
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], model)
    prepare(converter)
    content = converter.convert()
    with open(path(name + ".tflite"), "wb") as file:
        file.write(content)
    return run_lite(content, values)


def run_lite(content, values):
    """What the interpreter answers, batch by batch."""
    interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    given, gives = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    out = []
    for row in values:
        interpreter.reset_all_variables()
        if given["dtype"] == np.int8:
            scale, zero = given["quantization"]
            row = np.clip(np.round(row / scale) + zero, -128, 127).astype(np.int8)
        interpreter.set_tensor(given["index"], row[None])
        interpreter.invoke()
        answer = interpreter.get_tensor(gives["index"])[0]
        if gives["dtype"] == np.int8:
            scale, zero = gives["quantization"]
            answer = (answer.astype(np.float32) - zero) * scale
        out.append(answer)
    return np.stack(out)


def lite_models():
    rng = np.random.default_rng(3)
    k = tf.keras.layers
    values = rng.normal(0, 1, [B, T, 3]).astype(np.float32)
    swap = lambda v: np.asarray(v).transpose(1, 0, 2)

    def of(layers, name, inputs=values, prepare=lambda converter: None, lstm=1):
        model = tf.keras.Sequential([tf.keras.Input(inputs.shape[1:]), *layers])
        keras_random(model, rng)
        y = lite(name, model, inputs, prepare)
        key = "ids" if inputs.ndim == 2 else "model.x"
        given = inputs.T if inputs.ndim == 2 else swap(inputs)
        tensors = {key: given, "model.y": swap(y) if y.ndim == 3 else y[None]}
        if lstm:
            tensors |= {"x": given, "y": swap(model.layers[lstm - 1](inputs))}
        reference(name, tensors)

    of([k.LSTM(4, return_sequences=True), k.Dense(2, "tanh")], "lite_sequence")
    of([k.LSTM(4), k.Dense(2, "softmax")], "lite_last", lstm=0)

    def dynamic(converter):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]

    # What has fewer than 1024 numbers is left as it is: the matrix of h is quantised.
    # A first step alone would be without the matrix of h.
    short = values[:, :2]
    layers = [k.LSTM(18, unroll=True, return_sequences=True), k.Dense(2, "sigmoid")]
    of(layers, "lite_dynamic", inputs=short, prepare=dynamic, lstm=0)

    def half(converter):
        dynamic(converter)
        converter.target_spec.supported_types = [tf.float16]

    # The converter does not come to an end with an operator for the whole sequence here.
    layers = [k.LSTM(4, unroll=True), k.Dense(2)]
    of(layers, "lite_half", inputs=values[:, :2], prepare=half, lstm=0)

    def integers(converter):
        dynamic(converter)
        converter.representative_dataset = lambda: ([row[None]] for row in values)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.int8
        converter.inference_output_type = tf.int8

    of([k.LSTM(4), k.Dense(2)], "lite_int8", prepare=integers, lstm=0)
    ids = rng.integers(0, 7, [B, T]).astype(np.int32)
    both = k.Bidirectional(k.LSTM(4, return_sequences=True))
    of([k.Embedding(7, 3), both, k.Dense(2)], "lite_both", inputs=ids, lstm=0)
    of([k.LSTM(4, unroll=True), k.Dense(2, "relu")], "lite_unrolled", lstm=0)

    # One step a call, with the state as an input and an output.
    layer = k.LSTM(4, return_sequences=True, return_state=True, unroll=True)
    dense = k.Dense(2, "sigmoid")
    x, s = tf.keras.Input([1, 3], 1), tf.keras.Input([4, 2], 1)
    y, h, c = layer(x, initial_state=[s[..., 0], s[..., 1]])
    model = tf.keras.Model([x, s], [dense(y), tf.stack([h, c], -1)])
    keras_random(model, rng)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    with open(path("lite_step.tflite"), "wb") as file:
        file.write(converter.convert())
    plain = k.LSTM(4, return_sequences=True)
    plain(values)
    plain.set_weights(layer.get_weights())
    y = plain(values)
    tensors = {"x": swap(values), "y": swap(y), "model.x": swap(values)}
    reference("lite_step", tensors | {"model.y": swap(dense(y))})


def lite_operator(name, rng, directions, coupled=False, peepholes=False, projection=None, **clips):
    """A model of one operator, as no converter of today writes it: H 4, I 3."""
    inputs, hidden, outputs = 3, 4, projection or 4
    normal = lambda *shape: rng.normal(0, 0.7, shape).astype(np.float32)
    tensors, buffers = [], [schema.BufferT()]

    def tensor(label, shape, values=None, variable=False):
        made = schema.TensorT()
        made.name, made.shape = label.encode(), list(shape)
        made.type, made.isVariable = schema.TensorType.FLOAT32, variable
        if values is not None:
            made.buffer = len(buffers)
            buffer = schema.BufferT()
            buffer.data = list(np.ascontiguousarray(values).tobytes())
            buffers.append(buffer)
        tensors.append(made)
        return len(tensors) - 1

    def weights(label, *shape):
        return tensor(label, shape, normal(*shape))

    operands = [tensor("x", [1, T, inputs])]
    for direction in directions:
        gates = ["i", "f", "c", "o"]
        for matrix, columns in [("w", inputs), ("r", outputs)]:
            for gate in gates:
                left_out = coupled and gate == "i"
                label = f"{direction}_{matrix}_{gate}"
                operands.append(-1 if left_out else weights(label, hidden, columns))
        for gate in ["i", "f", "o"]:
            there = peepholes and not (coupled and gate == "i")
            operands.append(weights(f"{direction}_p_{gate}", hidden) if there else -1)
        for gate in gates:
            left_out = coupled and gate == "i"
            operands.append(-1 if left_out else weights(f"{direction}_b_{gate}", hidden))
        projected = weights(f"{direction}_projection", outputs, hidden) if projection else -1
        operands += [projected, -1]
    for direction in directions:
        for label, width in [("h", outputs), ("c", hidden)]:
            operands.append(tensor(f"{direction}_{label}", [1, width], variable=True))
    both = len(directions) == 2
    operands += [-1] * (9 if both else 4)
    y = tensor("y", [1, T, outputs * len(directions)])

    if both:
        options = schema.BidirectionalSequenceLSTMOptionsT()
        options.mergeOutputs, options.timeMajor = True, False
        kind = schema.BuiltinOptions.BidirectionalSequenceLSTMOptions
        code = schema.BuiltinOperator.BIDIRECTIONAL_SEQUENCE_LSTM
    else:
        options = schema.UnidirectionalSequenceLSTMOptionsT()
        kind = schema.BuiltinOptions.UnidirectionalSequenceLSTMOptions
        code = schema.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_LSTM
    options.fusedActivationFunction = schema.ActivationFunctionType.TANH
    options.cellClip, options.projClip = clips.get("cell", 0.0), clips.get("proj", 0.0)
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = operands, [y]
    operator.builtinOptionsType, operator.builtinOptions = kind, options
    graph = schema.SubGraphT()
    graph.tensors, graph.operators = tensors, [operator]
    graph.inputs, graph.outputs = [operands[0]], [y]
    model = schema.ModelT()
    model.version, model.buffers, model.subgraphs = 3, buffers, [graph]
    model.operatorCodes = [schema.OperatorCodeT()]
    model.operatorCodes[0].builtinCode = code
    model.operatorCodes[0].deprecatedBuiltinCode = code
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    content = bytes(builder.Output())
    with open(path(name + ".tflite"), "wb") as file:
        file.write(content)
    values = normal(B, T, inputs)
    out = run_lite(content, values).transpose(1, 0, 2)
    reference(name, {"x": values.transpose(1, 0, 2), "y": out})


if __name__ == "__main__":
    in_graph(two_basic_cells)
    in_graph(peepholes_and_projection, False)
    in_graph(peepholes_and_projection, True)
    in_graph(two_directions)
    in_graph(unrolled)
    keras_checkpoint()
    lite_models()
    one, two = ["fw"], ["fw", "bw"]
    make = lambda seed: np.random.default_rng(seed)
    lite_operator("lite_coupled", make(4), one, coupled=True, peepholes=True)
    clips = {"cell": 0.6, "proj": 0.4}
    lite_operator("lite_projected", make(5), one, peepholes=True, projection=2, **clips)
    lite_operator("lite_directions", make(6), two)
