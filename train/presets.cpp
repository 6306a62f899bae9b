#include "train/presets.h"

#include "core/error.h"
#include "core/text.h"

namespace faq {
namespace {

// He et al. 2016, section 4.2, with a cosine schedule.
void fp32(Recipe& r) {
  r.scheme = Scheme::none;
  r.epochs = 160;
  r.batch_size = 128;
  r.lr = 0.1;
  r.lr_scheduler = Schedule::cosine;
  r.weight_decay = 1e-4;
}

// McKinstry et al., arXiv 1809.04191, section 4.
void faq_8bit(Recipe& r) {
  r.scheme = Scheme::faq;
  r.weight_bits = r.act_bits = 8;
  r.calibration = Calibration::percentile;
  r.epochs = 1;
  r.batch_size = 256;
  r.lr = 1e-4;
  r.lr_scheduler = Schedule::constant;
  r.weight_decay = 1e-4;
}

void faq_4bit(Recipe& r) {
  r.scheme = Scheme::faq;
  r.weight_bits = r.act_bits = 4;
  r.calibration = Calibration::mse;
  r.epochs = 110;
  r.batch_size = 256;
  r.lr = 0.0015;
  r.lr_scheduler = Schedule::exponential;
  r.lr_gamma = 0.936;
  r.weight_decay = 5e-5;
}

// Mellempudi et al., arXiv 1701.08978, section 4.
void dfp_ternary(Recipe& r) {
  r.scheme = Scheme::dfp;
  r.weight_bits = 2;
  r.act_bits = 8;
  r.cluster_size = 4;
  r.calibration = Calibration::percentile;
  r.epochs = 4;
  r.batch_size = 256;
  r.lr = 0.01;
  r.lr_scheduler = Schedule::cosine;
  r.weight_decay = 1e-4;
}

// Esser, McKinstry et al., arXiv 1902.08153, section 3: from pretrained weights, 90 epochs.
void lsq(Recipe& r, int bits, double weight_decay) {
  r.scheme = Scheme::lsq;
  r.weight_bits = r.act_bits = bits;
  r.calibration = Calibration::mse;
  r.epochs = 90;
  r.batch_size = 256;
  r.lr = 0.01;
  r.lr_scheduler = Schedule::cosine;
  r.weight_decay = weight_decay;
}

// Weight decay is quartered at 2 bits (section 3.1).
void lsq_4bit(Recipe& r) { lsq(r, 4, 1e-4); }
void lsq_2bit(Recipe& r) { lsq(r, 2, 2.5e-5); }

}  // namespace

const std::vector<Preset>& presets() {
  static const std::vector<Preset> rows{{"fp32", fp32},         {"faq-8bit", faq_8bit},
                                        {"faq-4bit", faq_4bit}, {"dfp-ternary", dfp_ternary},
                                        {"lsq-4bit", lsq_4bit}, {"lsq-2bit", lsq_2bit}};
  return rows;
}

const Preset& preset(const std::string& name) {
  std::vector<std::string> names;
  for (const Preset& row : presets()) {
    if (row.name == name) return row;
    names.push_back(row.name);
  }
  fail(ErrorKind::usage, "unknown preset '", name, "'; did you mean '", nearest(name, names),
       "'? (have: ", join(names), ")");
}

Recipe recipe(const std::string& preset_name) {
  Recipe result;
  preset(preset_name).apply(result);
  return result;
}

}  // namespace faq
