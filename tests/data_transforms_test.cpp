#include "data/transforms.h"

#include <algorithm>
#include <cmath>

#include "data/decode.h"
#include "tests/data_testing.h"

using namespace faq;
using namespace faq::testing;

namespace {

/// Values that tell positions apart.
Image numbered(int height, int width, int channels = 1) {
  Image image{height, width, channels, {}};
  for (int i = 0; i < height * width * channels; ++i)
    image.pixels.push_back(static_cast<std::uint8_t>(i % 251 + 1));
  return image;
}

Image source() { return read_pnm(fixture("resize-source.ppm")); }

/// Grey as Pillow converts, through the decoder's own path.
Image grey_source() {
  const Image rgb = source();
  Image grey{rgb.height, rgb.width, 1, {}};
  for (std::size_t i = 0; i < rgb.pixels.size(); i += 3)
    grey.pixels.push_back(static_cast<std::uint8_t>(
        (rgb.pixels[i] * 19595u + rgb.pixels[i + 1] * 38470u + rgb.pixels[i + 2] * 7471u + 0x8000u) >> 16));
  return grey;
}

}  // namespace

TEST_CASE("resize equals Pillow") {
  const int sizes[][2] = {{13, 17}, {37, 20}, {20, 45}, {43, 51}, {7, 60}, {1, 1}};
  for (const auto& [height, width] : sizes) {
    CAPTURE(height, width);
    const std::string name = concat("resize-", height, "x", width);
    check_equal(resize(source(), height, width), read_pnm(fixture(name + ".ppm")));
    if (fs::exists(fixture(name + ".pgm")))
      check_equal(resize(grey_source(), height, width), read_pnm(fixture(name + ".pgm")));
    check_equal(resize(source(), height, width, Interpolation::bicubic),
                read_pnm(fixture(concat("bicubic-", height, "x", width, ".ppm"))));
  }
  check_equal(resize(source(), source().height, source().width), source());
}

TEST_CASE("resized_crop equals Pillow") {
  const Image expected = read_pnm(fixture("resized-crop.ppm"));
  check_equal(resized_crop(source(), 3, 5, 22, 31, 16, 16), expected);
  check_equal(resize(crop(source(), 3, 5, 22, 31), 16, 16), expected);
}

TEST_CASE("transform_for_evaluation") {
  check_equal(transform_for_evaluation(source(), {Augmentation::none, 20, 24}),
              read_pnm(fixture("evaluation.ppm")));
  check_equal(transform_for_evaluation(source(), {Augmentation::none, 20, 0}), center_crop(source(), 20, 20));

  // Computing only what is kept changes nothing, whatever the shape.
  const int sizes[][2] = {{37, 45}, {45, 37}, {5, 40}, {40, 5}, {64, 64}, {1, 9}};
  for (const auto& [height, width] : sizes)
    for (const auto& [to, crop_size] :
         {std::pair(24, 20), std::pair(21, 20), std::pair(20, 20), std::pair(10, 20)}) {
      CAPTURE(height, width, to, crop_size);
      const Image image = numbered(height, width, 3);
      for (const Interpolation how : {Interpolation::bilinear, Interpolation::bicubic})
        check_equal(transform_for_evaluation(image, {Augmentation::none, crop_size, to, how}),
                    center_crop(resize_shorter_side(image, to, how), crop_size, crop_size));
    }
}

TEST_CASE("resize_shorter_side") {
  const struct {
    int height, width, size, to_height, to_width;
  } cases[] = {{100, 200, 50, 50, 100},   {200, 100, 50, 100, 50}, {375, 500, 256, 256, 341},
               {500, 375, 256, 341, 256}, {7, 7, 3, 3, 3},         {3, 10, 7, 7, 23}};
  for (const auto& c : cases) {
    const Image image = resize_shorter_side(numbered(c.height, c.width), c.size);
    CHECK(image.height == c.to_height);
    CHECK(image.width == c.to_width);
  }
  // An absurd shape is refused as a whole, but the crop in its middle is cheap.
  const Image thread = numbered(1, 1'000'000);
  check_error(ErrorKind::bad_data, "more than 100000000 pixels", [&] { resize_shorter_side(thread, 256); });
  CHECK(transform_for_evaluation(thread, {Augmentation::none, 224, 256}).pixels.size() == 224 * 224);
}

TEST_CASE("center_crop rounds as torchvision does") {
  // Along one side: the first pixel kept (round half to even), or how much black comes before it (the smaller
  // half).
  const struct {
    int length, crop, first, black;
  } cases[] = {{10, 4, 3, 0}, {9, 4, 2, 0}, {11, 4, 4, 0}, {7, 4, 2, 0}, {5, 4, 0, 0},
               {4, 4, 0, 0},  {3, 4, 0, 0}, {2, 5, 0, 1},  {1, 4, 0, 1}, {13, 6, 4, 0}};
  for (const auto& c : cases) {
    CAPTURE(c.length, c.crop);
    const Image wide = center_crop(numbered(1, c.length), 1, c.crop);
    const Image tall = center_crop(numbered(c.length, 1), c.crop, 1);
    CHECK(wide.pixels == tall.pixels);
    for (int i = 0; i < c.crop; ++i) {
      const int position = c.first + i - c.black;
      const bool inside = i >= c.black && position < c.length;
      CHECK(int{wide.pixels[static_cast<std::size_t>(i)]} == (inside ? position + 1 : 0));
    }
  }
}

TEST_CASE("crop, pad and flip") {
  using Pixels = std::vector<std::uint8_t>;
  const Image image{2, 3, 1, {1, 2, 3, 4, 5, 6}};
  CHECK(crop(image, 1, 1, 1, 2).pixels == Pixels{5, 6});
  CHECK(pad(image, 1).pixels == Pixels{0, 0, 0, 0, 0, 0, 1, 2, 3, 0, 0, 4, 5, 6, 0, 0, 0, 0, 0, 0});
  CHECK(flip_horizontally(image).pixels == Pixels{3, 2, 1, 6, 5, 4});
  CHECK(flip_horizontally({1, 2, 3, {1, 2, 3, 4, 5, 6}}).pixels == Pixels{4, 5, 6, 1, 2, 3});
  for (const Box box :
       {Box{-1, 0, 1, 1}, {0, -1, 1, 1}, {0, 0, 3, 1}, {0, 0, 1, 4}, {1, 0, 2, 1}, {0, 0, 0, 1}})
    check_error(ErrorKind::internal,
                "crop: ", [&] { crop(image, box.top, box.left, box.height, box.width); });
  check_error(ErrorKind::internal, "resize: ", [&] { resize(image, 0, 5); });
  check_error(ErrorKind::internal, "resize: ", [&] { resized_crop(image, 0, 0, 3, 3, 5, 5); });
}

TEST_CASE("cifar augmentation is a crop of the padded image, flipped or not") {
  for (const int size : {32, 28}) {
    const Image image = numbered(size, size, 3);
    const int border = size / 8;
    const Image padded = pad(image, border);
    std::vector<int> seen(static_cast<std::size_t>((2 * border + 1) * (2 * border + 1) * 2));
    constexpr int draws = 2000;
    for (int draw = 0; draw < draws; ++draw) {
      Random random(1, RandomStream::test, 0, static_cast<std::uint64_t>(draw));
      const Image out = transform_for_training(image, {Augmentation::cifar, size, 0}, random);
      std::size_t found = seen.size();
      for (int top = 0; top <= 2 * border && found == seen.size(); ++top)
        for (int left = 0; left <= 2 * border && found == seen.size(); ++left) {
          const auto place = static_cast<std::size_t>(top * (2 * border + 1) + left) * 2;
          const Image candidate = crop(padded, top, left, size, size);
          if (candidate.pixels == out.pixels) found = place;
          if (flip_horizontally(candidate).pixels == out.pixels) found = place + 1;
        }
      REQUIRE(found < seen.size());
      ++seen[found];
    }
    // Every place about equally often (12.3 or 20.4 times), flipped half of the time.
    CHECK(std::ranges::count(seen, 0) <= 1);
    CHECK(*std::ranges::max_element(seen) < 45);
    int flipped = 0;
    for (std::size_t i = 1; i < seen.size(); i += 2) flipped += seen[i];
    CHECK(std::abs(flipped - draws / 2) < 100);
  }
  Random random(1, RandomStream::test);
  CHECK(transform_for_training(numbered(50, 40, 3), {Augmentation::cifar, 32, 0}, random).height == 32);
}

TEST_CASE("random_resized_crop_box") {
  // Mean area and mean log ratio: from 200,000 draws of torchvision's formulas with another generator.
  struct Case {
    int height, width;
    double mean_area, mean_log_ratio;
  };
  for (const auto& [height, width, mean_area, mean_log_ratio] :
       {Case{375, 500, 0.432, 0.030}, {500, 375, 0.432, -0.030}, {224, 224, 0.481, 0}, {32, 32, 0.491, 0}}) {
    CAPTURE(height, width);
    double area = 0, log_ratio = 0, top = 0, left = 0;
    constexpr int draws = 4000;
    for (int draw = 0; draw < draws; ++draw) {
      Random random(2, RandomStream::test, 0, static_cast<std::uint64_t>(draw));
      const Box box = random_resized_crop_box(height, width, random);
      const bool inside = box.top >= 0 && box.left >= 0 && box.height > 0 && box.width > 0 &&
                          box.top + box.height <= height && box.left + box.width <= width;
      if (!inside) FAIL("not inside");
      const double fraction =
          static_cast<double>(box.height) * box.width / (static_cast<double>(height) * width);
      const double ratio = static_cast<double>(box.width) / box.height;
      if (fraction < 0.06 || ratio < 0.68 || ratio > 1.47)
        FAIL("fraction " << fraction << ", ratio " << ratio);
      area += fraction / draws;
      log_ratio += std::log(ratio) / draws;
      if (box.height < height) top += (static_cast<double>(box.top) / (height - box.height) - 0.5) / draws;
      if (box.width < width) left += (static_cast<double>(box.left) / (width - box.width) - 0.5) / draws;
    }
    CHECK(std::abs(area - mean_area) < 0.015);
    CHECK(std::abs(log_ratio - mean_log_ratio) < 0.01);
    CHECK(std::abs(top) < 0.03);
    CHECK(std::abs(left) < 0.03);
  }
}

TEST_CASE("random_resized_crop_box falls back to the centre") {
  const struct {
    int height, width;
    Box box;
  } cases[] = {{1000, 10, {493, 0, 13, 10}}, {10, 1000, {0, 493, 10, 13}}, {1, 100000, {0, 49999, 1, 1}}};
  for (const auto& c : cases) {
    Random random(3, RandomStream::test);
    CHECK(random_resized_crop_box(c.height, c.width, random) == c.box);
  }
}

TEST_CASE("imagenet augmentation") {
  const Image image = source();
  for (std::uint64_t sample = 0; sample < 50; ++sample) {
    Random one(4, RandomStream::test, 0, sample), same(4, RandomStream::test, 0, sample);
    const Image out = transform_for_training(image, {Augmentation::imagenet, 16, 0}, one);
    const Box box = random_resized_crop_box(image.height, image.width, same);
    Image expected = resized_crop(image, box.top, box.left, box.height, box.width, 16, 16);
    if (same.uniform() < 0.5) expected = flip_horizontally(expected);
    check_equal(out, expected);
  }
}
