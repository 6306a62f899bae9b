// Layouts of s8 weights that are written by us: the same bytes as oneDNN's, in every way to write them.
#include "core/kernels/interleaved_layout.h"

#include <cstring>

#include "core/cpu.h"
#include "core/kernels/conv_primitives.h"
#include "tests/catch.h"
#include "tests/reference.h"

using namespace faq;
using kernels::FilterView;
using kernels::InterleavedLayout;
using reference::random_integers;
namespace onednn = kernels::onednn;

namespace {

// The layout that a convolution with these weights, O,I,H,W, wants.
dnnl::memory::desc wanted_layout(const Shape& weights, DType images) {
  const Shape x{2, 14, 14, weights[1]};
  const ConvGeometry geometry{
      .padding = {static_cast<int>(weights[2]) / 2, static_cast<int>(weights[3]) / 2}};
  return onednn::forward_desc(
             onednn::problem_of(x, weights, geometry.of(weights), images, DType::s8, DType::s32))
      .weights_desc();
}

// The weights I,O,H,W of a view, one by one.
Tensor gathered(const FilterView& view, std::int64_t height, std::int64_t width) {
  Tensor out = Tensor::empty({view.outputs, view.inputs, height, width}, DType::s8);
  std::int8_t* to = out.mutable_data<std::int8_t>();
  for (std::int64_t o = 0; o < view.outputs; ++o)
    for (std::int64_t i = 0; i < view.inputs; ++i)
      for (const std::int64_t tap : view.taps)
        *to++ = view.data[o * view.output_step + i * view.input_step + tap];
  return out;
}

struct Written {
  bool is_ours;  ///< the layout is one that we write
  bool are_equal;
};

Written written(const FilterView& view, std::int64_t height, std::int64_t width, DType images) {
  const Tensor plain = gathered(view, height, width);
  const dnnl::memory::desc wanted = wanted_layout(plain.shape(), images);
  const auto layout = InterleavedLayout::of(wanted, plain.shape());
  if (!layout) return {false, false};
  const Tensor theirs = onednn::buffer(wanted);
  onednn::reorder(onednn::view(onednn::plain_weights(plain.shape(), DType::s8, 1), plain),
                  onednn::view(wanted, theirs));
  Tensor ours = onednn::buffer(wanted);
  std::memset(ours.mutable_raw(), 0x55, ours.bytes());
  layout->pack(view, ours);
  return {true, layout->are_equal(ours, theirs)};
}

}  // namespace

TEST_CASE("layouts of weights are written as oneDNN writes them", "[isa]") {
  const Shape shapes[] = {{64, 64, 1, 1},    {256, 64, 1, 1}, {96, 48, 1, 1},  {40, 16, 1, 1},
                          {1000, 128, 1, 1}, {64, 64, 3, 3},  {48, 192, 3, 3}, {192, 48, 3, 3},
                          {100, 80, 3, 3},   {64, 32, 5, 5},  {32, 64, 1, 7}};
  int ours = 0;
  for (const Shape& shape : shapes) {
    const Tensor weights = random_integers<std::int8_t>(shape, 7, -127, 127);
    for (const DType images : {DType::u8, DType::s8}) {
      INFO(shape << ", images " << images);
      const Written plain = written(kernels::plain_filters(weights), shape[2], shape[3], images);
      const Written flipped = written(kernels::flipped_filters(weights, 0, 1), shape[2], shape[3], images);
      ours += (plain.is_ours ? 1 : 0) + (flipped.is_ours ? 1 : 0);
      // Without VNNI, oneDNN halves the weights of its layouts for signed images: those are not ours.
      if (!has_vnni() && images == DType::s8) continue;
      CHECK(plain.are_equal == plain.is_ours);
      CHECK(flipped.are_equal == flipped.is_ours);
    }
  }
  if (has_avx512_vnni()) CHECK(ours > 2 * std::ssize(shapes));
}

TEST_CASE("layouts of the taps of a stride are written as oneDNN writes them", "[isa]") {
  const Tensor weights = random_integers<std::int8_t>({64, 48, 3, 3}, 8, -127, 127);
  for (const int y : {0, 1}) {
    for (const int x : {0, 1}) {
      INFO("the taps from " << y << ", " << x << " on");
      const Written taps =
          written(kernels::flipped_filters(weights, {y, x}, 2), y == 0 ? 2 : 1, x == 0 ? 2 : 1, DType::u8);
      CHECK(taps.are_equal == taps.is_ours);
    }
  }
}

// Where ours differ, as for signed images without VNNI, weights must still have oneDNN's.
TEST_CASE("weights have the layouts that oneDNN makes of them", "[isa]") {
  for (const Shape& shape : {Shape{96, 48, 1, 1}, Shape{64, 64, 3, 3}}) {
    for (const DType images : {DType::u8, DType::s8}) {
      INFO(shape << ", images " << images);
      const dnnl::memory::desc wanted = wanted_layout(shape, images);
      const auto layout = InterleavedLayout::of(wanted, shape);
      if (!layout) continue;
      for (const std::uint64_t salt : {10, 11}) {  // the first may decide how the second is written
        const Tensor weights = random_integers<std::int8_t>(shape, salt, -127, 127);
        const Tensor theirs = onednn::buffer(wanted);
        onednn::reorder(onednn::view(onednn::plain_weights(shape, DType::s8, 1), weights),
                        onednn::view(wanted, theirs));
        kernels::WeightForms forms(weights);
        CHECK(layout->are_equal(forms.layout(wanted, images, 1), theirs));
      }
    }
  }
}

TEST_CASE("flipped weights are those that lie there", "[conv]") {
  const Tensor weights = random_integers<std::int8_t>({20, 12, 3, 2}, 9, -127, 127);
  kernels::WeightForms forms(weights);
  for (const int stride : {1, 2}) {
    const auto flipped = forms.flipped({1, 0}, stride);
    const Tensor expected =
        gathered(kernels::flipped_filters(weights, {1, 0}, stride), flipped->shape()[2], flipped->shape()[3]);
    REQUIRE(flipped->weights().shape() == expected.shape());
    CHECK(std::memcmp(flipped->weights().raw(), expected.raw(), expected.bytes()) == 0);
  }
}
