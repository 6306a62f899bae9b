// The tensor that enters a network against torchvision's on the ImageNet photographs of the shared data, and
// the statistics of its random crops. fixtures/make_preprocessing.py says what is compared.
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "data/decode.h"
#include "data/transforms.h"
#include "tests/data_testing.h"

using namespace faq;
using namespace faq::testing;

namespace {

const nlohmann::json& expected() {
  static const nlohmann::json json =
      nlohmann::json::parse(file_bytes(fs::path(FAQ_TEST_FIXTURES) / "preprocessing.json"));
  return json;
}

std::uint32_t crc(const Image& image) {
  return static_cast<std::uint32_t>(::crc32(0, image.pixels.data(), static_cast<uInt>(image.pixels.size())));
}

}  // namespace

TEST_CASE("photographs enter the network as torchvision has them, bit for bit", "[data][preprocessing]") {
  const auto folder = real_data("imagenet-sample");
  if (!folder) return;
  if (std::string(jpeg_decoder_name()) != "libjpeg-turbo") {
    WARN("built without libjpeg-turbo: its pixels are not compared");
    return;
  }
  int compared = 0, decoded = 0, at_224 = 0, at_299 = 0;
  for (const auto& [name, crcs] : expected().at("images").items()) {
    const Image image = load_image(*folder / name, 3);
    decoded += crc(image) == crcs.at("decoded");
    at_224 += crc(transform_for_evaluation(image, {Augmentation::none, 224, 256})) == crcs.at("resized_224");
    at_299 += crc(transform_for_evaluation(image, {Augmentation::none, 299, 342})) == crcs.at("resized_299");
    ++compared;
  }
  CHECK(compared == 250);
  CHECK(decoded == 250);
  CHECK(at_224 == 250);
  CHECK(at_299 == 250);
}

TEST_CASE("random resized crops are distributed as torchvision's", "[preprocessing]") {
  constexpr int height = 375, width = 500, draws = 100'000;
  std::map<std::string, std::vector<double>> seen;
  for (int i = 0; i < draws; ++i) {
    Random random(1, RandomStream::augmentation, 0, static_cast<std::uint64_t>(i));
    const Box box = random_resized_crop_box(height, width, random);
    seen["area"].push_back(static_cast<double>(box.height) * box.width / (height * width));
    seen["log_ratio"].push_back(std::log(static_cast<double>(box.width) / box.height));
    seen["top"].push_back(static_cast<double>(box.top) / std::max(height - box.height, 1));
    seen["left"].push_back(static_cast<double>(box.left) / std::max(width - box.width, 1));
  }
  for (auto& [what, values] : seen) {
    std::ranges::sort(values);
    const auto& deciles = expected().at("crop_deciles").at(what);
    for (std::size_t d = 1; d <= 9; ++d) {
      INFO(what << ", decile " << d);
      // The share of our draws below torchvision's decile: both are drawn, so twice the variance.
      const double decile = deciles.at(d - 1);
      const auto below = std::ranges::lower_bound(values, decile) - values.begin();
      const auto not_above = std::ranges::upper_bound(values, decile) - values.begin();
      const double p = static_cast<double>(d) / 10, sigma = std::sqrt(2 * p * (1 - p) / draws);
      CHECK(static_cast<double>(below) / draws < p + 4 * sigma);
      CHECK(static_cast<double>(not_above) / draws > p - 4 * sigma);
    }
  }
}
