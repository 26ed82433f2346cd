/* The echo tutorial from C: bits in, the same bits three steps later out.

   A trained network is stepped bit by bit; another learns from its own random start, by truncated
   backpropagation over 15 steps with Adagrad. Every probability and every loss is hashed, and held
   against what the same runs gave in Rust. Then every other function is called, and every kind of
   misuse refused. Ends with 0 if all of that held. */

#include "echo_model.h"
#include "fused_lstm.h"
#include <stdio.h>
#include <string.h>

enum { DELAY = 3, STEPS = 15, INFER_STEPS = 1000, TRAIN_STEPS = 2000, SEED = 7 };

/* The two results of each run: of machines that round a product before they add it, and of those
   that do not. They are recorded in core/examples/replay. */
static const uint32_t INFERRED[] = {0xaad7b644, 0x70c150c9};
static const uint32_t TRAINED[] = {0xf6895bf7, 0x4eb54215};

static const size_t hidden[] = ECHO_MODEL_HIDDEN;
static const FusedLstmShape shape = {ECHO_MODEL_INPUTS, hidden, ECHO_MODEL_LAYERS,
                                     ECHO_MODEL_CLASSES};
static const FusedLstmConstFloats trained = {echo_model_params, ECHO_MODEL_PARAMS};

static int failed;

static void hold(int held, const char *what) {
  if (!held) {
    printf("FAILED: %s\n", what);
    failed = 1;
  }
}

static void expect(FusedLstmStatus expected, FusedLstmStatus got, const char *what) {
  if (got != expected) {
    printf("FAILED: %s: expected status %d, got %d\n", what, (int)expected, (int)got);
    failed = 1;
  }
}

/* All buffers are cut from here, for one thing after the other. */
static float memory[3 * 1024];
static size_t used;

static FusedLstmFloats room(size_t len) {
  FusedLstmFloats floats = {memory + used, len};
  if (len > sizeof memory / sizeof *memory - used) {
    hold(0, "the memory is large enough");
    floats.len = 0;
    return floats;
  }
  used += len;
  memset(floats.data, 0, len * sizeof(float));
  return floats;
}

static FusedLstmConstFloats read_only(FusedLstmFloats floats) {
  return (FusedLstmConstFloats){floats.data, floats.len};
}

/* Marsaglia's xorshift. */
static uint32_t next(uint32_t *random) {
  *random ^= *random << 13;
  *random ^= *random >> 17;
  *random ^= *random << 5;
  return *random;
}

static uint32_t seeded(uint32_t seed) { return seed * 2 + 1; }

static float uniform(void *random) { return (float)(next(random) >> 8) / (float)(1 << 24); }

/* The bits of the last steps, the newest first. */
typedef struct {
  uint32_t bit[DELAY];
} Bits;

static void push(Bits *bits, uint32_t bit) {
  memmove(bits->bit + 1, bits->bit, (DELAY - 1) * sizeof bit);
  bits->bit[0] = bit;
}

/* FNV-1a over the bits of a number. */
static void hash(uint32_t *value, float number) {
  uint32_t bits;
  memcpy(&bits, &number, sizeof bits);
  for (int byte = 0; byte < 4; byte++) {
    *value = (*value ^ (bits >> 8 * byte & 0xff)) * 0x01000193;
  }
}

/* Which of the two kinds of machines this one is: the first result says. */
static int kind = -1;

static void recorded(uint32_t got, const uint32_t *both, const char *what) {
  if (kind < 0) {
    kind = got == both[1];
  }
  if (got != both[kind]) {
    printf("FAILED: %s: expected hash %08lx as in Rust, got %08lx\n", what,
           (unsigned long)both[kind], (unsigned long)got);
    failed = 1;
  }
}

static void infer(void) {
  FusedLstmLengths lengths;
  expect(FUSED_LSTM_STATUS_OK, fused_lstm_lengths(&shape, 1, 1, &lengths), "lengths of a step");
  used = 0;
  FusedLstmFloats x = room(lengths.x), state = room(lengths.state), y = room(lengths.y);
  FusedLstmFloats scratch = room(lengths.scratch), p = room(lengths.probabilities);

  uint32_t random = seeded(1), result = 0x811c9dc5;
  Bits bits = {{0}};
  int right = 0;
  for (int step = 0; step < INFER_STEPS; step++) {
    uint32_t bit = next(&random) >> 31;
    x.data[0] = (float)bit;
    expect(FUSED_LSTM_STATUS_OK,
           fused_lstm_infer(&shape, trained, 1, 1, read_only(x), state, y, scratch), "a step");
    expect(FUSED_LSTM_STATUS_OK, fused_lstm_probabilities(&shape, trained, 1, 1, read_only(y), p),
           "probabilities of a step");
    right += (p.data[1] > p.data[0]) == bits.bit[DELAY - 1];
    push(&bits, bit);
    hash(&result, p.data[0]);
    hash(&result, p.data[1]);
  }
  printf("Inference: %d of %d bits right, %u bytes of buffers, hash %08lx\n", right, INFER_STEPS,
         (unsigned)(used * sizeof(float)), (unsigned long)result);
  hold(right >= INFER_STEPS - DELAY, "every bit comes back");
  recorded(result, INFERRED, "the probabilities");
}

static void train(void) {
  FusedLstmLengths lengths;
  expect(FUSED_LSTM_STATUS_OK, fused_lstm_lengths(&shape, STEPS, 1, &lengths),
         "lengths of a training step");
  used = 0;
  FusedLstmFloats params = room(lengths.params), gradients = room(lengths.params);
  FusedLstmFloats accumulators = room(lengths.params), state = room(lengths.state);
  FusedLstmFloats x = room(lengths.x), p = room(lengths.probabilities);
  FusedLstmFloats cache = room(lengths.cache), workspace = room(lengths.workspace);
  uint32_t labels[STEPS];

  uint32_t random = seeded(SEED), result = 0x811c9dc5;
  Bits bits = {{0}};
  expect(FUSED_LSTM_STATUS_OK, fused_lstm_init(&shape, params, uniform, &random), "a start");
  for (size_t i = 0; i < accumulators.len; i++) {
    accumulators.data[i] = 0.1f;
  }
  float mean = 0.6931472f;
  for (int step = 0; step < TRAIN_STEPS; step++) {
    for (int t = 0; t < STEPS; t++) {
      uint32_t bit = next(&random) >> 31;
      x.data[t] = (float)bit;
      labels[t] = bits.bit[DELAY - 1];
      push(&bits, bit);
    }
    memset(gradients.data, 0, gradients.len * sizeof(float));
    float loss = 0;
    expect(FUSED_LSTM_STATUS_OK,
           fused_lstm_loss_gradient(&shape, read_only(params), STEPS, 1, read_only(x),
                                    (FusedLstmLabels){labels, STEPS}, state, gradients, p, cache,
                                    workspace, &loss),
           "a training step");
    expect(FUSED_LSTM_STATUS_OK,
           fused_lstm_adagrad_update(0.3f, 0, params, read_only(gradients), accumulators),
           "an update");
    hash(&result, loss);
    mean += (loss - mean) / 100;
  }
  printf("Training: mean loss %.6f after %d steps, %u bytes of buffers, hash %08lx\n", (double)mean,
         TRAIN_STEPS, (unsigned)(used * sizeof(float)), (unsigned long)result);
  hold(mean < 0.05f, "the loss is below 0.05");
  recorded(result, TRAINED, "the losses");
}

/* What echo has no use for: a gradient is clipped, and followed in two other ways. */
static void other_rules(void) {
  float params[2] = {1, 1}, gradients[2] = {3, 4}, moments[4] = {0}, norm = 0;
  FusedLstmFloats p = {params, 2}, g = {gradients, 2}, m = {moments, 4};
  expect(FUSED_LSTM_STATUS_OK, fused_lstm_clip_by_global_norm(g, 1, &norm), "clipping");
  hold(norm == 5, "3 and 4 have the norm 5");
  expect(FUSED_LSTM_STATUS_OK, fused_lstm_sgd_update(0.5f, p, read_only(g)), "gradient descent");
  hold(params[0] > 0.69f && params[0] < 0.71f, "1 less half of 0.6 is 0.7");
  expect(FUSED_LSTM_STATUS_OK, fused_lstm_adam_update(0.1f, 1, p, read_only(g), m), "Adam");
  hold(params[0] > 0.59f && params[0] < 0.61f, "Adam's first step is its rate");
  printf("Clipping, gradient descent, Adam: right\n");
}

/* Every kind of misuse has its status, and writes nothing. */
static void misuse(void) {
  FusedLstmLengths lengths;
  expect(FUSED_LSTM_STATUS_OK, fused_lstm_lengths(&shape, 1, 1, &lengths), "lengths of a step");
  used = 0;
  FusedLstmFloats x = room(lengths.x), state = room(lengths.state), y = room(lengths.y);
  FusedLstmFloats scratch = room(lengths.scratch), p = room(lengths.probabilities);
  FusedLstmFloats gradients = room(lengths.params), cache = room(lengths.cache);
  FusedLstmFloats workspace = room(lengths.workspace);
  y.data[0] = 42;

  expect(FUSED_LSTM_STATUS_NULL, fused_lstm_lengths(NULL, 1, 1, &lengths), "no shape");
  expect(FUSED_LSTM_STATUS_NULL, fused_lstm_lengths(&shape, 1, 1, NULL), "nowhere to write");
  FusedLstmShape other = shape;
  other.layers = 0;
  expect(FUSED_LSTM_STATUS_ZERO, fused_lstm_lengths(&other, 1, 1, &lengths), "no layers");

  FusedLstmFloats wrong = state;
  wrong.data = NULL;
  expect(FUSED_LSTM_STATUS_NULL,
         fused_lstm_infer(&shape, trained, 1, 1, read_only(x), wrong, y, scratch), "no state");
  wrong.data = (float *)((char *)state.data + 1);
  expect(FUSED_LSTM_STATUS_MISALIGNED,
         fused_lstm_infer(&shape, trained, 1, 1, read_only(x), wrong, y, scratch),
         "a misaligned state");
  wrong = state;
  wrong.len--;
  expect(FUSED_LSTM_STATUS_LENGTH,
         fused_lstm_infer(&shape, trained, 1, 1, read_only(x), wrong, y, scratch),
         "a state that is too short");
  expect(FUSED_LSTM_STATUS_OVERLAP,
         fused_lstm_infer(&shape, trained, 1, 1, read_only(state), state, y, scratch),
         "a state that is also the input");
  hold(y.data[0] == 42, "what is refused writes nothing");

  other = shape;
  other.classes = 0;
  FusedLstmConstFloats headless = trained;
  headless.len -= (hidden[ECHO_MODEL_LAYERS - 1] + 1) * ECHO_MODEL_CLASSES;
  expect(FUSED_LSTM_STATUS_NO_HEAD,
         fused_lstm_probabilities(&other, headless, 1, 1, read_only(y), p), "no head");
  uint32_t label = ECHO_MODEL_CLASSES;
  float loss = 42;
  expect(FUSED_LSTM_STATUS_LABEL,
         fused_lstm_loss_gradient(&shape, trained, 1, 1, read_only(x), (FusedLstmLabels){&label, 1},
                                  state, gradients, p, cache, workspace, &loss),
         "a label that is no class");
  hold(loss == 42, "what is refused gives no loss");
  printf("Misuse: refused\n");
}

/* A chain: a dense layer, a layer in both directions, its last step, and a softmax. */
static void chain(void) {
  static const FusedLstmStage stages[] = {
      {.kind = FUSED_LSTM_DENSE, .inputs = 1, .outputs = 2},
      {.kind = FUSED_LSTM_ACTIVATION, .gates = {1, 0}},
      {.kind = FUSED_LSTM_LSTM, .inputs = 2, .outputs = 2, .direction = 2, .returns = 1,
       .peepholes = 1, .gates = {4, 0.2f}, .candidate = {1, 0}, .output = {1, 0}, .cell_clip = 0.5f},
      {.kind = FUSED_LSTM_ACTIVATION, .gates = {5, 0}},
  };
  static float params[4 + 2 * (40 + 6)], state[8], scratch[256];
  const FusedLstmStages all = {stages, 4};
  const float x[] = {0.5f, -0.5f, 1.0f};
  float y[4] = {0};
  FusedLstmChainLengths lengths;
  hold(fused_lstm_chain_lengths(1, all, 3, 1, &lengths) == FUSED_LSTM_STATUS_OK, "the lengths of a chain");
  hold(lengths.params == 96 && lengths.state == 8 && lengths.x == 3 && lengths.y == 4, "the chain's buffers");
  hold(lengths.scratch <= 256, "room for the chain");
  for (size_t k = 0; k < 96; k++)
    params[k] = 0.02f * (float)(k % 11);
  const FusedLstmStatus status =
      fused_lstm_chain_run(1, all, (FusedLstmConstFloats){params, 96}, 3, 1, (FusedLstmConstFloats){x, 3},
                           (FusedLstmFloats){state, 8}, (FusedLstmFloats){y, 4},
                           (FusedLstmFloats){scratch, lengths.scratch});
  const float sum = y[0] + y[1] + y[2] + y[3];
  hold(status == FUSED_LSTM_STATUS_OK && sum > 0.99999f && sum < 1.00001f && y[0] != y[1], "a chain runs");
  printf("Chain: right\n");
}

int main(void) {
  infer();
  train();
  other_rules();
  misuse();
  chain();
  return failed;
}
