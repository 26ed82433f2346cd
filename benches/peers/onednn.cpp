// The oneDNN peer of the benchmark, `onednn THREADS`: its LSTM primitives under
// README.md's protocol. With a head it times the LSTM alone.

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include <omp.h>

#include "oneapi/dnnl/dnnl.hpp"

using dnnl::memory;
using std::string;
using std::vector;
using tag = memory::format_tag;

static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
static dnnl::stream stream(engine);

static memory::desc desc(const memory::dims &dims, tag format) {
    return {dims, memory::data_type::f32, format};
}

static memory zeros(const memory::desc &d) {
    memory m(d, engine);
    std::memset(m.get_data_handle(), 0, d.get_size());
    return m;
}

static float *data(const memory &m) { return static_cast<float *>(m.get_data_handle()); }

static size_t len(const memory &m) { return m.get_desc().get_size() / sizeof(float); }

// The memory itself, or one of another format to which it is reordered.
static memory in_format(memory m, const memory::desc &d) {
    if (m.get_desc() == d) return m;
    memory other(d, engine);
    dnnl::reorder(m, other).execute(stream, m, other);
    return other;
}

static void reorder(memory from, memory to) {
    if (from.get_data_handle() != to.get_data_handle())
        dnnl::reorder(from, to).execute(stream, from, to);
}

struct Task {
    string mode, head;
    int64_t i, h, l, b, t;
    vector<float> numbers;
};

// Layers of the same number of inputs, which are one primitive.
struct Group {
    Group(int64_t layers, int64_t inputs) : layers(layers), inputs(inputs) {}

    int64_t layers, inputs;
    // Weights and bias as they are trained: [layer, direction, input, gate, unit].
    memory w, r, bias;
    // The same in the formats which the primitives prefer, and the gradients.
    memory forward_w, forward_r, backward_w, backward_r, gw, gr, gbias;
    dnnl::primitive forward, backward;
    std::unordered_map<int, memory> forward_args, backward_args;
    memory y, h, c, h_after, c_after;
};

// Gates i, j, f, o of the file as oneDNN's i, f, j, o, or back: both are the same.
static void regate(const float *from, float *to, int64_t rows, int64_t h) {
    const int order[4] = {0, 2, 1, 3};
    for (int64_t row = 0; row < rows; row++)
        for (int g = 0; g < 4; g++)
            std::copy_n(from + (row * 4 + order[g]) * h, h, to + (row * 4 + g) * h);
}

class Net {
public:
    // `weights` is the format in which the primitives take their weights.
    Net(const Task &task, tag weights) : task(task), weights(weights) {
        const auto &[mode, head, i, h, l, b, t, numbers] = task;
        if (i == h || l == 1)
            groups = {{l, i}};
        else
            groups = {{1, i}, {l - 1, h}};
        const float *next = numbers.data();
        for (auto &g : groups) {
            g.w = memory(desc({g.layers, 1, g.inputs, 4, h}, tag::ldigo), engine);
            g.r = memory(desc({g.layers, 1, h, 4, h}, tag::ldigo), engine);
            g.bias = memory(desc({g.layers, 1, 4, h}, tag::ldgo), engine);
            for (int64_t n = 0; n < g.layers; n++) {
                next = take(next, g.w, n, g.layers);
                next = take(next, g.r, n, g.layers);
                next = take(next, g.bias, n, g.layers);
            }
        }
        next += head == "none" ? 0 : 2 * h + 2;
        x = memory(desc({t, b, i}, tag::tnc), engine);
        std::copy_n(next, len(x), data(x));
        dy = memory(desc({t, b, h}, tag::tnc), engine);
        std::copy_n(next + len(x), len(dy), data(dy));
        memory src = x;
        for (auto &g : groups) {
            build(g, src);
            src = g.y;
        }
        if (mode == "train") {
            memory diff = dy;
            for (auto g = groups.rbegin(); g != groups.rend(); ++g) diff = build_backward(*g, diff);
        }
    }

    void step() {
        const bool train = task.mode == "train";
        for (auto &g : groups) {
            if (train) {
                reorder(g.w, g.forward_w);
                reorder(g.r, g.forward_r);
            }
            g.forward.execute(stream, g.forward_args);
            if (task.mode == "stream") {
                // What came out goes in at the next call.
                std::swap(g.h, g.h_after);
                std::swap(g.c, g.c_after);
                g.forward_args[DNNL_ARG_SRC_ITER] = g.h;
                g.forward_args[DNNL_ARG_SRC_ITER_C] = g.c;
                g.forward_args[DNNL_ARG_DST_ITER] = g.h_after;
                g.forward_args[DNNL_ARG_DST_ITER_C] = g.c_after;
            }
        }
        for (auto g = groups.rbegin(); train && g != groups.rend(); ++g) {
            reorder(g->w, g->backward_w);
            reorder(g->r, g->backward_r);
            g->backward.execute(stream, g->backward_args);
        }
        stream.wait();
        for (auto &g : groups)
            if (train) {
                descend(g.w, g.gw);
                descend(g.r, g.gr);
                descend(g.bias, g.gbias);
            }
    }

    void write(const string &path) const {
        std::ofstream file(path, std::ios::binary);
        const auto put = [&](const float *v, size_t n) {
            file.write(reinterpret_cast<const char *>(v), n * sizeof(float));
        };
        if (task.mode != "train") return put(data(groups.back().y), len(groups.back().y));
        for (const auto &g : groups)
            for (int64_t n = 0; n < g.layers; n++)
                for (const auto &m : {g.w, g.r, g.bias}) {
                    const size_t size = len(m) / g.layers;
                    vector<float> v(size);
                    regate(data(m) + n * size, v.data(), size / (4 * task.h), task.h);
                    put(v.data(), size);
                }
    }

private:
    Task task;
    tag weights;
    vector<Group> groups;
    memory x, dy;

    const float *take(const float *next, const memory &m, int64_t n, int64_t layers) const {
        const size_t size = len(m) / layers;
        regate(next, data(m) + n * size, size / (4 * task.h), task.h);
        return next + size;
    }

    memory::desc formatted(const memory &m) const { return desc(m.get_desc().get_dims(), weights); }

    void build(Group &g, const memory &src) {
        const auto [t, b, h] = std::array{task.t, task.b, task.h};
        const auto kind = task.mode == "train" ? dnnl::prop_kind::forward_training
                                               : dnnl::prop_kind::forward_inference;
        const auto state = state_desc(g);
        const auto after = task.mode == "stream" ? state : memory::desc();
        g.y = memory(desc({t, b, h}, tag::tnc), engine);
        forward_desc(g) = {engine, kind, dnnl::rnn_direction::unidirectional_left2right,
                           src.get_desc(), state, state, formatted(g.w), formatted(g.r),
                           g.bias.get_desc(), g.y.get_desc(), after, after};
        const auto &pd = forward_desc(g);
        g.forward = dnnl::lstm_forward(pd);
        g.forward_w = in_format(g.w, pd.weights_layer_desc());
        g.forward_r = in_format(g.r, pd.weights_iter_desc());
        g.forward_args = {{DNNL_ARG_SRC_LAYER, src},         {DNNL_ARG_WEIGHTS_LAYER, g.forward_w},
                          {DNNL_ARG_WEIGHTS_ITER, g.forward_r}, {DNNL_ARG_BIAS, g.bias},
                          {DNNL_ARG_DST_LAYER, g.y}};
        if (task.mode == "train")
            g.forward_args[DNNL_ARG_WORKSPACE] = memory(pd.workspace_desc(), engine);
        if (task.mode != "infer") {
            g.forward_args[DNNL_ARG_SRC_ITER] = g.h = zeros(state);
            g.forward_args[DNNL_ARG_SRC_ITER_C] = g.c = zeros(state);
        }
        if (task.mode == "stream") {
            g.forward_args[DNNL_ARG_DST_ITER] = g.h_after = zeros(state);
            g.forward_args[DNNL_ARG_DST_ITER_C] = g.c_after = zeros(state);
        }
    }

    // In inference from zero no state is given; in training one must be, as without
    // it the primitive's gradient of the recurrent weights is wrong.
    memory::desc state_desc(const Group &g) const {
        if (task.mode == "infer") return {};
        return desc({g.layers, 1, task.b, task.h}, tag::ldnc);
    }

    // Returns the gradient of the group's input.
    memory build_backward(Group &g, const memory &diff) {
        const memory::desc none, state = state_desc(g);
        const memory src = g.forward_args[DNNL_ARG_SRC_LAYER];
        const dnnl::lstm_backward::primitive_desc pd(
                engine, dnnl::prop_kind::backward,
                dnnl::rnn_direction::unidirectional_left2right, src.get_desc(), state, state,
                formatted(g.w), formatted(g.r), g.bias.get_desc(), g.y.get_desc(), none, none,
                src.get_desc(), state, state, g.w.get_desc(), g.r.get_desc(), g.bias.get_desc(),
                diff.get_desc(), none, none, forward_desc(g));
        g.backward = dnnl::lstm_backward(pd);
        g.backward_w = in_format(g.w, pd.weights_layer_desc());
        g.backward_r = in_format(g.r, pd.weights_iter_desc());
        g.gw = zeros(g.w.get_desc());
        g.gr = zeros(g.r.get_desc());
        g.gbias = zeros(g.bias.get_desc());
        const memory diff_src(src.get_desc(), engine);
        g.backward_args = {{DNNL_ARG_SRC_LAYER, src},
                           {DNNL_ARG_SRC_ITER, g.h},
                           {DNNL_ARG_SRC_ITER_C, g.c},
                           {DNNL_ARG_WEIGHTS_LAYER, g.backward_w},
                           {DNNL_ARG_WEIGHTS_ITER, g.backward_r},
                           {DNNL_ARG_BIAS, g.bias},
                           {DNNL_ARG_DST_LAYER, g.y},
                           {DNNL_ARG_DIFF_SRC_LAYER, diff_src},
                           {DNNL_ARG_DIFF_SRC_ITER, memory(state, engine)},
                           {DNNL_ARG_DIFF_SRC_ITER_C, memory(state, engine)},
                           {DNNL_ARG_DIFF_WEIGHTS_LAYER, g.gw},
                           {DNNL_ARG_DIFF_WEIGHTS_ITER, g.gr},
                           {DNNL_ARG_DIFF_BIAS, g.gbias},
                           {DNNL_ARG_DIFF_DST_LAYER, diff},
                           {DNNL_ARG_WORKSPACE, g.forward_args[DNNL_ARG_WORKSPACE]}};
        return diff_src;
    }

    dnnl::lstm_forward::primitive_desc &forward_desc(const Group &g) {
        return descs[&g - groups.data()];
    }

    dnnl::lstm_forward::primitive_desc descs[2];

    // The next gradient is added to this one, which is why it must be zero.
    static void descend(const memory &weights, const memory &gradient) {
        float *w = data(weights), *g = data(gradient);
        const int64_t n = len(weights);
#pragma omp parallel for simd if (n > 100000)
        for (int64_t k = 0; k < n; k++) {
            w[k] -= 1e-3f * g[k];
            g[k] = 0;
        }
    }
};

static vector<double> samples(Net &net, double seconds, int64_t calls) {
    using clock = std::chrono::steady_clock;
    const auto since = [](clock::time_point start) {
        return std::chrono::duration<double, std::nano>(clock::now() - start).count();
    };
    vector<double> ns;
    const auto begin = clock::now();
    while (ns.empty() || since(begin) < seconds * 1e9) {
        const auto start = clock::now();
        for (int64_t n = 0; n < calls; n++) net.step();
        ns.push_back(since(start) / calls);
    }
    return ns;
}

static string measure(Net &net, double seconds) {
    const auto warm = samples(net, seconds / 10, 1);
    const double cost = *std::min_element(warm.begin(), warm.end());
    const auto ns = samples(net, seconds, std::max<int64_t>(1, std::ceil(20e3 / cost)));
    std::ostringstream line("ns", std::ios::ate);
    const size_t chosen = std::min<size_t>(ns.size(), 199);
    for (size_t n = 0; n < chosen; n++) line << ' ' << std::llround(ns[n * ns.size() / chosen]);
    line << ' ' << std::llround(*std::min_element(ns.begin(), ns.end()));
    return line.str();
}

static string load(std::istream &words, std::unique_ptr<Net> &net) {
    Task task;
    string numbers, outcome;
    words >> task.mode >> task.head >> task.i >> task.h >> task.l >> task.b >> task.t >> numbers
            >> outcome;
    std::ifstream file(numbers, std::ios::binary | std::ios::ate);
    if (!words || !file) throw std::runtime_error("the line or its file cannot be read");
    task.numbers.resize(size_t(file.tellg()) / sizeof(float));
    file.seekg(0);
    file.read(reinterpret_cast<char *>(task.numbers.data()), task.numbers.size() * sizeof(float));
    net.reset();
    // The primitives' own choice is not always the fastest one in inference.
    tag best = tag::any;
    double least = INFINITY;
    for (const tag format : {tag::any, tag::ldigo}) {
        if (task.mode == "train") break;
        Net candidate(task, format);
        candidate.step();
        const auto ns = samples(candidate, 0.2, 1);
        const double cost = *std::min_element(ns.begin(), ns.end());
        if (cost < least) {
            least = cost;
            best = format;
        }
    }
    net = std::make_unique<Net>(task, best);
    net->step();
    net->write(outcome);
    return task.head == "none" ? "ok" : "partial the LSTM alone, with plain gradient descent";
}

int main(int, char **argv) {
    omp_set_num_threads(std::max(1, std::atoi(argv[1])));
    std::unique_ptr<Net> net;
    for (string line; std::getline(std::cin, line);) {
        std::istringstream words(line);
        string command, answer = "no sense in this line";
        words >> command;
        if (command == "quit") break;
        try {
            double seconds;
            if (command == "load")
                answer = load(words, net);
            else if (command == "time" && net && words >> seconds)
                answer = measure(*net, seconds);
        } catch (const std::exception &error) {
            answer = string("no ") + error.what();
        }
        std::cout << answer << std::endl;
    }
}
