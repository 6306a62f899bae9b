#include "tools/bench/bench.h"

#include <benchmark/benchmark.h>

#include <bit>

namespace faq::bench {
namespace {

// Cheaper than core/rng.h: operands are made anew each time that Google Benchmark changes its mind about how
// often to call a kernel.
class Numbers {
 public:
  int between(int low, int high) {
    state_ = state_ * 1664525u + 1013904223u;
    return low + static_cast<int>((state_ >> 8) % static_cast<std::uint32_t>(high - low + 1));
  }

 private:
  std::uint32_t state_ = 1;
};

template <class T>
void fill(Tensor& t, int low, int high, float unit) {
  Numbers numbers;
  for (T& value : t.mutable_span<T>()) {
    const float x = static_cast<float>(numbers.between(low, high)) * unit;
    if constexpr (dtype_of<T> == DType::bf16) {
      value.bits = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(x) >> 16);
    } else {
      value = static_cast<T>(x);
    }
  }
}

}  // namespace

void add(const std::string& name, const Work& work, std::function<Kernel()> prepare) {
  const auto run = [name, work, prepare = std::move(prepare)](benchmark::State& state) {
    try {
      const Kernel kernel = prepare();
      kernel();
      for (auto _ : state) kernel();
    } catch (const Error& error) {
      fail(error.kind(), name, ": ", error.what());
    }
    const auto calls = static_cast<std::int64_t>(state.iterations());
    if (work.items > 0) state.SetItemsProcessed(calls * work.items);
    if (work.bytes > 0) state.SetBytesProcessed(calls * work.bytes);
    if (work.operations > 0)
      state.counters["ops"] =
          benchmark::Counter(work.operations, benchmark::Counter::kIsIterationInvariantRate);
  };
  benchmark::RegisterBenchmark(name.c_str(), run)->UseRealTime()->Unit(benchmark::kMicrosecond);
}

Tensor quantized(const Shape& shape, const FixedPoint& format) {
  Tensor t = Tensor::empty(shape, format.is_signed ? DType::s8 : DType::u8, format);
  if (format.is_signed) {
    fill<std::int8_t>(t, format.min(), format.max(), 1);
  } else {
    fill<std::uint8_t>(t, format.min(), format.max(), 1);
  }
  return t;
}

Tensor sums(const Shape& shape, DType dtype, int magnitude) {
  Tensor t = Tensor::empty(shape, dtype,
                           {.scale = 0x1p-8f, .bits = dtype == DType::s16 ? 16 : 32, .is_signed = true});
  if (dtype == DType::s16) {
    fill<std::int16_t>(t, -magnitude, magnitude, 1);
  } else {
    fill<std::int32_t>(t, -magnitude, magnitude, 1);
  }
  return t;
}

Tensor reals(const Shape& shape, DType dtype) {
  Tensor t = Tensor::empty(shape, dtype);
  if (dtype == DType::bf16) {
    fill<bfloat16>(t, -128, 128, 0x1p-7f);
  } else {
    fill<float>(t, -128, 128, 0x1p-7f);
  }
  return t;
}

}  // namespace faq::bench
