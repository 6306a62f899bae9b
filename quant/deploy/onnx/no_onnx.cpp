// No ONNX: the library was built without it.
#include "quant/deploy/onnx/onnx_file.h"

namespace faq {

void check_onnx() {
  fail(ErrorKind::usage,
       "this build has no ONNX: configure it with FAQ_ONNX=ON (Debian: libonnx-dev libprotobuf-dev "
       "protobuf-compiler)");
}

void write_onnx(OnnxModel, const std::filesystem::path&) { check_onnx(); }

}  // namespace faq
