#include "train/option_table.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/choices.h"
#include "core/text.h"
#include "nn/models.h"
#include "train/presets.h"

namespace faq {
namespace {

using T = TrainOptions;
using Kind = OptionField::Kind;

const Choices<Schedule> schedules{{"constant", Schedule::constant},
                                  {"exponential", Schedule::exponential},
                                  {"step", Schedule::step},
                                  {"cosine", Schedule::cosine}};
const Choices<DatasetKind> dataset_kinds{{"auto", DatasetKind::automatic},
                                         {"imagefolder", DatasetKind::image_folder},
                                         {"idx", DatasetKind::idx},
                                         {"cifar", DatasetKind::cifar},
                                         {"tar", DatasetKind::tar}};
const Choices<ClassOrder> class_orders{{"name", ClassOrder::name}, {"natural", ClassOrder::natural}};
const Choices<Distill> distillations{
    {"none", Distill::none}, {"joint", Distill::joint}, {"frozen", Distill::frozen}};
const Choices<Interpolation> interpolations{{"bilinear", Interpolation::bilinear},
                                            {"bicubic", Interpolation::bicubic}};
const Choices<Augmentation> augmentations{
    {"none", Augmentation::none}, {"cifar", Augmentation::cifar}, {"imagenet", Augmentation::imagenet}};

const Choices<Scheme> schemes{{"none", Scheme::none},
                              {"faq", Scheme::faq},
                              {"dfp", Scheme::dfp},
                              {"dorefa", Scheme::dorefa},
                              {"lsq", Scheme::lsq}};
const Choices<kernels::TernaryScale> ternary_scales{{"rms", kernels::TernaryScale::rms},
                                                    {"least-squares", kernels::TernaryScale::least_squares}};
const Choices<Calibration> calibrations{
    {"percentile", Calibration::percentile}, {"max", Calibration::max}, {"mse", Calibration::mse}};
const Choices<WeightScale> weight_scales{
    {"mse", WeightScale::mse}, {"max", WeightScale::max}, {"mean", WeightScale::mean}};
const Choices<ScaleSharing> scale_sharings{{"layer", ScaleSharing::layer},
                                           {"channel", ScaleSharing::channel}};
const Choices<Equalize> equalizations{{"channels", Equalize::channels}, {"none", Equalize::none}};
const Choices<Engine> engines{{"integer", Engine::integer}, {"simulated", Engine::simulated}};
const Choices<Allreduce> allreduces{
    {"tree", Allreduce::tree}, {"mpi", Allreduce::mpi}, {"s16", Allreduce::s16}};
const Choices<ReportKind> report_kinds{
    {"full", ReportKind::full}, {"curves", ReportKind::curves}, {"none", ReportKind::none}};
const Choices<GradFormat> grad_formats{{"bf16", GradFormat::bf16},
                                       {"f32", GradFormat::f32},
                                       {"s8", GradFormat::s8},
                                       {"s8-data", GradFormat::s8_data}};
const Choices<DType> float_dtypes{{"f32", DType::f32}, {"bf16", DType::bf16}};

template <class Number>
Number parse_number(const Setting& setting) {
  Number value{};
  const auto& [name, text] = setting;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  check(error == std::errc() && end == text.data() + text.size(), ErrorKind::usage, "`", name, "` '", text,
        "': expected ", std::is_integral_v<Number> ? "an integer" : "a number");
  if constexpr (std::is_floating_point_v<Number>) {
    check(std::isfinite(value), ErrorKind::usage, "`", name, "` '", text, "': expected a finite number");
  }
  return value;
}

template <class Number>
std::vector<Number> parse_list(const Setting& setting) {
  std::vector<Number> values;
  for (const std::string& part : split(setting.second))
    values.push_back(parse_number<Number>({setting.first, part}));
  return values;
}

template <class Value>
Value parse_value(const Setting& setting) {
  if constexpr (std::is_same_v<Value, std::string>) {
    return setting.second;
  } else {
    return parse_number<Value>(setting);
  }
}

template <class Value, class Owner>
OptionField field(Value Owner::*member) {
  return {.set = [member](T& o, const Setting& s) { o.*member = parse_value<Value>(s); },
          .get = [member](const T& o) -> nlohmann::json { return o.*member; }};
}

template <class Number, class Owner>
OptionField field(std::vector<Number> Owner::*member) {
  return {.kind = Kind::list,
          .set = [member](T& o, const Setting& s) { o.*member = parse_list<Number>(s); },
          .get = [member](const T& o) -> nlohmann::json { return o.*member; }};
}

// A flag: the option alone, or true and false.
template <class Owner>
OptionField flag(bool Owner::*member) {
  return {.set =
              [member](T& o, const Setting& s) {
                check(s.second == "true" || s.second == "false", ErrorKind::usage, "`", s.first, "` '",
                      s.second, "': expected true or false");
                o.*member = s.second == "true";
              },
          .get = [member](const T& o) -> nlohmann::json { return o.*member; },
          .choices = {"true", "false"}};
}

template <class Value>
std::string text_of_choice(Value value, const Choices<Value>& choices) {
  return std::ranges::find(choices, value, &std::pair<std::string, Value>::second)->first;
}

template <class Value>
std::vector<std::string> names_of(const Choices<Value>& choices) {
  std::vector<std::string> names;
  for (const auto& [name, value] : choices) names.push_back(name);
  return names;
}

template <class Row>
std::vector<std::string> names_of(const std::vector<Row>& rows) {
  std::vector<std::string> names;
  for (const Row& row : rows) names.push_back(row.name);
  return names;
}

// Names that are looked up when the run is set up.
template <class Owner>
OptionField field(std::string Owner::*member, std::vector<std::string> choices) {
  OptionField text = field(member);
  text.choices = std::move(choices);
  return text;
}

template <class Value, class Owner>
OptionField field(Value Owner::*member, const Choices<Value>& choices) {
  return {
      .set = [member, &choices](T& o,
                                const Setting& s) { o.*member = choose(s.first.c_str(), s.second, choices); },
      .get = [member, &choices](const T& o) -> nlohmann::json { return text_of_choice(o.*member, choices); },
      .choices = names_of(choices)};
}

// Empty text: left open.
template <class Value, class Owner>
OptionField field(std::optional<Value> Owner::*member, const Choices<Value>& choices) {
  return {.set =
              [member, &choices](T& o, const Setting& s) {
                o.*member = s.second.empty() ? std::nullopt
                                             : std::optional(choose(s.first.c_str(), s.second, choices));
              },
          .get = [member, &choices](const T& o) -> nlohmann::json {
            return o.*member ? text_of_choice(*(o.*member), choices) : "";
          },
          .choices = names_of(choices)};
}

// PATTERN=W,A
LayerBits parse_layer_bits(const std::string& text) {
  const auto equals = text.rfind('=');
  check(equals != std::string::npos, ErrorKind::usage, "`layer-bits` '", text,
        "': expected PATTERN=WEIGHT_BITS,ACTIVATION_BITS");
  LayerBits bits{text.substr(0, equals), 0, 0};
  const char* end = text.data() + text.size();
  const auto weights = std::from_chars(text.data() + equals + 1, end, bits.weight_bits);
  const bool comma = weights.ec == std::errc() && weights.ptr != end && *weights.ptr == ',';
  const auto activations = comma ? std::from_chars(weights.ptr + 1, end, bits.act_bits) : weights;
  const auto allowed = [](int b) { return b >= 2 && b <= 8; };
  check(comma && activations.ec == std::errc() && activations.ptr == end && allowed(bits.weight_bits) &&
            allowed(bits.act_bits),
        ErrorKind::usage, "`layer-bits` '", text,
        "': expected PATTERN=WEIGHT_BITS,ACTIVATION_BITS, both from 2 to 8");
  return bits;
}

OptionField layer_bits_field() {
  return {.kind = Kind::accumulate,
          .set = [](T& o, const Setting& s) { o.layer_bits.push_back(parse_layer_bits(s.second)); },
          .get =
              [](const T& o) {
                nlohmann::json rows = nlohmann::json::array();
                for (const LayerBits& row : o.layer_bits)
                  rows.push_back(concat(row.pattern, "=", row.weight_bits, ",", row.act_bits));
                return rows;
              }};
}

template <class Owner>
OptionField patterns_field(std::vector<std::string> Owner::*member) {
  return {.kind = Kind::accumulate,
          .set =
              [member](T& o, const Setting& s) {
                check(!s.second.empty(), ErrorKind::usage, "`", s.first,
                      "`: expected a pattern, found nothing");
                (o.*member).push_back(s.second);
              },
          .get = [member](const T& o) -> nlohmann::json { return o.*member; }};
}

// A number of input channels, or "all" (0).
std::int64_t parse_cluster_size(const std::string& text) {
  if (text == "all") return 0;
  std::int64_t size = 0;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, size);
  check(parsed.ec == std::errc() && parsed.ptr == end && size >= 1 && size <= (1 << 20), ErrorKind::usage,
        "`cluster-size` '", text, "': expected a number of input channels, or all");
  return size;
}

OptionField cluster_size_field() {
  return {.set = [](T& o, const Setting& s) { o.cluster_size = parse_cluster_size(s.second); },
          .get = [](const T& o) -> nlohmann::json {
            return o.cluster_size == 0 ? "all" : std::to_string(o.cluster_size);
          }};
}

OptionField stages_field() {
  return {.set =
              [](T& o, const Setting& s) {
                check(s.second == "both" || s.second == "weights,both", ErrorKind::usage, "`stages` ",
                      s.second, ": expected both, or weights,both");
                o.weights_first = s.second != "both";
              },
          .get = [](const T& o) -> nlohmann::json { return o.weights_first ? "weights,both" : "both"; },
          .choices = {"both", "weights,both"}};
}

// "4" or "4/8".
Widths parse_widths(const std::string& text) {
  const auto slash = text.find('/');
  const auto number = [&](const std::string& part) {
    int bits = 0;
    const char* end = part.data() + part.size();
    const auto parsed = std::from_chars(part.data(), end, bits);
    check(parsed.ec == std::errc() && parsed.ptr == end && bits >= 2 && bits <= 8, ErrorKind::usage,
          "`bits-schedule` '", text, "': expected bits from 2 to 8, or WEIGHTS/ACTIVATIONS");
    return bits;
  };
  const int weights = number(text.substr(0, slash));
  return {weights, slash == std::string::npos ? weights : number(text.substr(slash + 1))};
}

OptionField bits_schedule_field() {
  return {.set =
              [](T& o, const Setting& s) {
                o.bits_schedule.clear();
                if (s.second.empty()) return;
                for (const std::string& part : split(s.second)) o.bits_schedule.push_back(parse_widths(part));
              },
          .get = [](const T& o) -> nlohmann::json {
            std::vector<std::string> parts;
            for (const Widths& w : o.bits_schedule)
              parts.push_back(w.weights == w.activations ? std::to_string(w.weights)
                                                         : concat(w.weights, "/", w.activations));
            return join(parts, ",");
          }};
}

}  // namespace

const std::vector<OptionRow>& option_table() {
  static const std::vector<OptionRow> table{
      {{"model"}, field(&T::model, names_of(list_models()))},
      {{"weights"}, field(&T::weights)},
      {{"ignore-extra"}, patterns_field(&T::ignore_extra)},
      {{"num-classes"}, field(&T::num_classes)},
      {{"in-channels"}, field(&T::in_channels)},
      {{"preset"}, field(&T::preset, names_of(presets()))},
      {{"scheme"}, field(&T::scheme, schemes)},
      {{"weight-bits"}, field(&T::weight_bits)},
      {{"act-bits"}, field(&T::act_bits)},
      {{"first-last-bits"}, field(&T::first_last_bits)},
      {{"residual-bits"}, field(&T::residual_bits)},
      {{"layer-bits"}, layer_bits_field()},
      {{"calibration"}, field(&T::calibration, calibrations)},
      {{"calibration-percentile"}, field(&T::calibration_percentile)},
      {{"calibration-batches"}, field(&T::calibration_batches)},
      {{"weight-scale", "weight-step"}, field(&T::weight_scale, weight_scales)},
      {{"weight-scales"}, field(&T::scale_sharing, scale_sharings), {}, "scale_sharing"},
      {{"hold-weight-scales", "hold-weight-steps"}, field(&T::hold_weight_scales)},
      {{"equalize"}, field(&T::equalize, equalizations)},
      {{"cluster-size"}, cluster_size_field()},
      {{"ternary-scale"}, field(&T::ternary_scale, ternary_scales)},
      {{"batch-norm-batches"}, field(&T::batch_norm_batches)},
      {{"stages"}, stages_field(), {}, "weights_first"},
      {{"bits-schedule"}, bits_schedule_field()},
      {{"phase-epochs"}, field(&T::phase_epochs)},
      {{"stochastic-precision"}, field(&T::stochastic_precision), "0.5"},
      {{"stochastic-tail"}, field(&T::stochastic_tail)},
      {{"distill"}, field(&T::distill, distillations)},
      {{"teacher"}, field(&T::teacher)},
      {{"teacher-model"}, field(&T::teacher_model, names_of(list_models()))},
      {{"distill-weight"}, field(&T::distill_weight)},
      {{"engine"}, field(&T::engine, engines)},
      {{"grad-dtype"}, field(&T::grad_format, grad_formats), {}, "grad_format"},
      {{"float-dtype"}, field(&T::float_dtype, float_dtypes)},
      {{"epochs"}, field(&T::epochs)},
      {{"batch-size", "b"}, field(&T::batch_size)},
      {{"grad-accum-steps"}, field(&T::grad_accum_steps)},
      {{"shards"}, field(&T::shards)},
      {{"allreduce"}, field(&T::allreduce, allreduces)},
      {{"lr"}, field(&T::lr)},
      {{"lr-scheduler"}, field(&T::lr_scheduler, schedules)},
      {{"lr-gamma"}, field(&T::lr_gamma)},
      {{"lr-step-size"}, field(&T::lr_step_size)},
      {{"lr-warmup-epochs"}, field(&T::lr_warmup_epochs)},
      {{"momentum"}, field(&T::momentum)},
      {{"weight-decay", "wd"}, field(&T::weight_decay)},
      {{"label-smoothing"}, field(&T::label_smoothing)},
      {{"clip-grad-norm"}, field(&T::clip_grad_norm)},
      {{"model-ema"}, field(&T::model_ema), "0.9998"},
      {{"freeze-batch-norm-stats"}, field(&T::freeze_batch_norm_stats)},
      {{"seed"}, field(&T::seed)},
      {{"data-path", "data-dir"}, field(&T::data_path)},
      {{"dataset"}, field(&T::dataset, dataset_kinds)},
      {{"shuffle-buffer"}, field(&T::shuffle_buffer)},
      {{"class-order"}, field(&T::class_order, class_orders)},
      {{"allow-empty-classes"}, flag(&T::allow_empty_classes), "true"},
      {{"val-labels"}, field(&T::val_labels)},
      {{"workers", "j"}, field(&T::workers)},
      {{"train-crop-size"}, field(&T::train_crop_size)},
      {{"val-resize-size"}, field(&T::val_resize_size)},
      {{"val-crop-size"}, field(&T::val_crop_size)},
      {{"interpolation"}, field(&T::interpolation, interpolations)},
      {{"augment"}, field(&T::augment, augmentations)},
      {{"mean"}, field(&T::mean)},
      {{"std"}, field(&T::std)},
      {{"skip-bad"}, field(&T::skip_bad)},
      {{"output-dir", "output"}, field(&T::output_dir)},
      {{"resume"}, field(&T::resume)},
      {{"checkpoint-interval"}, field(&T::checkpoint_interval)},
      {{"checkpoint-hist"}, field(&T::checkpoint_hist)},
      {{"threads"}, field(&T::threads)},
      {{"print-freq"}, field(&T::print_freq)},
      {{"report"}, field(&T::report, report_kinds)},
      {{"tensorboard"}, flag(&T::tensorboard), "true"},
      {{"rank-timeout"}, field(&T::rank_timeout)},
  };
  return table;
}

std::string to_text(Scheme scheme) { return text_of_choice(scheme, schemes); }
std::string to_text(Schedule schedule) { return text_of_choice(schedule, schedules); }
std::string to_text(Engine engine) { return text_of_choice(engine, engines); }

}  // namespace faq
