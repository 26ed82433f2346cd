/* LSTM inference and training over the caller's buffers. No function keeps anything of the
   caller's, allocates or prints. Each returns a status; if it is not FUSED_LSTM_STATUS_OK, nothing was written.

   What every caller promises: a pointer that is not null points to what its type says, and to as
   many values as the length beside it says; values that are read have been written before; no
   other thread writes what a call reads, or touches what it writes. Null and misaligned pointers,
   lengths that do not fit the shape, and overlapping buffers are refused. Nothing that is written
   may overlap the shape or its list of hidden sizes either.

   Stack, as measured on x86-64 with AVX2 in a release build: the most of three shapes, from 3 layers
   of 4 units to 2 of 128 with a head of 600 classes:

     fused_lstm_lengths, _init, _clip_by_global_norm, every update    0.5 KiB
     _logits, _probabilities                                          6 KiB
     _loss_gradient, _squared_error_gradient                          9 KiB
     _infer                                                          12 KiB

   No single function takes more than 8 KiB there.

   Written by cbindgen from core/src/c and cbindgen.toml: `make header` writes it again. */

#ifndef FUSED_LSTM_H
#define FUSED_LSTM_H

#include <stddef.h>
#include <stdint.h>

/* The label of a row that does not count, as that of padding. */
#define FUSED_LSTM_IGNORE UINT32_MAX

/* The kinds of stages of a chain. */
#define FUSED_LSTM_EMBEDDING 1  /* a row of a table for each input: `inputs` rows of `outputs` */
#define FUSED_LSTM_DENSE 2      /* x.W + b, from `inputs` to `outputs` */
#define FUSED_LSTM_ACTIVATION 3 /* the function `gates` of every number or row */
#define FUSED_LSTM_LSTM 4       /* an LSTM layer of `outputs` hidden units over `inputs` */
#define FUSED_LSTM_SKIP 5       /* adds `gain` times the input's columns from `inputs` on */
#define FUSED_LSTM_GAIN 6       /* multiplies every number by `gain` */
#define FUSED_LSTM_REVERSE 7    /* the steps from the last to the first */
#define FUSED_LSTM_FLATTEN 8    /* all of `inputs` steps of a row as one */

// What a call came to.
typedef enum {
  // Done.
  FUSED_LSTM_STATUS_OK = 0,
  // A pointer is null. Only a buffer of length zero may be.
  FUSED_LSTM_STATUS_NULL = 1,
  // A pointer is not aligned as its type must be.
  FUSED_LSTM_STATUS_MISALIGNED = 2,
  // A buffer does not have the length that [`fused_lstm_lengths`] gives. They are looked at in
  // the order of the arguments.
  FUSED_LSTM_STATUS_LENGTH = 3,
  // A buffer that is written shares memory with another.
  FUSED_LSTM_STATUS_OVERLAP = 4,
  // A size of the network is zero, or there is no row to learn from. Inference of no steps or
  // no rows is done at once.
  FUSED_LSTM_STATUS_ZERO = 5,
  // A label is neither below the number of classes nor `FUSED_LSTM_IGNORE`.
  FUSED_LSTM_STATUS_LABEL = 6,
  // The network has no dense head, and the call needs one.
  FUSED_LSTM_STATUS_NO_HEAD = 7,
  // A gradient is NaN or infinite, or an update would make a slot or a parameter so.
  FUSED_LSTM_STATUS_NOT_FINITE = 8,
  // The norm to clip to is not above zero.
  FUSED_LSTM_STATUS_NOT_POSITIVE = 9,
  // A stage of a chain has an invalid option or position, or there are too many.
  FUSED_LSTM_STATUS_STAGE = 10,
  // A table index is not a whole number, or is out of range.
  FUSED_LSTM_STATUS_INDEX = 11,
} FusedLstmStatus;

// The sizes of a network: LSTM layers one above the other, and a dense head if there are classes.
typedef struct {
  // Inputs of the first layer.
  size_t inputs;
  // Hidden units of each layer, from the first to the last.
  const size_t *hidden;
  // How many layers.
  size_t layers;
  // Outputs of the dense head; 0 if there is none.
  size_t classes;
} FusedLstmShape;

// How many values each buffer of a call has; `SIZE_MAX` if that many cannot be.
typedef struct {
  // Each layer's kernel `[inputs + hidden, 4, hidden]`, gates i, j, f, o, and bias
  // `[4, hidden]`, then the head's kernel `[hidden, classes]` and bias `[classes]`. Gradients
  // have as many.
  size_t params;
  // Cell state `[batch, hidden]` and hidden state of each layer.
  size_t state;
  // Inputs `[steps, batch, inputs]`.
  size_t x;
  // The last layer's hidden states `[steps, batch, hidden]`.
  size_t y;
  // Labels `[steps, batch]`.
  size_t labels;
  // Class probabilities, or logits, `[steps, batch, classes]`.
  size_t probabilities;
  // What squared error is taken of, and its targets: the head's outputs `[steps, batch, classes]`,
  // or `y` if there is no head.
  size_t outputs;
  // Room for inference.
  size_t scratch;
  // Room for training: what the forward pass leaves to the backward pass.
  size_t cache;
  // Room for training: the backward pass.
  size_t workspace;
} FusedLstmLengths;

// Numbers that are written, and overlap nothing else that the call gets.
typedef struct {
  // The first.
  float *data;
  // How many.
  size_t len;
} FusedLstmFloats;

// Numbers that are read: `len` of them from `data`, which may be null if `len` is zero.
typedef struct {
  // The first.
  const float *data;
  // How many.
  size_t len;
} FusedLstmConstFloats;

// Class labels; `FUSED_LSTM_IGNORE` (`loss::IGNORE`) is that of a row that does not count.
typedef struct {
  // The first.
  const uint32_t *data;
  // How many.
  size_t len;
} FusedLstmLabels;

// Which rows `[steps, batch]` count: those whose byte is not 0. All do if `data` is null and `len`
// is zero.
typedef struct {
  // The first.
  const uint8_t *data;
  // How many.
  size_t len;
} FusedLstmMask;

// A function: 0 linear, 1 tanh, 2 sigmoid, 3 ReLU, 4 hard sigmoid of `slope`, 5 softmax.
typedef struct {
  // Which.
  uint32_t kind;
  // Of the hard sigmoid.
  float slope;
} FusedLstmActivation;

// A stage of a chain; fields that its kind does not have are 0.
typedef struct {
  // `FUSED_LSTM_EMBEDDING` 1, `_DENSE` 2, `_ACTIVATION` 3, `_LSTM` 4, `_SKIP` 5, `_GAIN` 6, `_REVERSE` 7 or `_FLATTEN` 8.
  uint32_t kind;
  // Inputs.
  size_t inputs;
  // Outputs, or hidden units.
  size_t outputs;
  // Width of a layer's projection, 0 if it has none.
  size_t projection;
  // Of a layer: 0 forward, 1 reverse, 2 both.
  uint32_t direction;
  // What a layer hands on: 0 every step, 1 the last one, 2 the mean.
  uint32_t returns;
  // Whether a layer has peepholes.
  uint32_t peepholes;
  // Whether its f is 1 − i.
  uint32_t coupled;
  // The function of its gates, or of an activation.
  FusedLstmActivation gates;
  // The function of its candidate.
  FusedLstmActivation candidate;
  // The function of its cell state.
  FusedLstmActivation output;
  // The largest magnitude of its pre-activations, 0 if there is none.
  float preact_clip;
  // Of its cell state, likewise.
  float cell_clip;
  // Of its projection, likewise.
  float projection_clip;
  // The factor of a skip or gain.
  float gain;
  // What a layer's weights are stored as: 0 float, 1 half precision, 2 int8. Its parameters
  // are then words, bit by bit.
  uint32_t storage;
  // Whether a layer's sums and cell state are normalised.
  uint32_t layer_norm;
  // The zoneout of its cell state.
  float zoneout_cell;
  // Of its hidden state.
  float zoneout_hidden;
} FusedLstmStage;

// Stages, from the first to the last.
typedef struct {
  // The first.
  const FusedLstmStage *data;
  // How many, at most 16.
  size_t len;
} FusedLstmStages;

// How many values each buffer of [`fused_lstm_chain_run`] has.
typedef struct {
  // All stages' parameters.
  size_t params;
  // All layers' states.
  size_t state;
  // Inputs `[steps, batch, inputs]`.
  size_t x;
  // Outputs `[steps, batch, outputs]`, or `[1, batch, outputs]` behind a layer that hands on one
  // step.
  size_t y;
  // Room.
  size_t scratch;
} FusedLstmChainLengths;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// How long the buffers for `steps` time steps of `batch` rows are; `*lengths` is overwritten.
//
// # Safety
//
// What every caller promises, at the top.
FusedLstmStatus fused_lstm_lengths(const FusedLstmShape *shape,
                                   size_t steps,
                                   size_t batch,
                                   FusedLstmLengths *lengths);

// Sets `params` to a start: Glorot-uniform kernels, biases of 0, but 1 for the forget gates. The
// kernels are drawn in their order from `random`, which gives numbers from 0 to below 1 and gets
// `context` back.
//
// # Safety
//
// What every caller promises, at the top; `random` may be called with `context`, does not touch
// what the call gets, and returns.
FusedLstmStatus fused_lstm_init(const FusedLstmShape *shape,
                                FusedLstmFloats params,
                                float (*random)(void *context),
                                void *context);

// Inference: `state` is advanced by `steps` time steps, `y` (the last layer's hidden states) is
// overwritten, and what is in `scratch` does not matter. A stream is taken with `steps` = 1.
//
// # Safety
//
// What every caller promises, at the top.
FusedLstmStatus fused_lstm_infer(const FusedLstmShape *shape,
                                 FusedLstmConstFloats params,
                                 size_t steps,
                                 size_t batch,
                                 FusedLstmConstFloats x,
                                 FusedLstmFloats state,
                                 FusedLstmFloats y,
                                 FusedLstmFloats scratch);

// The dense head on `y`: `logits`, as many as `probabilities`, is overwritten. They are the
// outputs of a network whose outputs are numbers.
//
// # Safety
//
// What every caller promises, at the top.
FusedLstmStatus fused_lstm_logits(const FusedLstmShape *shape,
                                  FusedLstmConstFloats params,
                                  size_t steps,
                                  size_t batch,
                                  FusedLstmConstFloats y,
                                  FusedLstmFloats logits);

// The dense head on `y`, and its softmax: `probabilities` is overwritten.
//
// # Safety
//
// What every caller promises, at the top.
FusedLstmStatus fused_lstm_probabilities(const FusedLstmShape *shape,
                                         FusedLstmConstFloats params,
                                         size_t steps,
                                         size_t batch,
                                         FusedLstmConstFloats y,
                                         FusedLstmFloats probabilities);

// Forward and backward through `steps` time steps: `state` is advanced, the gradients of the mean
// softmax cross-entropy are added to `gradients`; `probabilities` and `*loss` are overwritten;
// what is in `cache` and `workspace` does not matter. The mean is over the rows whose label is
// not `FUSED_LSTM_IGNORE`; if there is none, the loss and the gradients are 0.
//
// # Safety
//
// What every caller promises, at the top.
FusedLstmStatus fused_lstm_loss_gradient(const FusedLstmShape *shape,
                                         FusedLstmConstFloats params,
                                         size_t steps,
                                         size_t batch,
                                         FusedLstmConstFloats x,
                                         FusedLstmLabels labels,
                                         FusedLstmFloats state,
                                         FusedLstmFloats gradients,
                                         FusedLstmFloats probabilities,
                                         FusedLstmFloats cache,
                                         FusedLstmFloats workspace,
                                         float *loss);

// The same with mean squared error: `outputs`, the head's or without a head the last layer's
// hidden states, are overwritten and held against `targets`, as many. The mean is over the rows
// that count in `mask`; if there is none, the loss and the gradients are 0.
//
// # Safety
//
// What every caller promises, at the top.
FusedLstmStatus fused_lstm_squared_error_gradient(const FusedLstmShape *shape,
                                                  FusedLstmConstFloats params,
                                                  size_t steps,
                                                  size_t batch,
                                                  FusedLstmConstFloats x,
                                                  FusedLstmConstFloats targets,
                                                  FusedLstmMask mask,
                                                  FusedLstmFloats state,
                                                  FusedLstmFloats gradients,
                                                  FusedLstmFloats outputs,
                                                  FusedLstmFloats cache,
                                                  FusedLstmFloats workspace,
                                                  float *loss);

// Scales `gradients` so that the norm of all of them is at most `clip_norm`; `*norm` is the one
// that they had, which is infinite if it is beyond the range of `float`. Gradients that are not
// finite and a `clip_norm` that is not above zero are refused.
//
// # Safety
//
// What every caller promises, at the top.
FusedLstmStatus fused_lstm_clip_by_global_norm(FusedLstmFloats gradients,
                                               float clip_norm,
                                               float *norm);

// A step of plain gradient descent: `params` is updated. This and every other update is refused if
// a gradient is not finite, or what it leaves would not be.
//
// # Safety
//
// What every caller promises, at the top.
FusedLstmStatus fused_lstm_sgd_update(float learning_rate,
                                      FusedLstmFloats params,
                                      FusedLstmConstFloats gradients);

// A step of gradient descent with momentum: a = `momentum`·a + g, and the parameters move by
// −`learning_rate`·a, or with `nesterov` (not 0) by −`learning_rate`·(g + `momentum`·a). `params`
// and `velocities`, the a, as many as parameters, are updated; they start at 0 in TensorFlow and in
// PyTorch.
//
// # Safety
//
// What every caller promises, at the top.
FusedLstmStatus fused_lstm_momentum_update(float learning_rate,
                                           float momentum,
                                           uint8_t nesterov,
                                           FusedLstmFloats params,
                                           FusedLstmConstFloats gradients,
                                           FusedLstmFloats velocities);

// A step of Adagrad: `params` and `accumulators` are updated. Accumulators, as many as parameters,
// start at 0.1 and `epsilon` is 0 in TensorFlow; 0 and 1e-10 in PyTorch.
//
// # Safety
//
// What every caller promises, at the top.
FusedLstmStatus fused_lstm_adagrad_update(float learning_rate,
                                          float epsilon,
                                          FusedLstmFloats params,
                                          FusedLstmConstFloats gradients,
                                          FusedLstmFloats accumulators);

// A step of Adam as TensorFlow has it (β₁ = 0.9, β₂ = 0.999, "epsilon hat" 1e-8): `params` and
// `moments` are updated. Moments, twice as many as parameters, start at 0; `step` counts from 1.
//
// # Safety
//
// What every caller promises, at the top.
FusedLstmStatus fused_lstm_adam_update(float learning_rate,
                                       uint32_t step,
                                       FusedLstmFloats params,
                                       FusedLstmConstFloats gradients,
                                       FusedLstmFloats moments);

// A step of RMSProp: s += (1 − `decay`)·(g² − s), then a = `momentum`·a + `learning_rate`·g / (√s +
// `epsilon`), or with `epsilon_inside` (not 0) / √(s + `epsilon`), and the parameters move by −a.
// `params` and `slots`, twice as many, are updated: first all s, then all a. Every a starts at 0.
// TensorFlow: s starts at 1, `decay` 0.9, `epsilon` 1e-10, inside. PyTorch: s starts at 0, `decay`
// 0.99, `epsilon` 1e-8, outside.
//
// # Safety
//
// What every caller promises, at the top.
FusedLstmStatus fused_lstm_rmsprop_update(float learning_rate,
                                          float decay,
                                          float momentum,
                                          float epsilon,
                                          uint8_t epsilon_inside,
                                          FusedLstmFloats params,
                                          FusedLstmConstFloats gradients,
                                          FusedLstmFloats slots);

// How long the buffers of a chain are for `steps` time steps of `batch` rows; `*lengths` is
// overwritten.
//
// # Safety
//
// What every caller promises, at the top.
FusedLstmStatus fused_lstm_chain_lengths(size_t inputs,
                                         FusedLstmStages stages,
                                         size_t steps,
                                         size_t batch,
                                         FusedLstmChainLengths *lengths);

// Runs a chain: `state` is advanced by `steps` time steps, `y` is overwritten, and what is in
// `scratch` does not matter. A stream is taken with `steps` = 1, where the chain does not look ahead.
//
// # Safety
//
// What every caller promises, at the top.
FusedLstmStatus fused_lstm_chain_run(size_t inputs,
                                     FusedLstmStages stages,
                                     FusedLstmConstFloats params,
                                     size_t steps,
                                     size_t batch,
                                     FusedLstmConstFloats x,
                                     FusedLstmFloats state,
                                     FusedLstmFloats y,
                                     FusedLstmFloats scratch);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* FUSED_LSTM_H */
