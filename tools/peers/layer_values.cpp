// What every op of an integer network makes of images: for tools/peers/onnx_runtimes.py.
//   faq_layer_values integer.safetensors IMAGES FOLDER
// IMAGES: pixels, u8 N,H,W,C. Prints a JSON list of the ops; the values of op i are in FOLDER/i.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "quant/deploy/integer_network.h"

namespace {

using namespace faq;

Tensor read_images(const IntegerNetwork& network, const char* file) {
  std::ifstream stream(file, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(stream), {}};
  const std::int64_t pixels = network.height() * network.width() * network.channels();
  const auto found = static_cast<std::int64_t>(bytes.size());
  check(found > 0 && found % pixels == 0, ErrorKind::bad_data, file, ": ", found, " bytes, images have ",
        pixels);
  Tensor images =
      Tensor::empty({found / pixels, network.height(), network.width(), network.channels()}, DType::u8);
  std::ranges::copy(bytes, static_cast<char*>(images.mutable_raw()));
  return images;
}

void dump(const char* network_file, const char* image_file, const std::filesystem::path& folder) {
  const IntegerNetwork network = IntegerNetwork::load(network_file);
  const std::vector<Tensor> values = network.forward_all(read_images(network, image_file));
  nlohmann::json ops = nlohmann::json::array();
  for (std::size_t i = 0; i < values.size(); ++i) {
    const IntegerOp& op = *network.nodes()[i].op;
    std::vector<std::int64_t> shape;
    for (int axis = 0; axis < values[i].rank(); ++axis) shape.push_back(values[i].dim(axis));
    ops.push_back(
        {{"name", op.name}, {"kind", op.kind()}, {"dtype", concat(values[i].dtype())}, {"shape", shape}});
    std::ofstream out(folder / std::to_string(i), std::ios::binary);
    out.write(static_cast<const char*>(values[i].raw()), info_of(values[i]).bytes());
    check(out.flush().good(), ErrorKind::io, folder, ": cannot be written");
  }
  std::cout << ops.dump() << '\n';
}

}  // namespace

int main(int argc, char** argv) {
  try {
    check(argc == 4, ErrorKind::usage, "usage: faq_layer_values integer.safetensors IMAGES FOLDER");
    dump(argv[1], argv[2], argv[3]);
  } catch (const Error& error) {
    std::cerr << error.what() << '\n';
    return error.exit_code();
  }
}
