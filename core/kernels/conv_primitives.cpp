#include "core/kernels/conv_primitives.h"

#include <algorithm>
#include <array>
#include <compare>
#include <list>
#include <map>
#include <mutex>
#include <utility>

#include "core/kernels/conv_trace.h"
#include "core/parallel.h"

namespace faq::kernels::onednn {
namespace {

// Primitives are made once per problem and number of threads, and kept.
using Key = std::array<std::int64_t, 21>;

Key key_of(const ConvProblem& p) {
  Key key{static_cast<std::int64_t>(p.source), static_cast<std::int64_t>(p.weights),
          static_cast<std::int64_t>(p.bias), static_cast<std::int64_t>(p.destination)};
  auto out = key.begin() + 4;
  for (const auto* dims : {&p.source_dims, &p.weight_dims, &p.destination_dims, &p.strides, &p.padding}) {
    out = std::copy(dims->begin(), dims->end(), out);
  }
  *out = num_threads();  // those for several divide the work among them whether they are there or not
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

dnnl::memory::dims nchw(const Shape& nhwc) { return {nhwc[0], nhwc[3], nhwc[1], nhwc[2]}; }
dnnl::memory::dims dims(const Shape& shape) { return {shape.extents().begin(), shape.extents().end()}; }

dnnl::memory packed(const Tensor& weights, const dnnl::memory::desc& wanted) {
  const dnnl::memory::desc plain(dims(weights.shape()), data_type(weights.dtype()),
                                 dnnl::memory::format_tag::oihw);
  if (plain == wanted) return view(plain, weights);
  const std::lock_guard lock(weight_cache_mutex());
  WeightCache& cache = weight_cache(weights);
  for (const auto& entry : cache.packed) {
    if (entry.desc == wanted) return view(wanted, entry.storage);
  }
  Tensor storage = buffer(wanted);
  const dnnl::memory target = view(wanted, storage);
  reorder(view(plain, weights), target);
  cache.packed.push_back({wanted, storage});
  return target;
}

ConvProblem problem_of(const Shape& x, const Shape& weights, const ConvOptions& options, DType source,
                       DType weight, DType destination) {
  return {data_type(source),
          data_type(weight),
          dnnl::memory::data_type::undef,
          data_type(destination),
          nchw(x),
          dims(weights),
          nchw(conv2d_shape(x, weights, options)),
          {options.stride, options.stride},
          {options.padding.height, options.padding.width}};
}

}  // namespace

std::mutex& weight_cache_mutex() {
  static std::mutex mutex;
  return mutex;
}

WeightCache& weight_cache(const Tensor& weights) {
  std::shared_ptr<void>& slot = weights.cache();
  if (!slot) slot = std::make_shared<std::list<WeightCache>>();
  auto& of_views = *static_cast<std::list<WeightCache>*>(slot.get());
  const auto known = std::ranges::find_if(of_views, [&](const WeightCache& cache) {
    return cache.shape == weights.shape() && cache.dtype == weights.dtype();
  });
  if (known != of_views.end()) return *known;
  of_views.push_back({.shape = weights.shape(), .dtype = weights.dtype()});
  return of_views.back();
}

void convolve(const Tensor& x, const Tensor& weights, const Tensor& bias, const ConvOptions& options,
              Tensor& y) {
  record({ConvPass::forward, x.shape(), weights.shape(), y.shape(), options, x.dtype(), weights.dtype(),
          y.dtype()});
  ConvProblem problem =
      problem_of(x.shape(), weights.shape(), options, x.dtype(), weights.dtype(), y.dtype());
  if (bias) problem.bias = data_type(bias.dtype());
  const auto& conv = compiled<dnnl::convolution_forward>("conv2d", problem, forward_desc);
  Arguments arguments{{DNNL_ARG_SRC, view(conv.desc.src_desc(), x)},
                      {DNNL_ARG_WEIGHTS, packed(weights, conv.desc.weights_desc())},
                      {DNNL_ARG_DST, view(conv.desc.dst_desc(), y)}};
  if (bias) arguments.insert_or_assign(DNNL_ARG_BIAS, view(conv.desc.bias_desc(), bias));
  execute("conv2d", conv.primitive, conv.desc.scratchpad_desc(), std::move(arguments));
}

namespace {

// What weights add up to over the taps of a window that lie inside the image, per output channel: of all of
// them, and of the positive ones, which come first.
struct WindowSums {
  std::vector<std::int64_t> all, positive;
};

// The taps [first, last) of a window that lie inside the image, in one dimension.
struct Taps {
  std::int64_t first, last;
  auto operator<=>(const Taps&) const = default;
};
Taps taps_inside(std::int64_t at, std::int64_t size, std::int64_t kernel, int stride, int padding) {
  const std::int64_t begin = at * stride - padding;
  return {std::max<std::int64_t>(-begin, 0), std::min(kernel, size - begin)};
}

WindowSums sums_over(const Tensor& weights, const Taps& rows, const Taps& columns) {
  const std::int64_t outputs = weights.dim(0), inputs = weights.dim(1), width = weights.dim(3);
  const std::int8_t* filter = weights.data<std::int8_t>();
  WindowSums sums{std::vector<std::int64_t>(outputs), std::vector<std::int64_t>(outputs)};
  for (std::int64_t o = 0; o < outputs; ++o) {
    for (std::int64_t i = 0; i < inputs; ++i, filter += weights.dim(2) * width) {
      for (std::int64_t row = rows.first; row < rows.last; ++row) {
        for (std::int64_t column = columns.first; column < columns.last; ++column) {
          const std::int64_t w = filter[row * width + column];
          sums.all[o] += w;
          sums.positive[o] += std::max<std::int64_t>(w, 0);
        }
      }
    }
  }
  return sums;
}

// Whether a kernel finds the sums of the probe, whose partial sums f32 would have to round; false also where
// no partial sum is that large, so that nothing is found out. The images are constant: a result is known from
// the taps inside.
bool finds_sums_of_probe(const Shape& xs, const Shape& ws, const ConvOptions& options) {
  constexpr int input = 255;
  Tensor images = Tensor::empty(xs, DType::u8);
  std::ranges::fill(images.mutable_span<std::uint8_t>(), static_cast<std::uint8_t>(input));
  const Tensor probe = rounding_probe(ws);
  Tensor found = Tensor::empty(conv2d_shape(xs, ws, options), DType::s32);
  convolve(images, probe, {}, options, found);
  std::map<std::pair<Taps, Taps>, WindowSums> of_window;
  bool beyond = false;
  const std::int32_t* y = found.data<std::int32_t>();
  for (std::int64_t image = 0; image < found.dim(0); ++image) {
    for (std::int64_t row = 0; row < found.dim(1); ++row) {
      for (std::int64_t column = 0; column < found.dim(2); ++column) {
        const std::pair window{taps_inside(row, xs[1], ws[2], options.stride, options.padding.height),
                               taps_inside(column, xs[2], ws[3], options.stride, options.padding.width)};
        auto known = of_window.find(window);
        if (known == of_window.end())
          known = of_window.emplace(window, sums_over(probe, window.first, window.second)).first;
        const WindowSums& sums = known->second;
        for (std::int64_t o = 0; o < ws[0]; ++o) {
          const std::int64_t sum = input * sums.all[o];
          const bool is_f32 = std::abs(sum) < f32_integers;
          if (is_f32 && *y != sum) return false;
          beyond |= is_f32 && input * sums.positive[o] >= f32_integers;
          ++y;
        }
      }
    }
  }
  return beyond;
}

}  // namespace

bool rounds_results_alone(const Tensor& x, const Tensor& weights, const ConvOptions& options) {
  static std::map<Key, bool> known;
  static std::mutex mutex;
  const Key key = key_of(problem_of(x.shape(), weights.shape(), options, DType::u8, DType::s8, DType::s32));
  const std::lock_guard lock(mutex);
  const auto found = known.find(key);
  if (found != known.end()) return found->second;
  return known.emplace(key, finds_sums_of_probe(x.shape(), weights.shape(), options)).first->second;
}

void convolve_backward_data(const Tensor& dy, const Tensor& weights, const ConvOptions& options, Tensor& dx) {
  record({ConvPass::backward_data, dx.shape(), weights.shape(), dy.shape(), options, dx.dtype(),
          weights.dtype(), dy.dtype()});
  const ConvProblem problem =
      problem_of(dx.shape(), weights.shape(), options, dx.dtype(), weights.dtype(), dy.dtype());
  const auto& conv =
      compiled<dnnl::convolution_backward_data>("conv2d backward data", problem, backward_data_desc);
  execute("conv2d backward data", conv.primitive, conv.desc.scratchpad_desc(),
          {{DNNL_ARG_DIFF_DST, view(conv.desc.diff_dst_desc(), dy)},
           {DNNL_ARG_WEIGHTS, packed(weights, conv.desc.weights_desc())},
           {DNNL_ARG_DIFF_SRC, view(conv.desc.diff_src_desc(), dx)}});
}

Packed convolve_backward_weights(const Tensor& x, const Tensor& dy, const Shape& weights,
                                 const ConvOptions& options) {
  const ConvProblem problem = problem_of(x.shape(), weights, options, x.dtype(), x.dtype(), dy.dtype());
  const auto& conv =
      compiled<dnnl::convolution_backward_weights>("conv2d backward weights", problem, backward_weights_desc);
  const dnnl::memory::desc desc = conv.desc.diff_weights_desc();
  Packed gradient{desc, Tensor::empty({static_cast<std::int64_t>(desc.get_size() / sizeof(float))})};
  execute("conv2d backward weights", conv.primitive, conv.desc.scratchpad_desc(),
          {{DNNL_ARG_SRC, view(conv.desc.src_desc(), x)},
           {DNNL_ARG_DIFF_DST, view(conv.desc.diff_dst_desc(), dy)},
           {DNNL_ARG_DIFF_WEIGHTS, view(desc, gradient.storage)}});
  return gradient;
}

Tensor unpacked(const Packed& gradient, const Shape& weights) {
  const dnnl::memory::desc plain(dims(weights), dnnl::memory::data_type::f32, dnnl::memory::format_tag::oihw);
  Tensor dw = Tensor::empty(weights);
  reorder(view(gradient.desc, gradient.storage), view(plain, dw));
  return dw;
}

}  // namespace faq::kernels::onednn
