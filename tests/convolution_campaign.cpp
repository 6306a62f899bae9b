// Runs all kernels of convolution on random geometries, and compares all elements with plain sums.
// tools/campaigns/convolutions.py is the command for it.
//
// Every case is a process of its own, so that a kernel that crashes ends no other case, and has the memory of
// tests/guarded_memory.h. All numbers are integers, and so small that the sums of floating point kernels are
// exact in whatever order: nothing is compared with a tolerance.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include <cxxopts.hpp>

#include "core/cpu.h"
#include "core/error.h"
#include "core/kernels/conv.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/integer_data_gradient.h"
#include "core/kernels/quad_gradient.h"
#include "core/kernels/requantizer.h"
#include "core/kernels/tiled_conv.h"
#include "core/kernels/weight_gradient.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "core/text.h"
#include "tests/campaign_main.h"
#include "tests/guarded_memory.h"
#include "tests/reference.h"

namespace faq::testing {
namespace {

using reference::Convolution;

/// A convolution, and the largest numbers in it.
struct Case {
  Convolution convolution;
  std::int64_t x, w, dy;   ///< magnitudes
  bool is_signed = false;  ///< the images
  int threads = 1;
  Guard guard = Guard::behind;

  // The largest sums there can be.
  std::int64_t largest_y() const { return x * w * convolution.w.numel() / convolution.w[0]; }
  std::int64_t largest_dx() const {
    const auto& [xs, ws, geometry] = convolution;
    return dy * w * (ws[0] / geometry.groups) * ws[2] * ws[3];
  }
  std::int64_t largest_dw() const {
    const Shape y = convolution.y();
    return dy * x * y[0] * y[1] * y[2];
  }
  std::int64_t products() const {
    return convolution.y().numel() * (convolution.w.numel() / convolution.w[0]);
  }
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.convolution << ", " << (c.is_signed ? "s8" : "u8") << " to " << c.x << ", weights to "
             << c.w << ", gradients to " << c.dy << ", threads " << c.threads;
}

class Draw {
 public:
  Draw(std::uint64_t seed, std::uint64_t number) : random_(seed, RandomStream::test, number) {}

  std::int64_t between(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(random_.below(static_cast<std::uint32_t>(high - low + 1)));
  }
  bool one_in(std::uint32_t n) { return random_.below(n) == 0; }
  template <class T>
  T any(std::initializer_list<T> choices) {
    return std::data(choices)[random_.below(static_cast<std::uint32_t>(choices.size()))];
  }

 private:
  Random random_;
};

struct Channels {
  std::int64_t in, out;
  int groups = 1;
};

Channels some_channels(Draw& draw) {
  switch (draw.between(0, 5)) {
    case 0:
      return {draw.between(1, 20), draw.between(1, 20)};
    case 1:  // as networks have them
      return {draw.any<std::int64_t>({16, 32, 48, 64, 96, 128}),
              draw.any<std::int64_t>({16, 32, 64, 96, 128, 192, 256})};
    case 2:
      return {draw.between(1, 140), draw.between(1, 300)};
    case 3:  // as fully connected layers
      return {draw.any<std::int64_t>({64, 128, 256}), draw.any<std::int64_t>({256, 512, 1000, 1024, 2048})};
    case 4: {
      const auto channels = draw.between(2, 70);
      return {channels, channels, static_cast<int>(channels)};
    }
    default: {
      const auto groups = draw.between(2, 5);
      return {groups * draw.between(1, 40), groups * draw.between(1, 40), static_cast<int>(groups)};
    }
  }
}

// Nothing if the draw makes no convolution, or one that would take long.
std::optional<Case> drawn(Draw& draw) {
  const Channels channels = some_channels(draw);
  const auto height = draw.any<std::int64_t>({1, 1, 1, 2, 3, 3, 5, 7});
  const auto width = draw.one_in(6) ? draw.any<std::int64_t>({1, 2, 3, 5}) : height;
  const bool has_one_tap = height * width == 1;
  ConvGeometry geometry{.stride = draw.one_in(3) ? static_cast<int>(draw.between(2, 3)) : 1,
                        .dilation = draw.one_in(8) ? 2 : 1,
                        .groups = channels.groups};
  const auto border = [&](std::int64_t taps, int dilation) {
    return static_cast<int>(has_one_tap ? draw.one_in(10) : draw.between(0, taps / 2 * dilation));
  };
  const Extent dilation = geometry.dilation;
  geometry.padding = {border(height, dilation.height), border(width, dilation.width),
                      border(height, dilation.height), border(width, dilation.width)};
  const bool in_strides = draw.one_in(2);  // some kernels take strides that leave nothing over
  const auto pixels = [&] {
    const std::int64_t n = draw.between(1, draw.one_in(3) ? 24 : 9);
    return in_strides ? (n + geometry.stride - 1) / geometry.stride * geometry.stride : n;
  };
  Case c{.convolution = {{draw.between(1, 9), pixels(), pixels(), channels.in},
                         {channels.out, channels.in / channels.groups, height, width},
                         geometry},
         .x = draw.any<std::int64_t>({3, 15, 255}),
         .w = draw.any<std::int64_t>({1, 7, 127}),
         .dy = draw.any<std::int64_t>({1, 7, 127}),
         .is_signed = draw.one_in(2),
         .threads = draw.any({1, 1, 2, 4}),
         .guard = draw.any({Guard::before, Guard::behind})};
  if (c.is_signed) c.x = std::min<std::int64_t>(c.x, 127);
  const ConvGeometry of_weights = geometry.of(c.convolution.w);
  const Padding& p = geometry.padding;
  if (c.convolution.x[1] + p.top + p.bottom < of_weights.window().height ||
      c.convolution.x[2] + p.left + p.right < of_weights.window().width)
    return {};
  constexpr std::int64_t most_products = 6'000'000;
  return c.products() <= most_products ? std::optional(c) : std::nullopt;
}

/// The integers of a case.
struct Operands {
  Tensor x, w, dy;
  ConvGeometry geometry;
};

Operands operands_of(const Case& c, std::uint64_t salt) {
  const auto& [xs, ws, geometry] = c.convolution;
  const Shape ys = c.convolution.y();
  return {c.is_signed ? reference::random_integers<std::int8_t>(xs, 3 * salt, -c.x, c.x)
                      : reference::random_integers<std::uint8_t>(xs, 3 * salt, 0, c.x),
          reference::random_integers<std::int8_t>(ws, 3 * salt + 1, -c.w, c.w),
          reference::random_integers<std::int8_t>(ys, 3 * salt + 2, -c.dy, c.dy), geometry};
}

enum class Result { y, dx, dw, deployed };

// How the sums of a case are requantized.
kernels::Requantize deployment_of(const Operands& o) {
  const std::int64_t channels = o.w.dim(0);
  const bool is_signed = o.x.dim(0) % 2 == 0;
  return {.multiplier = reference::random({channels}, 1, 1e-5, 0.1),
          .bias = reference::random({channels}, 2, -9, 99),
          .residual_multiplier = 0.5f,
          .activation = is_signed ? Activation::identity : Activation::relu,
          .format = {.bits = 8, .is_signed = is_signed}};
}

Tensor residual_of(const Operands& o) {
  if (o.x.dim(1) % 3 == 0) return o.dy;
  return o.x.dim(1) % 3 == 1 ? reference::random_integers<std::uint8_t>(o.dy.shape(), 3, 0, 255) : Tensor();
}

std::vector<double> deployed(const Operands& o, const std::vector<double>& y) {
  Tensor sums = Tensor::empty(o.dy.shape(), DType::s32);
  std::ranges::transform(y, sums.mutable_data<std::int32_t>(), [](double sum) {
    return static_cast<std::int32_t>(std::clamp(sum, -0x1p31, 0x1p31 - 1));
  });
  return reference::elements<double>(kernels::requantize(sums, residual_of(o), deployment_of(o)));
}

struct Sums {
  std::vector<double> y, dx, dw, deployed;
  const std::vector<double>& of(Result result) const {
    switch (result) {
      case Result::y:
        return y;
      case Result::dx:
        return dx;
      case Result::dw:
        return dw;
      default:
        return deployed;
    }
  }
};

Sums plain_sums(const Operands& o) {
  const auto x = reference::elements<double>(o.x), w = reference::elements<double>(o.w),
             dy = reference::elements<double>(o.dy);
  const auto y = reference::conv2d(x, o.x.shape(), w, o.w.shape(), o.geometry);
  return {y, reference::conv2d_dx(dy, o.x.shape(), w, o.w.shape(), o.geometry),
          reference::conv2d_dw(dy, x, o.x.shape(), o.w.shape(), o.geometry), deployed(o, y)};
}

struct Kernel {
  std::string name;
  Result result;
  bool in_integers;  ///< else its sums are exact below 2^24
  std::function<bool(const Operands&)> suits;
  std::function<Tensor(const Operands&)> run;
};

bool suits_all(const Operands&) { return true; }

void add_floating_point(std::vector<Kernel>& kernels, DType dtype) {
  using kernels::convert;
  const std::string name = name_of(dtype);
  kernels.push_back({"forward " + name, Result::y, false, suits_all, [dtype](const Operands& o) {
                       return kernels::conv2d(convert(o.x, dtype), convert(o.w, dtype), o.geometry);
                     }});
  kernels.push_back({"data gradient " + name, Result::dx, false, suits_all, [dtype](const Operands& o) {
                       return kernels::conv2d_backward_data(convert(o.dy, dtype), convert(o.w, dtype),
                                                            o.x.shape(), o.geometry, DType::f32);
                     }});
  kernels.push_back({"weight gradient " + name, Result::dw, false, suits_all, [dtype](const Operands& o) {
                       return kernels::conv2d_backward_weights(convert(o.x, dtype), convert(o.dy, dtype),
                                                               o.w.shape(), o.geometry);
                     }});
  kernels.push_back(
      {"weight gradient of integers, " + name, Result::dw, false, suits_all, [dtype](const Operands& o) {
         return kernels::conv2d_backward_weights(o.x, convert(o.dy, dtype), o.w.shape(), o.geometry);
       }});
}

std::vector<Kernel> all_kernels() {
  std::vector<Kernel> kernels;
  for (const Engine engine : {Engine::integer, Engine::simulated}) {
    const std::string name = engine == Engine::integer ? "integers" : "simulated integers";
    kernels.push_back({"forward " + name, Result::y, true, suits_all, [engine](const Operands& o) {
                         return kernels::conv2d_integer(o.x, o.w, o.geometry, engine);
                       }});
    kernels.push_back({"data gradient " + name, Result::dx, true,
                       [](const Operands& o) {
                         return kernels::suits_integer_data_gradient(o.x.shape(), o.w.shape(), o.geometry);
                       },
                       [engine](const Operands& o) {
                         Tensor dx = Tensor::empty(o.x.shape());
                         kernels::conv2d_backward_data_integer({o.dy, 1.0f}, o.w, o.geometry, engine, dx);
                         return dx;
                       }});
  }
  for (const kernels::QuadTiles& tiles : kernels::quad_tile_sets())
    if (tiles.runs && tiles.allowed)
      kernels.push_back({std::string("weight gradient integers, ") + tiles.name, Result::dw, true,
                         [](const Operands& o) {
                           return kernels::QuadGradient::suits(o.x.shape(), o.w.shape(), o.geometry);
                         },
                         [&tiles](const Operands& o) {
                           kernels::QuadGradient gradient(o.x.shape(), o.w.shape(), o.geometry, 1, {}, tiles);
                           gradient.add(0, o.x, {o.dy, 1.0f});
                           return gradient.sum();
                         }});
  for (const kernels::ByteTiles& tiles : kernels::byte_tile_sets())
    if (tiles.runs && tiles.allowed)
      kernels.push_back(
          {std::string("deployed integers, ") + tiles.name, Result::deployed, true,
           [](const Operands& o) { return kernels::fits_tiles(o.w.shape(), o.geometry); },
           [&tiles](const Operands& o) {
             const kernels::PackedWeights weights(o.w);
             const auto params = deployment_of(o);
             Tensor out = Tensor::empty(o.dy.shape(), params.format.is_signed ? DType::s8 : DType::u8);
             kernels::conv2d_in_tiles(o.x, weights.forms(), o.geometry, tiles,
                                      kernels::Requantizer(params, o.w.dim(0)), residual_of(o), out);
             return out;
           }});
  add_floating_point(kernels, DType::f32);
  if (has_native_bf16()) add_floating_point(kernels, DType::bf16);
  return kernels;
}

bool is_exact(const Kernel& kernel, const Case& c) {
  const std::int64_t largest = kernel.result == Result::dx   ? c.largest_dx()
                               : kernel.result == Result::dw ? c.largest_dw()
                                                             : c.largest_y();
  return largest < (std::int64_t{1} << (kernel.in_integers ? 31 : 24));
}

/// What a case was doing, in memory that it shares with the process that waits for it.
struct Progress {
  int kernels = 0;  ///< compared
  int findings = 0;
  std::array<char, 80> kernel{};  ///< in work
};

class Shared {
 public:
  Shared()
      : progress_(static_cast<Progress*>(
            ::mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {
    check(progress_ != MAP_FAILED, ErrorKind::out_of_memory, "no memory to share with cases");
  }
  ~Shared() { ::munmap(progress_, sizeof(Progress)); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  Progress& operator*() const { return *progress_; }
  Progress* operator->() const { return progress_; }

 private:
  Progress* progress_;
};

// What differs; empty: nothing. Where the kernel gives f32, so is the sum rounded.
std::string difference(const Tensor& result, const std::vector<double>& sums) {
  const auto got = reference::elements<double>(result);
  if (got.size() != sums.size()) return concat(got.size(), " elements instead of ", sums.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double want =
        result.dtype() == DType::f32 ? static_cast<double>(static_cast<float>(sums[i])) : sums[i];
    if (!(got[i] == want)) return concat("element ", i, " is ", got[i], " instead of ", want);
  }
  return {};
}

struct Options {
  std::uint64_t first = 0;
  std::uint64_t count = 1000;
  std::uint64_t seed = 1;
  std::string kernels;
};

Options options_of(int argc, char** argv) {
  Options o;
  cxxopts::Options parser("faq_convolution_campaign");
  parser.add_options()("first", "number of the first case", cxxopts::value(o.first))(
      "count", "of cases", cxxopts::value(o.count))("seed", "of all cases", cxxopts::value(o.seed))(
      "kernels", "only those in whose names this stands", cxxopts::value(o.kernels));
  parser.parse(argc, argv);
  return o;
}

class Campaign {
 public:
  explicit Campaign(const Options& options) : o_(options), kernels_(all_kernels()) {
    std::erase_if(kernels_, [&](const Kernel& k) { return k.name.find(o_.kernels) == std::string::npos; });
  }

  void run() {
    for (std::uint64_t i = o_.first; i < o_.first + o_.count; ++i) {
      Draw draw(o_.seed, i);
      std::optional<Case> c;
      while (!c) c = drawn(draw);
      in_a_process(*c, i);
    }
  }

  int report() const {
    std::printf("{\"instruction_set\": \"%s\", \"cases\": %llu, \"comparisons\": %lld, \"findings\": %lld}\n",
                isa_name(), static_cast<unsigned long long>(o_.count), comparisons_, findings_);
    return findings_ == 0 ? 0 : 1;
  }

 private:
  void in_a_process(const Case& c, std::uint64_t number) {
    *shared_ = {};
    std::fflush(nullptr);
    const pid_t child = ::fork();
    check(child >= 0, ErrorKind::io, "cannot start a process");
    if (child == 0) {
      compare(c, number);
      std::fflush(nullptr);
      ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    comparisons_ += shared_->kernels;
    findings_ += shared_->findings;
    if (WIFSIGNALED(status)) {
      ++findings_;
      found(shared_->kernel.data(), concat("ended by signal ", WTERMSIG(status)), c, number);
    }
  }

  void compare(const Case& c, std::uint64_t number) const {
    set_num_threads(c.threads);
    set_guard(c.guard);
    const Operands operands = operands_of(c, number);
    const Sums sums = plain_sums(operands);
    for (const Kernel& kernel : kernels_) {
      if (!is_exact(kernel, c) || !kernel.suits(operands)) continue;
      kernel.name.copy(shared_->kernel.data(), shared_->kernel.size() - 1);
      shared_->kernel[std::min(kernel.name.size(), shared_->kernel.size() - 1)] = 0;
      std::string wrong;
      try {
        wrong = difference(kernel.run(operands), sums.of(kernel.result));
      } catch (const std::exception& error) {
        wrong = concat("throws: ", error.what());
      }
      ++shared_->kernels;
      if (wrong.empty()) continue;
      ++shared_->findings;
      found(kernel.name, wrong, c, number);
    }
  }

  void found(const std::string& kernel, const std::string& what, const Case& c, std::uint64_t number) const {
    std::fprintf(stderr, "%s, %s: %s: %s. Again: --seed %llu --first %llu --count 1\n", isa_name(),
                 kernel.c_str(), concat(c).c_str(), what.c_str(), static_cast<unsigned long long>(o_.seed),
                 static_cast<unsigned long long>(number));
  }

  Options o_;
  std::vector<Kernel> kernels_;
  Shared shared_;
  long long comparisons_ = 0, findings_ = 0;
};

}  // namespace
}  // namespace faq::testing

int main(int argc, char** argv) {
  return faq::testing::campaign_main<faq::testing::Campaign>(argc, argv, faq::testing::options_of);
}
