#include "train/option_names.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "core/text.h"

namespace faq {
namespace {

// Without dashes: "batch_size", "batch-size" and "batchSize" are written alike. From torchvision's reference
// scripts, timm, Hugging Face's trainer, Keras, Lightning and the ImageNet example of PyTorch.
constexpr std::pair<const char*, const char*> names_of_others[] = {
    {"learningrate", "lr"},
    {"baselr", "lr"},
    {"initlr", "lr"},
    {"blr", "lr"},
    {"lrbase", "lr"},
    {"lrschedule", "lr-scheduler"},
    {"lrschedulertype", "lr-scheduler"},
    {"sched", "lr-scheduler"},
    {"scheduler", "lr-scheduler"},
    {"schedule", "lr-scheduler"},
    {"decayrate", "lr-gamma"},
    {"gamma", "lr-gamma"},
    {"decayepochs", "lr-step-size"},
    {"stepsize", "lr-step-size"},
    {"lrsteps", "lr-step-size"},
    {"warmupepochs", "lr-warmup-epochs"},
    {"warmup", "lr-warmup-epochs"},
    {"l2", "weight-decay"},
    {"decay", "weight-decay"},
    {"smoothing", "label-smoothing"},
    {"clipgrad", "clip-grad-norm"},
    {"maxgradnorm", "clip-grad-norm"},
    {"gradclip", "clip-grad-norm"},
    {"gradientclipval", "clip-grad-norm"},
    {"gradientaccumulationsteps", "grad-accum-steps"},
    {"accumulategradbatches", "grad-accum-steps"},
    {"accumsteps", "grad-accum-steps"},
    {"numepochs", "epochs"},
    {"numtrainepochs", "epochs"},
    {"maxepochs", "epochs"},
    {"nepochs", "epochs"},
    {"ep", "epochs"},
    {"bs", "batch-size"},
    {"batch", "batch-size"},
    {"trainbatchsize", "batch-size"},
    {"evalbatchsize", "batch-size"},
    {"valbatchsize", "batch-size"},
    {"validationbatchsize", "batch-size"},
    {"perdevicetrainbatchsize", "batch-size"},
    {"perdeviceevalbatchsize", "batch-size"},
    {"numworkers", "workers"},
    {"nworkers", "workers"},
    {"dataloadernumworkers", "workers"},
    {"jobs", "workers"},
    {"numthreads", "threads"},
    {"nthreads", "threads"},
    {"cpus", "threads"},
    {"data", "data-path"},
    {"datadir", "data-path"},
    {"dataroot", "data-path"},
    {"datasetdir", "data-path"},
    {"datasetpath", "data-path"},
    {"root", "data-path"},
    {"traindir", "data-path"},
    {"inputdir", "data-path"},
    {"imagenet", "data-path"},
    {"images", "data-path"},
    {"arch", "model"},
    {"architecture", "model"},
    {"net", "model"},
    {"network", "model"},
    {"modelname", "model"},
    {"modelnameorpath", "model"},
    {"pretrained", "weights"},
    {"pretrainedpath", "weights"},
    {"initialcheckpoint", "weights"},
    {"checkpoint", "weights"},
    {"ckpt", "weights"},
    {"loadfrom", "weights"},
    {"finetune", "weights"},
    {"nbclasses", "num-classes"},
    {"nclasses", "num-classes"},
    {"numlabels", "num-classes"},
    {"classes", "num-classes"},
    {"inchans", "in-channels"},
    {"channels", "in-channels"},
    {"out", "output-dir"},
    {"outdir", "output-dir"},
    {"savedir", "output-dir"},
    {"savepath", "output-dir"},
    {"logdir", "output-dir"},
    {"workdir", "output-dir"},
    {"resumefrom", "resume"},
    {"resumefromcheckpoint", "resume"},
    {"continue", "resume"},
    {"autoresume", "resume"},
    {"savesteps", "checkpoint-interval"},
    {"saveinterval", "checkpoint-interval"},
    {"savefreq", "checkpoint-interval"},
    {"recoveryinterval", "checkpoint-interval"},
    {"savetotallimit", "checkpoint-hist"},
    {"keep", "checkpoint-hist"},
    {"loggingsteps", "print-freq"},
    {"loginterval", "print-freq"},
    {"logfreq", "print-freq"},
    {"logeverynsteps", "print-freq"},
    {"randomseed", "seed"},
    {"manualseed", "seed"},
    {"imgsize", "train-crop-size"},
    {"imagesize", "train-crop-size"},
    {"inputsize", "train-crop-size"},
    {"imgsz", "train-crop-size"},
    {"cropsize", "train-crop-size"},
    {"resizesize", "val-resize-size"},
    {"aa", "augment"},
    {"autoaugment", "augment"},
    {"augmentation", "augment"},
    {"ema", "model-ema"},
    {"emadecay", "model-ema"},
    {"modelemadecay", "model-ema"},
    {"distillation", "distill"},
    {"distillationtype", "distill"},
    {"distillationalpha", "distill-weight"},
    {"alpha", "distill-weight"},
    {"teacherpath", "teacher"},
    {"teachermodelnameorpath", "teacher"},
    {"nbits", "bits"},
    {"numbits", "bits"},
    {"wbits", "weight-bits"},
    {"qbits", "bits"},
    {"abits", "act-bits"},
    {"activationbits", "act-bits"},
    {"quantization", "scheme"},
    {"quantscheme", "scheme"},
    {"quantize", "scheme"},
    {"method", "scheme"},
    {"observer", "calibration"},
    {"calibrationmethod", "calibration"},
    {"numcalibrationbatches", "calibration-batches"},
    {"calibbatches", "calibration-batches"},
    {"percentile", "calibration-percentile"},
    {"backend", "engine"},
    {"qatbackend", "engine"},
    {"freezebn", "freeze-batch-norm-stats"},
    {"freezebnstats", "freeze-batch-norm-stats"},
    {"numobserverupdateepochs", "freeze-batch-norm-stats"},
    {"numbatchnormupdateepochs", "freeze-batch-norm-stats"},
    {"configfile", "config"},
    {"cfg", "config"},
    {"listmodel", "list-models"},
    {"silent", "quiet"},
    {"q", "quiet"},
    {"verbose", "print-freq"},
    {"v", "version"},
    {"image", "predict"},
    {"input", "predict"},
    {"testonly", "dry-run"},
    {"dryrun", "dry-run"},
    {"labels", "class-names"},
    {"classmap", "class-names"},
    {"exportonnx", "export"},
};

// What only the way of writing differs in is gone.
std::string plain(const std::string& name) {
  std::string letters;
  for (const char c : name)
    if (c != '-' && c != '_' && c != '.')
      letters += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return letters;
}

// A name of `length` letters with as many mistakes is still recognized.
std::size_t mistakes_in(std::size_t length) {
  return length < 4 ? 1 : std::min<std::size_t>(3, 1 + length / 5);
}

}  // namespace

std::string suggested_option(const std::string& unknown, const std::vector<std::string>& names) {
  const auto known = [&](const std::string& name) { return std::ranges::find(names, name) != names.end(); };
  const std::string wanted = plain(unknown);
  if (wanted.empty()) return {};
  for (const std::string& name : names)
    if (plain(name) == wanted) return name;
  for (const auto& [other, ours] : names_of_others)
    if (wanted == other && known(ours)) return ours;
  // The beginning of one name, and of one alone.
  std::vector<std::string> begun;
  for (const std::string& name : names)
    if (wanted.size() >= 3 && plain(name).starts_with(wanted)) begun.push_back(name);
  if (begun.size() == 1) return begun.front();
  const std::string close = nearest(unknown, names);
  if (!close.empty() && edit_distance(plain(close), wanted) <= mistakes_in(wanted.size())) return close;
  // The mistake may be in another tool's name.
  std::vector<std::string> others;
  for (const auto& [other, ours] : names_of_others)
    if (known(ours)) others.emplace_back(other);
  const std::string other = nearest(wanted, others);
  if (other.empty() || wanted.size() < 5 || edit_distance(other, wanted) > 2) return {};
  return std::ranges::find(names_of_others, other, &std::pair<const char*, const char*>::first)->second;
}

}  // namespace faq
