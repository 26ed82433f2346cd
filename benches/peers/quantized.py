"""Our int8 layer beside ONNX Runtime's DynamicQuantizeLSTM, in turn, on one thread.

    python quantized.py VERSUS [SECONDS]      VERSUS is this project's program of that name

Prints a CSV row for each size: the least and the median nanoseconds of a call. DynamicQuantizeLSTM has
int8 weights with a scale for each column and quantises its inputs in every call.
"""

import csv
import statistics
import subprocess
import sys
import tempfile
from time import perf_counter_ns

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

ROUNDS = 5


def session(units, steps):
    rng = np.random.default_rng(1)
    limit = 1 / np.sqrt(units)
    parts = {}
    for name in "WR":
        kernel = rng.uniform(-limit, limit, (1, units, 4 * units)).astype(np.float32)
        scale = np.abs(kernel).max(axis=1) / 127
        parts[name] = np.round(kernel / scale[:, None]).astype(np.int8)
        parts[name + "_scale"] = scale.astype(np.float32)
        parts[name + "_zero"] = np.zeros((1, 4 * units), np.int8)
    parts["B"] = np.zeros((1, 8 * units), np.float32)
    node = helper.make_node(
        "DynamicQuantizeLSTM",
        ["x", "W", "R", "B", "", "h", "c", "", "W_scale", "W_zero", "R_scale", "R_zero"],
        ["y", "h_after", "c_after"],
        domain="com.microsoft",
        hidden_size=units,
    )
    port = lambda name, *shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    states = [port(name, 1, 1, units) for name in ("h", "c")]
    graph = helper.make_graph(
        [node],
        "int8",
        [port("x", steps, 1, units), *states],
        [port("y", steps, 1, 1, units), port("h_after", 1, 1, units), port("c_after", 1, 1, units)],
        [numpy_helper.from_array(value, name) for name, value in parts.items()],
    )
    opsets = [helper.make_opsetid("", 14), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    ours = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    binding = ours.io_binding()
    shapes = {"x": (steps, 1, units), "h": (1, 1, units), "c": (1, 1, units)}
    for name, shape in shapes.items():
        values = rng.uniform(-1, 1, shape).astype(np.float32)
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(values))
    for name, shape in {"y": (steps, 1, 1, units), "h_after": (1, 1, units), "c_after": (1, 1, units)}.items():
        binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32)))
    return lambda: ours.run_with_iobinding(binding)


def times(run, seconds):
    end = perf_counter_ns() + int(seconds * 1e9)
    all = []
    while perf_counter_ns() < end:
        start = perf_counter_ns()
        for _ in range(10):
            run()
        all.append((perf_counter_ns() - start) / 10)
    return all


def main():
    versus, seconds = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 2.0
    print("units,steps,ours_min_ns,ours_median_ns,onnxruntime_min_ns,onnxruntime_median_ns,ratio_of_minima")
    for steps in (1, 128):
        for units in (64, 128, 256, 512):
            run = session(units, steps)
            run()
            ours, theirs = [], []
            for _ in range(ROUNDS):
                sizes = f"{units},{units},1,1,{steps}"
                arguments = [versus, "--workload", sizes, "--mode", "stream" if steps == 1 else "infer"]
                arguments += ["--seconds", str(seconds / ROUNDS)]
                with tempfile.TemporaryFile() as errors:
                    text = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=errors, check=True)
                rows = csv.DictReader(text.stdout.decode().splitlines())
                # The last level is the machine's best.
                row = [row for row in rows if row["api"] == "int8"][-1]
                ours.append((float(row["min_ns"]), float(row["median_ns"])))
                theirs += times(run, seconds / ROUNDS)
            least, middle = min(o[0] for o in ours), statistics.median(o[1] for o in ours)
            theirs_least, theirs_middle = min(theirs), statistics.median(theirs)
            print(f"{units},{steps},{least:.0f},{middle:.0f},{theirs_least:.0f},{theirs_middle:.0f},{theirs_least / least:.2f}", flush=True)


if __name__ == "__main__":
    main()
