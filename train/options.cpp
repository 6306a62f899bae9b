#include "train/options.h"

#include <cstdint>
#include <numeric>

#include "core/error.h"
#include "core/parallel.h"

namespace faq {
namespace {

void in_range(const char* name, double value, double low, double high) {
  check(value >= low && value <= high, ErrorKind::usage, "`", name, "` ", value, ": expected ", low, " to ",
        high);
}

void below_one(const char* name, double value) {
  check(value >= 0 && value < 1, ErrorKind::usage, "`", name, "` ", value, ": expected 0 to less than 1");
}

}  // namespace

void check_options(const TrainOptions& o) {
  in_range("weight_bits", o.weight_bits, 2, 8);
  in_range("act_bits", o.act_bits, 2, 8);
  in_range("first_last_bits", o.first_last_bits, 2, 8);
  if (o.residual_bits != 0) in_range("residual_bits", o.residual_bits, 2, 8);
  in_range("calibration_percentile", o.calibration_percentile, 0, 100);
  in_range("calibration_batches", o.calibration_batches, 1, 1e6);
  in_range("batch_norm_batches", o.batch_norm_batches, -1, 1e6);
  in_range("stochastic_precision", o.stochastic_precision, 0, 1);
  in_range("stochastic_tail", o.stochastic_tail, 0, 1);
  in_range("hold_weight_scales", o.hold_weight_scales, 0, 1);
  in_range("distill_weight", o.distill_weight, 0, 1e6);
  in_range("epochs", o.epochs, 0, 1e6);
  in_range("batch_size", o.batch_size, 1, 1e6);
  in_range("grad_accum_steps", o.grad_accum_steps, 1, 1e6);
  in_range("shards", o.shards, 0, 1e6);
  in_range("lr", o.lr, 0, 1e6);
  in_range("lr_gamma", o.lr_gamma, 0, 1e6);
  in_range("lr_step_size", o.lr_step_size, 1, 1e6);
  in_range("lr_warmup_epochs", o.lr_warmup_epochs, 0, 1e6);
  in_range("momentum", o.momentum, 0, 1);
  in_range("weight_decay", o.weight_decay, 0, 1e6);
  below_one("label_smoothing", o.label_smoothing);  // 1: nothing is left to learn
  in_range("clip_grad_norm", o.clip_grad_norm, 0, 1e9);
  below_one("model_ema", o.model_ema);  // 1: the network it began with
  in_range("freeze_batch_norm_stats", o.freeze_batch_norm_stats, 0, 1);
  in_range("shuffle_buffer", o.shuffle_buffer, 1, 1e9);
  in_range("workers", o.workers, 0, 1024);
  in_range("threads", o.threads, 0, most_threads);
  in_range("skip_bad", o.skip_bad, 0, 1e9);
  in_range("checkpoint_interval", o.checkpoint_interval, 0, 1e9);
  in_range("checkpoint_hist", o.checkpoint_hist, 0, 1e6);
  in_range("print_freq", o.print_freq, 1, 1e9);
  in_range("rank_timeout", o.rank_timeout, 1, 86400);
  in_range("train_crop_size", o.train_crop_size, 0, 4096);
  in_range("val_crop_size", o.val_crop_size, 0, 4096);
  in_range("val_resize_size", o.val_resize_size, -1, 4096);
  in_range("in_channels", o.in_channels, 0, 3);
  in_range("num_classes", o.num_classes, 0, 1e6);
  in_range("seed", o.seed, 0, 2147483647);

  // Pixels are in [0, 1]. Other programs have these numbers for pixels up to 255.
  const auto of_pixels = [&](const char* name, const std::vector<double>& values) {
    for (const double value : values)
      check(value >= 0 && value <= 1, ErrorKind::usage, '`', name, "` ", value,
            ": expected 0 to 1, as pixels are; divide by 255");
  };
  of_pixels("mean", o.mean);
  of_pixels("std", o.std);

  if (!o.phase_epochs.empty()) {
    for (const int epochs : o.phase_epochs) in_range("phase_epochs", epochs, 1, 1e6);
    const auto all = std::accumulate(o.phase_epochs.begin(), o.phase_epochs.end(), std::int64_t{0});
    check(all == o.epochs, ErrorKind::usage, "`phase_epochs`: ", all, " epochs in all, `epochs` ", o.epochs);
  }

  check(o.distill != Distill::none || (o.teacher.empty() && o.teacher_model.empty()), ErrorKind::usage,
        o.teacher.empty() ? "`teacher_model`" : "`teacher`", " has no effect with `distill` none");
}

int shards_of(const Recipe& r, int ranks) { return r.shards > 0 ? r.shards : ranks * r.grad_accum_steps; }

SgdOptions sgd_options(const Recipe& r) { return {r.momentum, r.weight_decay, r.clip_grad_norm}; }

ScheduleOptions schedule_options(const Recipe& r) {
  return {
      r.lr_scheduler, r.lr, r.lr_gamma, r.lr_step_size, r.lr_warmup_epochs, static_cast<double>(r.epochs)};
}

}  // namespace faq
