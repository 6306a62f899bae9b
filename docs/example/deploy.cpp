// An application that runs an integer network and needs nothing else of the library (faq::runtime): no tape,
// no models, no decoder. It reads raw pixels, which its caller has resized and cropped as the network's file
// says.
//
//   deploy NETWORK < PIXELS      height·width·channels bytes, row by row, the channels of a pixel together
#include <algorithm>
#include <cstdio>
#include <string>

#include <faq/quant/deploy/integer_network.h>

using namespace faq;

namespace {

void classify(const char* file) {
  const IntegerNetwork network = IntegerNetwork::load(file);
  const Preprocessing& expected = network.preprocessing();
  Tensor image = Tensor::empty({1, expected.height, expected.width, expected.channels}, DType::u8);
  const std::size_t read = std::fread(image.mutable_data<std::uint8_t>(), 1, image.bytes(), stdin);
  check(read == image.bytes(), ErrorKind::bad_data, "pixels: expected ", image.bytes(), " bytes (",
        expected.height, "×", expected.width, "×", expected.channels, "), found ", read);

  const Tensor logits = network.forward(image);
  const auto values = logits.span<float>();
  const auto best = static_cast<std::size_t>(std::ranges::max_element(values) - values.begin());
  const auto& names = expected.class_names;
  std::printf("%s %.6g\n", names.empty() ? std::to_string(best).c_str() : names[best].c_str(), values[best]);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: deploy NETWORK < PIXELS\n");
    return 64;
  }
  try {
    classify(argv[1]);
    return 0;
  } catch (const Error& error) {
    std::fprintf(stderr, "deploy: %s\n", error.what());
    return error.exit_code();
  }
}
