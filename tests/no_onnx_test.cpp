// A build without ONNX says so, before it reads anything.
#include "quant/deploy/onnx/onnx_file.h"
#include "tests/testing.h"

using namespace faq;
using namespace faq::testing;

TEST_CASE("a build without ONNX writes none and says what is missing", "[onnx]") {
  const TemporaryFolder folder;
  const std::string file = (folder / "a.onnx").string();
  check_error(ErrorKind::usage, "this build has no ONNX", [&] { write_onnx({}, file); });
  for (const char* target : {"--onnx", "--float-onnx"}) {
    const Outcome refused = run_program(FAQ_EXPORT, {"missing.safetensors", target, file});
    CHECK(refused.code == 64);
    CHECK(refused.err.find("this build has no ONNX: configure it with FAQ_ONNX=ON") != std::string::npos);
  }
  CHECK_FALSE(fs::exists(file));
}
