#include "quant/deploy/onnx_model.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "core/division.h"
#include "core/json.h"
#include "quant/deploy/integer_format.h"

namespace faq {
namespace {

static_assert(std::endian::native == std::endian::little, "the bytes of tensors are little-endian");

template <class T>
std::string bytes_of(std::span<const T> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
}

std::vector<std::int64_t> pair(const Extent& extent) { return {extent.height, extent.width}; }

// One axis of windows of an adaptive average pooling: a 1 where window i sees pixel j.
struct Cover {
  std::int64_t size, windows;
  std::int64_t begin(std::int64_t i) const { return i * size / windows; }
  std::int64_t end(std::int64_t i) const { return divided_up((i + 1) * size, windows); }
  bool sees(std::int64_t i, std::int64_t j) const { return begin(i) <= j && j < end(i); }
};

}  // namespace

void OnnxModel::take(const std::string& name) {
  check(!name.empty(), ErrorKind::usage, "ONNX: an op without a name");
  check(taken_.emplace(name, true).second && name != input.name, ErrorKind::usage, "ONNX: '", name,
        "': there are two of this name");
}

std::string OnnxModel::add(const char* kind, const std::string& name, std::vector<std::string> inputs,
                           OnnxAttributes attributes) {
  take(name);
  nodes.push_back({kind, name, std::move(inputs), std::move(attributes)});
  return name;
}

std::string OnnxModel::add(OnnxTensor tensor) {
  take(tensor.name);
  tensors.push_back(std::move(tensor));
  return tensors.back().name;
}

std::string OnnxModel::scalar(const std::string& name, float value) { return floats(name, {}, {&value, 1}); }

std::string OnnxModel::floats(const std::string& name, std::vector<std::int64_t> shape,
                              std::span<const float> values) {
  return add({name, OnnxType::f32, std::move(shape), bytes_of(values)});
}

std::string OnnxModel::indices(const std::string& name, std::span<const std::int64_t> values) {
  return add({name, OnnxType::s64, {static_cast<std::int64_t>(values.size())}, bytes_of(values)});
}

std::string OnnxModel::conv(const std::string& name, std::vector<std::string> inputs,
                            const ConvGeometry& geometry) {
  const Padding& p = geometry.padding;
  return add("Conv", name, std::move(inputs),
             {{"kernel_shape", pair(geometry.kernel)},
              {"strides", std::vector<std::int64_t>{geometry.stride, geometry.stride}},
              {"pads", std::vector<std::int64_t>{p.top, p.left, p.bottom, p.right}},
              {"dilations", pair(geometry.dilation)},
              {"group", std::int64_t{geometry.groups}}});
}

std::string OnnxModel::max_pool(const std::string& name, const std::string& x,
                                const kernels::MaxPoolOptions& o) {
  return add("MaxPool", name, {x},
             {{"kernel_shape", pair(o.kernel)},
              {"strides", pair(o.stride)},
              {"pads", std::vector<std::int64_t>(4, o.padding)}});
}

std::string OnnxModel::avg_pool(const std::string& name, const std::string& x, const Shape& x_shape,
                                const kernels::AvgPoolOptions& o) {
  const auto same = [&](std::vector<std::int64_t> kernel, std::vector<std::int64_t> stride) {
    return add("AveragePool", name, {x},
               {{"kernel_shape", std::move(kernel)},
                {"strides", std::move(stride)},
                {"pads", std::vector<std::int64_t>(4, o.padding)},
                {"count_include_pad", std::int64_t{1}}});
  };
  if (o.output == 0) return same(pair(o.kernel), pair(o.stride));
  const Cover rows{x_shape[1], o.output}, columns{x_shape[2], o.output};
  if (rows.size % o.output == 0 && columns.size % o.output == 0) {
    const std::vector<std::int64_t> window{rows.size / o.output, columns.size / o.output};
    return same(window, window);
  }
  std::vector<float> above, beside, counts;
  for (std::int64_t i = 0; i < o.output; ++i)
    for (std::int64_t j = 0; j < rows.size; ++j) above.push_back(rows.sees(i, j) ? 1.0f : 0.0f);
  for (std::int64_t j = 0; j < columns.size; ++j)
    for (std::int64_t i = 0; i < o.output; ++i) beside.push_back(columns.sees(i, j) ? 1.0f : 0.0f);
  for (std::int64_t i = 0; i < o.output; ++i)
    for (std::int64_t j = 0; j < o.output; ++j)
      counts.push_back(
          static_cast<float>((rows.end(i) - rows.begin(i)) * (columns.end(j) - columns.begin(j))));
  const std::string of_rows =
      add("MatMul", name + "/rows", {floats(name + "/above", {o.output, rows.size}, above), x});
  const std::string sums =
      add("MatMul", name + "/sums", {of_rows, floats(name + "/beside", {columns.size, o.output}, beside)});
  return add("Div", name, {sums, floats(name + "/counts", {o.output, o.output}, counts)});
}

std::string OnnxModel::shortcut(const std::string& name, const std::string& x, const Shape& x_shape,
                                int stride, std::int64_t channels) {
  std::string taken = x;
  if (stride > 1) {
    const std::int64_t starts[] = {0, 0}, ends[] = {x_shape[1], x_shape[2]}, axes[] = {2, 3},
                       steps[] = {stride, stride};
    taken = add("Slice", name + "/subsampled",
                {x, indices(name + "/starts", starts), indices(name + "/ends", ends),
                 indices(name + "/axes", axes), indices(name + "/steps", steps)});
  }
  const std::int64_t added = channels - x_shape[3], before = added / 2;
  const std::int64_t pads[] = {0, before, 0, 0, 0, added - before, 0, 0};
  return add("Pad", name, {taken, indices(name + "/pads", pads)});
}

int OnnxModel::opset() const {
  const bool narrow = std::ranges::any_of(tensors, [](const OnnxTensor& tensor) {
    return tensor.type == OnnxType::u4 || tensor.type == OnnxType::s4;
  });
  return narrow ? 21 : 13;
}

std::string onnx_bytes(OnnxType type, std::span<const std::int8_t> values) {
  std::string bytes;
  if (type != OnnxType::u4 && type != OnnxType::s4) return bytes_of(values);
  for (std::size_t i = 0; i < values.size(); i += 2) {
    const int low = values[i] & 15, high = i + 1 < values.size() ? values[i + 1] & 15 : 0;
    bytes += static_cast<char>(low | high << 4);
  }
  return bytes;
}

std::map<std::string, std::string> onnx_metadata(const Preprocessing& preprocessing, const char* input) {
  return {{"preprocessing", json_text(describe(preprocessing))}, {"input", input}};
}

}  // namespace faq
