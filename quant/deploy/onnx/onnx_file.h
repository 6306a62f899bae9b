// Files of ONNX, where the library was built with ONNX's schema and protobuf: onnx_file.cpp, or no_onnx.cpp.
#pragma once

#include <filesystem>

#include "quant/deploy/onnx_model.h"

namespace faq {

/// Throws usage, "this build has no ONNX: …", if the library was built without it (FAQ_ONNX). For who has
/// long work to do before write_onnx.
void check_onnx();

/// Writes a model, whole or not at all. Throws io; throws usage as check_onnx does, and for a model of more
/// than the 2 GB that protobuf holds.
void write_onnx(OnnxModel model, const std::filesystem::path& file);

}  // namespace faq
