// An ONNX model as a value: what exporters make and quant/deploy/onnx/onnx_file.h writes.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/kernels/conv_geometry.h"
#include "core/kernels/pool.h"
#include "quant/deploy/preprocessing.h"

namespace faq {

/// The numbers of TensorProto.DataType. In a file the type is a plain number, so an onnx.proto without the
/// names of the last two (ONNX before 1.16) does as well.
enum class OnnxType { f32 = 1, u8 = 2, s8 = 3, s32 = 6, s64 = 7, u4 = 21, s4 = 22 };

/// A constant. `bytes`: its elements, little-endian, the last axis fastest; of 4 bits, two to a byte, the
/// first in the low half.
struct OnnxTensor {
  std::string name;
  OnnxType type = OnnxType::f32;
  std::vector<std::int64_t> shape;  ///< empty: a scalar
  std::string bytes;
};

using OnnxAttribute = std::variant<std::int64_t, std::vector<std::int64_t>, float>;
using OnnxAttributes = std::map<std::string, OnnxAttribute>;

/// An operator. Its only output has its name.
struct OnnxNode {
  std::string kind;  ///< "Conv"
  std::string name;
  std::vector<std::string> inputs;  ///< names of nodes, of tensors or of the model's input
  OnnxAttributes attributes;
};

/// An input or output of the model, of any number of images. `shape`: of one image.
struct OnnxValue {
  std::string name;
  OnnxType type = OnnxType::f32;
  std::vector<std::int64_t> shape;
};

/// A model of one input and one output. The functions add to it and return the name of what they added. All
/// throw usage, with the name, when something of this name is there already.
struct OnnxModel {
  OnnxValue input, output;
  std::vector<OnnxNode> nodes;  ///< each after those that it reads
  std::vector<OnnxTensor> tensors;
  std::map<std::string, std::string> metadata;

  std::string add(const char* kind, const std::string& name, std::vector<std::string> inputs,
                  OnnxAttributes attributes = {});
  std::string add(OnnxTensor tensor);
  std::string scalar(const std::string& name, float value);
  std::string floats(const std::string& name, std::vector<std::int64_t> shape, std::span<const float> values);
  std::string indices(const std::string& name, std::span<const std::int64_t> values);  ///< s64, one axis

  /// What every model of images has. Images are N,C,H,W in ONNX; `x_shape` is N,H,W,C as everywhere here.
  std::string conv(const std::string& name, std::vector<std::string> inputs, const ConvGeometry& geometry);
  std::string max_pool(const std::string& name, const std::string& x, const kernels::MaxPoolOptions& options);
  /// Windows that differ in size are two products with matrices of zeros and ones, and a division.
  std::string avg_pool(const std::string& name, const std::string& x, const Shape& x_shape,
                       const kernels::AvgPoolOptions& options);
  std::string shortcut(const std::string& name, const std::string& x, const Shape& x_shape, int stride,
                       std::int64_t channels);

  /// 21 if a tensor has 4 bits, else 13.
  int opset() const;

 private:
  void take(const std::string& name);

  std::map<std::string, bool> taken_;
};

/// The bytes of integers of a type; of 4 bits, two to a byte.
std::string onnx_bytes(OnnxType type, std::span<const std::int8_t> values);

/// The entries of the metadata that say how an image becomes the input: "preprocessing", the JSON that
/// integer.safetensors has under this name, and "input", a sentence.
std::map<std::string, std::string> onnx_metadata(const Preprocessing& preprocessing, const char* input);

}  // namespace faq
