#include "tools/option_text.h"

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "train/option_table.h"

namespace faq::cli {

const OptionText& text_of_option(const std::string& name) {
  static const std::vector<OptionText> rows{
      {"model", "model", "NAME", "network (see --list-models)"},
      {"weights", "model", "FILE", "pretrained weights, safetensors with torchvision's names"},
      {"ignore-extra", "model", "PATTERN",
       "tensors of --weights that the network does not have and that are left out (\"head.*\"); repeatable"},
      {"num-classes", "model", "N", "classes; default: those of the data"},
      {"in-channels", "model", "N", "1 or 3; default: those of the weights, else of the data"},
      {"preset", "quantization", "NAME",
       "fp32, faq-8bit, faq-4bit, dfp-ternary, lsq-4bit or lsq-2bit: a recipe, each part of which other "
       "options "
       "override"},
      {"scheme", "quantization", "NAME", "none, faq, dfp, dorefa or lsq"},
      {"weight-bits", "quantization", "B", "2 to 8 (--bits B sets both)"},
      {"act-bits", "quantization", "B", "2 to 8"},
      {"first-last-bits", "quantization", "B", "bits of the first and the last layer"},
      {"residual-bits", "quantization", "B",
       "bits of the sums of residual connections and of what they add; 0: as --act-bits"},
      {"layer-bits", "quantization", "PATTERN=W,A",
       "bits of the layers whose name matches; repeatable, the last match wins"},
      {"calibration", "quantization", "HOW", "percentile, max or mse"},
      {"calibration-percentile", "quantization", "P", "0: 99.99 above 6 bits, else 99.9"},
      {"calibration-batches", "quantization", "N", "training batches used for calibration"},
      {"weight-scale", "quantization", "HOW",
       "how scales of weights are chosen, or where learned ones start: mse, max, or (lsq) mean"},
      {"weight-scales", "quantization", "WHAT", "lsq: layer or channel, what has a learned scale of its own"},
      {"hold-weight-scales", "quantization", "SHARE",
       "scales of fixed-point weights follow the weights until this share of a phase is over, then stay; 0: "
       "they stay from its start, 1: they always follow"},
      {"equalize", "quantization", "WHAT",
       "channels: before quantizing, scale each output channel to the layer's scale (batch-norm takes it "
       "back), the default of faq, and of lsq with one scale a layer; or none"},
      {"cluster-size", "quantization", "N|all", "dfp: input channels that share a scale"},
      {"ternary-scale", "quantization", "FORM", "dfp: rms or least-squares, of the weights that are not 0"},
      {"batch-norm-batches", "quantization", "N",
       "training batches over which batch-norm's statistics are taken anew after quantizing and before "
       "evaluating; default: dfp as many as calibration, others 0"},
      {"stages", "methods", "STAGES",
       "both, or weights,both: first the weights alone are quantized, then the activations, too"},
      {"bits-schedule", "methods", "B,…",
       "widths of weights and activations (W/A: each its own) to train at one after the other"},
      {"phase-epochs", "methods", "N,…",
       "epochs of each phase (stage, width), in all those of the run; default: equal shares of --epochs"},
      {"stochastic-precision", "methods", "R",
       "units train quantized with a probability that rises from R (alone: 0.5) to 1"},
      {"stochastic-tail", "methods", "X", "share of a phase, at its end, in which all are quantized"},
      {"distill", "methods", "HOW", "none, joint or frozen: learn from a full-precision teacher"},
      {"teacher", "methods", "FILE", "weights or checkpoint; default: --weights"},
      {"teacher-model", "methods", "NAME", "network of --teacher; default: its checkpoint's, else --model"},
      {"distill-weight", "methods", "X", "of the divergence from the teacher"},
      {"engine", "quantization", "NAME", "integer or simulated"},
      {"grad-dtype", "quantization", "DTYPE",
       "s8 (8-bit integers), s8-data (those of the weights in bf16), bf16 or f32; default: s8, f32 with "
       "--scheme none"},
      {"float-dtype", "quantization", "DTYPE",
       "what layers in floating point multiply in training (--scheme none; a teacher; what --stages and "
       "--stochastic-precision leave in it): f32 or bf16"},
      {"epochs", "training", "N", "0: calibrate and quantize only"},
      {"batch-size", "training", "N", "images of a shard: what one rank computes at a time"},
      {"grad-accum-steps", "training", "N", "shards that each rank computes for a step"},
      {"shards", "training", "K",
       "shards of a step over all ranks, which divide it; the same bits on any number of ranks; default: "
       "ranks × "
       "--grad-accum-steps"},
      {"allreduce", "training", "HOW",
       "how ranks sum gradients: tree, mpi (the library's own; bits depend on the ranks) or s16 (16-bit "
       "integers, "
       "half the bytes)"},
      {"lr", "training", "X", "initial learning rate"},
      {"lr-scheduler", "training", "NAME", "constant, exponential, step or cosine"},
      {"lr-gamma", "training", "X", "factor per epoch (exponential) or step"},
      {"lr-step-size", "training", "N", "epochs per step"},
      {"lr-warmup-epochs", "training", "X", "linear warm-up"},
      {"momentum", "training", "X", "of SGD"},
      {"weight-decay", "training", "X", "of every parameter but learned scales"},
      {"label-smoothing", "training", "X", "share of the target that all classes have alike"},
      {"clip-grad-norm", "training", "X", "0: no clipping"},
      {"model-ema", "training", "DECAY",
       "validate, keep and deploy a moving average of the weights (alone: 0.9998)"},
      {"freeze-batch-norm-stats", "training", "SHARE",
       "share of a phase, at its end, in which batch-norm trains with its running statistics and they stay; "
       "0: "
       "never"},
      {"seed", "training", "N", "of everything that is random"},
      {"data-path", "data", "DIR", "folder with train/ and val/ (or test/), IDX or CIFAR files"},
      {"dataset", "data", "KIND", "auto, imagefolder, idx, cifar or tar"},
      {"shuffle-buffer", "data", "N", "samples of tar shards that are shuffled at a time"},
      {"class-order", "data", "ORDER",
       "of class folders: name (as torchvision: 0, 1, 10, 2) or natural (0, 1, 2, 10)"},
      {"allow-empty-classes", "data", "BOOL", "class folders may have no images, and val/ may lack classes"},
      {"val-labels", "data", "FILE",
       "classes of a val/ without class folders: lines of IMAGE CLASS, or LOC_val_solution.csv"},
      {"workers", "data", "N", "threads that prepare batches"},
      {"train-crop-size", "data", "N", "default: the size the network is for"},
      {"val-resize-size", "data", "N",
       "shorter side before the centre crop; 0: no resizing; default: the network's"},
      {"val-crop-size", "data", "N", "default: as --train-crop-size"},
      {"interpolation", "data", "NAME",
       "how images are resized, bilinear or bicubic, both with antialiasing; default: the network's"},
      {"augment", "data", "NAME",
       "cifar (pad, random crop, flip), imagenet (random resized crop, flip) or none; default: the "
       "network's"},
      {"mean", "data", "M,…",
       "per channel, pixels in [0, 1]; default: the checkpoint's in --weights, else the network's"},
      {"std", "data", "S,…", "per channel, pixels in [0, 1]; default: as --mean"},
      {"skip-bad", "data", "N", "skip up to N images that cannot be opened or decoded"},
      {"output-dir", "run", "DIR", "checkpoints, metrics, the integer network"},
      {"resume", "run", "auto|FILE",
       "continue from the newest checkpoint of the output folder, or from FILE"},
      {"checkpoint-interval", "run", "STEPS", "0: at the end of epochs only"},
      {"checkpoint-hist", "run", "K", "checkpoints kept besides last and best"},
      {"threads", "run", "N", "default: OMP_NUM_THREADS, else the CPUs that affinity and quota leave"},
      {"print-freq", "run", "STEPS", "between lines and metrics"},
      {"report", "run", "KIND",
       "report.html: full, which evaluates the network before and after once more; curves; or none"},
      {"tensorboard", "run", "BOOL",
       "events for TensorBoard, with histograms of every layer, one event file a start"},
      {"rank-timeout", "run", "SECONDS",
       "a rank of which nothing is heard for so long is lost, and the job ends"},
  };
  const auto found = std::ranges::find(rows, name, &OptionText::name);
  check(found != rows.end(), ErrorKind::internal, "option '", name, "' has no help");
  return *found;
}

namespace {

// The option that sets a field, or that a setting of a config file is; empty: there is none.
std::string option_of(const std::string& field) {
  if (field == "average") return "use-ema";  // of NetworkChoice, which is no run's
  for (const OptionRow& row : option_table()) {
    if (std::ranges::find(row.names, field) != row.names.end()) return field;
    std::string member = row.names.front();
    std::ranges::replace(member, '-', '_');
    if (field == (row.member.empty() ? member : row.member)) return row.names.front();
  }
  return "";
}

}  // namespace

std::string with_options(const std::string& text) {
  std::string result;
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t open = text.find('`', at);
    const std::size_t close = open == std::string::npos ? open : text.find('`', open + 1);
    if (close == std::string::npos) break;
    const std::string option = option_of(text.substr(open + 1, close - open - 1));
    // Without an option what comes before the second quote stays, which may open a name itself.
    result += text.substr(at, (option.empty() ? close : open) - at);
    if (!option.empty()) result += "--" + option;
    at = option.empty() ? close : close + 1;
  }
  return result + text.substr(at);
}

}  // namespace faq::cli
