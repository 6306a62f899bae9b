#include "core/kernels/conv.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "core/cpu.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/onednn.h"
#include "core/parallel.h"

namespace faq::kernels {
namespace {

using onednn::ConvProblem;

// Primitives are made once per problem and kept.
using Key = std::array<std::int64_t, 20>;

Key key_of(const ConvProblem& p) {
  Key key{static_cast<std::int64_t>(p.source), static_cast<std::int64_t>(p.weights),
          static_cast<std::int64_t>(p.bias), static_cast<std::int64_t>(p.destination)};
  auto out = key.begin() + 4;
  for (const auto* dims : {&p.source_dims, &p.weight_dims, &p.destination_dims, &p.strides, &p.padding}) {
    out = std::copy(dims->begin(), dims->end(), out);
  }
  return key;
}

template <class Primitive>
struct Compiled {
  typename Primitive::primitive_desc desc;
  Primitive primitive;
};

// The cached primitive for a problem, made by make_desc(problem) the first time.
template <class Primitive, class MakeDesc>
const Compiled<Primitive>& compiled(const char* what, const ConvProblem& problem, MakeDesc make_desc) {
  static std::map<Key, Compiled<Primitive>> cache;
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  const Key key = key_of(problem);
  auto found = cache.find(key);
  if (found == cache.end()) {
    try {
      auto desc = make_desc(problem);
      Primitive primitive(desc);
      found = cache.emplace(key, Compiled<Primitive>{std::move(desc), std::move(primitive)}).first;
    } catch (const dnnl::error& error) {
      fail(ErrorKind::internal, what, ": oneDNN has no kernel: ", error.what());
    }
  }
  return found->second;
}

// What is kept with a weight tensor for as long as its contents stand: its layouts for oneDNN and, for
// integer weights, its exact addends.
struct WeightCache {
  struct Packed {
    dnnl::memory::desc desc;
    Tensor storage;
  };
  struct Addends {
    int max_input;
    int max_magnitude;
    std::vector<Tensor> tensors;  ///< empty: the weights need no splitting
  };
  std::vector<Packed> packed;
  std::vector<Addends> addends;
  Tensor channel_sums;  // Σ w per output channel, s32
};

WeightCache& weight_cache(const Tensor& weights) {
  std::shared_ptr<void>& slot = weights.cache();
  if (!slot) slot = std::make_shared<WeightCache>();
  return *static_cast<WeightCache*>(slot.get());
}

dnnl::memory::dims nchw(const Shape& nhwc) { return {nhwc[0], nhwc[3], nhwc[1], nhwc[2]}; }
dnnl::memory::dims dims(const Shape& shape) { return {shape.extents().begin(), shape.extents().end()}; }

dnnl::memory packed(const Tensor& weights, const dnnl::memory::desc& wanted) {
  const dnnl::memory::desc plain(dims(weights.shape()), onednn::data_type(weights.dtype()),
                                 dnnl::memory::format_tag::oihw);
  if (plain == wanted) return onednn::view(plain, weights);
  WeightCache& cache = weight_cache(weights);
  for (const auto& entry : cache.packed) {
    if (entry.desc == wanted) return onednn::view(wanted, entry.storage);
  }
  Tensor storage = onednn::buffer(wanted);
  const dnnl::memory target = onednn::view(wanted, storage);
  onednn::reorder(onednn::view(plain, weights), target);
  cache.packed.push_back({wanted, storage});
  return target;
}

ConvProblem problem_of(const Shape& x, const Shape& weights, const ConvOptions& options, DType source,
                       DType weight, DType destination) {
  return {onednn::data_type(source),
          onednn::data_type(weight),
          dnnl::memory::data_type::undef,
          onednn::data_type(destination),
          nchw(x),
          dims(weights),
          nchw(conv2d_shape(x, weights, options)),
          {options.stride, options.stride},
          {options.padding, options.padding}};
}

// `bias`: undefined, or O values of s32.
Tensor forward(const Tensor& x, const Tensor& weights, const Tensor& bias, const ConvOptions& options,
               DType destination) {
  ConvProblem problem =
      problem_of(x.shape(), weights.shape(), options, x.dtype(), weights.dtype(), destination);
  if (bias) problem.bias = onednn::data_type(bias.dtype());
  const auto& conv = compiled<dnnl::convolution_forward>("conv2d", problem, onednn::forward_desc);
  Tensor y = Tensor::empty(conv2d_shape(x.shape(), weights.shape(), options), destination);
  onednn::Arguments arguments{{DNNL_ARG_SRC, onednn::view(conv.desc.src_desc(), x)},
                              {DNNL_ARG_WEIGHTS, packed(weights, conv.desc.weights_desc())},
                              {DNNL_ARG_DST, onednn::view(conv.desc.dst_desc(), y)}};
  if (bias) arguments.insert_or_assign(DNNL_ARG_BIAS, onednn::view(conv.desc.bias_desc(), bias));
  onednn::execute("conv2d", conv.primitive, conv.desc.scratchpad_desc(), std::move(arguments));
  return y;
}

// x + 128 as u8, with a border that stands for zero.
Tensor shifted_and_padded(const Tensor& x, int padding) {
  const std::int64_t height = x.dim(1) + 2 * padding;
  const std::int64_t width = x.dim(2) + 2 * padding;
  const std::int64_t channels = x.dim(3);
  Tensor out = Tensor::empty({x.dim(0), height, width, channels}, DType::u8);
  std::uint8_t* to = out.mutable_data<std::uint8_t>();
  const std::int8_t* from = x.data<std::int8_t>();
  parallel_for(x.dim(0), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; ++n) {
      std::uint8_t* image = to + n * height * width * channels;
      std::memset(image, 128, static_cast<std::size_t>(height * width * channels));
      for (std::int64_t y = 0; y < x.dim(1); ++y) {
        const std::int8_t* row = from + (n * x.dim(1) + y) * x.dim(2) * channels;
        std::uint8_t* target = image + ((y + padding) * width + padding) * channels;
        for (std::int64_t i = 0; i < x.dim(2) * channels; ++i)
          target[i] = static_cast<std::uint8_t>(row[i] ^ 0x80);
      }
    }
  });
  return out;
}

Tensor channel_correction(const Tensor& weights) {
  Tensor& correction = weight_cache(weights).channel_sums;
  if (!correction) {
    correction = Tensor::empty({weights.dim(0)}, DType::s32);
    const std::int64_t length = weights.numel() / weights.dim(0);
    const std::int8_t* w = weights.data<std::int8_t>();
    for (std::int64_t o = 0; o < weights.dim(0); ++o) {
      std::int32_t sum = 0;
      for (std::int64_t i = 0; i < length; ++i) sum += w[o * length + i];
      correction.mutable_data<std::int32_t>()[o] = -128 * sum;
    }
  }
  return correction;
}

std::vector<Tensor> cached_addends(const Tensor& weights, int max_input, int max_magnitude) {
  WeightCache& cache = weight_cache(weights);
  auto entry = std::ranges::find_if(cache.addends, [&](const WeightCache::Addends& a) {
    return a.max_input == max_input && a.max_magnitude == max_magnitude;
  });
  if (entry == cache.addends.end()) {
    std::vector<Tensor> tensors = exact_addends(weights, max_input, max_magnitude);
    if (tensors.size() == 1)
      tensors.clear();  // the weights themselves: they own this cache, it must not own them
    entry = cache.addends.insert(entry, {max_input, max_magnitude, std::move(tensors)});
  }
  return entry->tensors.empty() ? std::vector{weights} : entry->tensors;
}

Tensor rounded_to_s32(const Tensor& x) {
  Tensor out = Tensor::empty(x.shape(), DType::s32);
  const float* from = x.data<float>();
  std::int32_t* to = out.mutable_data<std::int32_t>();
  parallel_for(x.numel(), 1 << 14, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) to[i] = static_cast<std::int32_t>(from[i]);
  });
  return out;
}

}  // namespace

Shape conv2d_shape(const Shape& x, const Shape& weights, const ConvOptions& options) {
  check(x.rank() == 4, "conv2d: expected an N,H,W,C tensor, got ", x);
  check(weights.rank() == 4, "conv2d: expected O,I,H,W weights, got ", weights);
  check(x[3] == weights[1], "conv2d: ", x[3], " input channels, weights ", weights, " want ", weights[1]);
  check(options.stride > 0 && options.padding >= 0, "conv2d: stride ", options.stride, ", padding ",
        options.padding);
  const std::int64_t height = x[1] + 2 * options.padding - weights[2];
  const std::int64_t width = x[2] + 2 * options.padding - weights[3];
  check(height >= 0 && width >= 0, "conv2d: kernel ", weights, " does not fit an image of ", x,
        " with padding ", options.padding);
  return {x[0], height / options.stride + 1, width / options.stride + 1, weights[0]};
}

Tensor conv2d(const Tensor& x, const Tensor& weights, const ConvOptions& options) {
  check(x.dtype() == weights.dtype(), "conv2d: input ", x.dtype(), ", weights ", weights.dtype());
  return forward(x, weights, {}, options, DType::f32);
}

std::vector<Tensor> exact_addends(const Tensor& weights, int max_input, int max_magnitude) {
  constexpr std::int64_t exact_limit = std::int64_t{1} << 24;
  const std::int8_t* w = weights.data<std::int8_t>();
  const std::int64_t channels = weights.dim(0);
  const std::int64_t length = weights.numel() / std::max<std::int64_t>(channels, 1);
  for (int parts = 1; parts <= 128; ++parts) {
    // The magnitudes of a weight's parts differ by at most one; the first is the largest.
    bool exact = true;
    for (std::int64_t o = 0; o < channels && exact; ++o) {
      std::int64_t sum = 0;
      for (std::int64_t i = 0; i < length; ++i) {
        const int largest = (std::abs(w[o * length + i]) + parts - 1) / parts;
        exact = exact && largest <= max_magnitude;
        sum += largest;
      }
      exact = exact && sum * max_input < exact_limit;
    }
    if (!exact) continue;
    if (parts == 1) return {weights};
    std::vector<Tensor> addends;
    for (int part = 0; part < parts; ++part) {
      Tensor addend = Tensor::empty(weights.shape(), DType::s8);
      std::int8_t* out = addend.mutable_data<std::int8_t>();
      for (std::int64_t i = 0; i < weights.numel(); ++i) {
        const int magnitude = (std::abs(w[i]) + parts - 1 - part) / parts;
        out[i] = static_cast<std::int8_t>(w[i] < 0 ? -magnitude : magnitude);
      }
      addends.push_back(std::move(addend));
    }
    return addends;
  }
  fail(ErrorKind::internal, "integer convolution: weights ", weights.shape(),
       " are too many for exact 32-bit sums");
}

Tensor conv2d_integer(const Tensor& x, const Tensor& weights, const ConvOptions& options, Engine engine) {
  check(x.dtype() == DType::u8 || x.dtype() == DType::s8, "integer convolution: input u8 or s8, got ",
        x.dtype());
  check(weights.dtype() == DType::s8, "integer convolution: weights s8, got ", weights.dtype());
  const Shape shape = conv2d_shape(x.shape(), weights.shape(), options);
  const bool is_signed = x.dtype() == DType::s8;
  const bool integer = engine == Engine::integer;
  const int max_input = is_signed && integer ? 255
                        : x.is_fixed_point() ? x.fixed_point().max()
                        : is_signed          ? 128
                                             : 255;
  const int max_magnitude = integer && !has_vnni() ? 64 : 128;

  Tensor source = !integer    ? convert_unscaled(x, DType::f32)
                  : is_signed ? shifted_and_padded(x, options.padding)
                              : x;
  ConvOptions source_options = options;
  if (integer && is_signed) source_options.padding = 0;

  Tensor total;
  const std::vector<Tensor> addends = cached_addends(weights, max_input, max_magnitude);
  for (const Tensor& addend : addends) {
    Tensor sum;
    if (integer) {
      const Tensor correction = is_signed ? channel_correction(addend) : Tensor();
      sum = forward(source, addend, correction, source_options, DType::s32);
    } else {
      sum = rounded_to_s32(forward(source, convert_unscaled(addend, DType::f32), {}, options, DType::f32));
    }
    if (!total) {
      total = sum;
    } else {
      add_s32_in_place(total, sum);
    }
  }
  check(total.shape() == shape, "integer convolution: internal shape mismatch");
  return total;
}

Tensor conv2d_backward_data(const Tensor& dy, const Tensor& weights, const Shape& x,
                            const ConvOptions& options, DType dtype) {
  check(dy.dtype() == weights.dtype(), "conv2d backward: gradient ", dy.dtype(), ", weights ",
        weights.dtype());
  const ConvProblem problem = problem_of(x, weights.shape(), options, dtype, weights.dtype(), dy.dtype());
  check(dy.shape() == conv2d_shape(x, weights.shape(), options), "conv2d backward: gradient ", dy.shape(),
        " for an input of ", x);
  const auto& conv =
      compiled<dnnl::convolution_backward_data>("conv2d backward data", problem, onednn::backward_data_desc);
  Tensor dx = Tensor::empty(x, dtype);
  onednn::execute("conv2d backward data", conv.primitive, conv.desc.scratchpad_desc(),
                  {{DNNL_ARG_DIFF_DST, onednn::view(conv.desc.diff_dst_desc(), dy)},
                   {DNNL_ARG_WEIGHTS, packed(weights, conv.desc.weights_desc())},
                   {DNNL_ARG_DIFF_SRC, onednn::view(conv.desc.diff_src_desc(), dx)}});
  return dx;
}

Tensor conv2d_backward_weights(const Tensor& x, const Tensor& dy, const Shape& weights,
                               const ConvOptions& options) {
  check(x.dtype() == dy.dtype(), "conv2d backward: input ", x.dtype(), ", gradient ", dy.dtype());
  check(dy.shape() == conv2d_shape(x.shape(), weights, options), "conv2d backward: gradient ", dy.shape(),
        " for an input of ", x.shape());
  const ConvProblem problem = problem_of(x.shape(), weights, options, x.dtype(), x.dtype(), dy.dtype());
  const auto& conv = compiled<dnnl::convolution_backward_weights>("conv2d backward weights", problem,
                                                                  onednn::backward_weights_desc);
  const dnnl::memory::desc desc = conv.desc.diff_weights_desc();
  const Tensor storage = onednn::buffer(desc);
  const dnnl::memory gradient = onednn::view(desc, storage);
  onednn::execute("conv2d backward weights", conv.primitive, conv.desc.scratchpad_desc(),
                  {{DNNL_ARG_SRC, onednn::view(conv.desc.src_desc(), x)},
                   {DNNL_ARG_DIFF_DST, onednn::view(conv.desc.diff_dst_desc(), dy)},
                   {DNNL_ARG_DIFF_WEIGHTS, gradient}});
  Tensor dw = Tensor::empty(weights);
  const dnnl::memory::desc plain(dims(weights), dnnl::memory::data_type::f32, dnnl::memory::format_tag::oihw);
  onednn::reorder(gradient, onednn::view(plain, dw));
  return dw;
}

}  // namespace faq::kernels
