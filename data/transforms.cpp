#include "data/transforms.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "core/error.h"
#include "data/resample.h"

namespace faq {
namespace {

std::uint8_t* at(Image& image, int y, int x) {
  return image.pixels.data() +
         (static_cast<std::size_t>(y) * static_cast<std::size_t>(image.width) + static_cast<std::size_t>(x)) *
             static_cast<std::size_t>(image.channels);
}
const std::uint8_t* at(const Image& image, int y, int x) { return at(const_cast<Image&>(image), y, x); }

Image black(int height, int width, int channels) {
  Image image{height, width, channels, {}};
  image.pixels.resize(static_cast<std::size_t>(height) * static_cast<std::size_t>(width) *
                      static_cast<std::size_t>(channels));
  return image;
}

template <int channels>
void reverse_row(std::uint8_t* row, int width) {
  for (int l = 0, r = width - 1; l < r; ++l, --r)
    for (int c = 0; c < channels; ++c) std::swap(row[l * channels + c], row[r * channels + c]);
}

void flip_in_place(Image& image) {
  for (int y = 0; y < image.height; ++y) {
    if (image.channels == 3)
      reverse_row<3>(at(image, y, 0), image.width);
    else
      reverse_row<1>(at(image, y, 0), image.width);
  }
}

/// Returns the box of an image. Outside the image everything is black.
Image crop_or_pad(const Image& image, const Box& box) {
  Image out = black(box.height, box.width, image.channels);
  const int top = std::max(box.top, 0), bottom = std::min(box.top + box.height, image.height);
  const int left = std::max(box.left, 0), right = std::min(box.left + box.width, image.width);
  if (left >= right) return out;
  const std::size_t bytes = static_cast<std::size_t>(right - left) * static_cast<std::size_t>(image.channels);
  for (int y = top; y < bottom; ++y)
    std::memcpy(at(out, y - box.top, left - box.left), at(image, y, left), bytes);
  return out;
}

/// Returns where torchvision's CenterCrop begins along one side. Black is split with the larger half at the
/// end. The offset is rounded half to even, as Python rounds.
int center_offset(int length, int crop) {
  const int space = length - crop;
  if (space < 0) return -(-space / 2);
  return space / 2 + (space % 2 != 0 && space / 2 % 2 != 0 ? 1 : 0);
}

Box center_box(int height, int width, int crop_height, int crop_width) {
  return {center_offset(height, crop_height), center_offset(width, crop_width), crop_height, crop_width};
}

std::pair<int, int> shorter_side_extent(const Image& image, int size) {
  check(image.height > 0 && image.width > 0 && size > 0, "resize: ", image.height, " x ", image.width, " to ",
        size);
  const bool tall = image.width <= image.height;
  const int shorter = std::min(image.height, image.width), longer = std::max(image.height, image.width);
  const std::int64_t scaled = std::int64_t{size} * longer / shorter;
  check(scaled <= std::numeric_limits<int>::max(), ErrorKind::bad_data, "resize: ", image.height, " x ",
        image.width, " is too elongated to be resized to ", size);
  const int other = static_cast<int>(scaled);
  return tall ? std::pair(other, size) : std::pair(size, other);
}

Image random_crop_and_flip(const Image& image, int border, Random& random) {
  const int top = static_cast<int>(random.below(static_cast<std::uint32_t>(2 * border + 1))) - border;
  const int left = static_cast<int>(random.below(static_cast<std::uint32_t>(2 * border + 1))) - border;
  Image out = crop_or_pad(image, {top, left, image.height, image.width});
  if (random.uniform() < 0.5) flip_in_place(out);
  return out;
}

}  // namespace

Image resize(const Image& image, int height, int width, Interpolation interpolation) {
  return resized_crop(image, 0, 0, image.height, image.width, height, width, interpolation);
}

Image resized_crop(const Image& image, int top, int left, int crop_height, int crop_width, int height,
                   int width, Interpolation interpolation) {
  return resample(image, {top, left, crop_height, crop_width}, height, width, {0, 0, height, width},
                  interpolation);
}

Image resize_shorter_side(const Image& image, int size, Interpolation interpolation) {
  const auto [height, width] = shorter_side_extent(image, size);
  return resize(image, height, width, interpolation);
}

Image center_crop(const Image& image, int height, int width) {
  check(height > 0 && width > 0, "center_crop: expected a positive size, got ", height, " x ", width);
  return crop_or_pad(image, center_box(image.height, image.width, height, width));
}

Image crop(const Image& image, int top, int left, int height, int width) {
  check(top >= 0 && left >= 0 && height > 0 && width > 0 && height <= image.height - top &&
            width <= image.width - left,
        "crop: ", height, " x ", width, " at ", top, ", ", left, " is not a part of ", image.height, " x ",
        image.width);
  return crop_or_pad(image, {top, left, height, width});
}

Image pad(const Image& image, int border) {
  check(border >= 0, "pad: expected a border of 0 or more, got ", border);
  return crop_or_pad(image, {-border, -border, image.height + 2 * border, image.width + 2 * border});
}

Image flip_horizontally(const Image& image) {
  Image out = image;
  flip_in_place(out);
  return out;
}

// Formulas: torchvision, transforms.RandomResizedCrop.get_params.
Box random_resized_crop_box(int height, int width, Random& random) {
  constexpr double min_scale = 0.08, max_scale = 1.0, min_ratio = 3.0 / 4.0, max_ratio = 4.0 / 3.0;
  const double area = static_cast<double>(height) * width;
  for (int attempt = 0; attempt < 10; ++attempt) {
    const double target = area * random.uniform(min_scale, max_scale);
    const double ratio = std::exp(random.uniform(std::log(min_ratio), std::log(max_ratio)));
    const double w = std::nearbyint(std::sqrt(target * ratio)), h = std::nearbyint(std::sqrt(target / ratio));
    if (w < 1 || w > width || h < 1 || h > height) continue;
    const int crop_width = static_cast<int>(w), crop_height = static_cast<int>(h);
    const auto top = random.below(static_cast<std::uint32_t>(height - crop_height + 1));
    const auto left = random.below(static_cast<std::uint32_t>(width - crop_width + 1));
    return {static_cast<int>(top), static_cast<int>(left), crop_height, crop_width};
  }
  int crop_height = height, crop_width = width;
  const double ratio = static_cast<double>(width) / height;
  if (ratio < min_ratio) crop_height = static_cast<int>(std::nearbyint(width / min_ratio));
  if (ratio > max_ratio) crop_width = static_cast<int>(std::nearbyint(height * max_ratio));
  return {(height - crop_height) / 2, (width - crop_width) / 2, crop_height, crop_width};
}

Image transform_for_training(const Image& image, const TransformOptions& options, Random& random) {
  const int size = options.crop;
  switch (options.augmentation) {
    case Augmentation::none:
      return transform_for_evaluation(image, options);
    case Augmentation::cifar:
      if (image.height == size && image.width == size) return random_crop_and_flip(image, size / 8, random);
      return random_crop_and_flip(resize(image, size, size, options.interpolation), size / 8, random);
    case Augmentation::imagenet: {
      const Box box = random_resized_crop_box(image.height, image.width, random);
      Image out =
          resized_crop(image, box.top, box.left, box.height, box.width, size, size, options.interpolation);
      if (random.uniform() < 0.5) flip_in_place(out);
      return out;
    }
  }
  fail(ErrorKind::internal, "transform: unknown augmentation ", static_cast<int>(options.augmentation));
}

Image transform_for_evaluation(const Image& image, const TransformOptions& options) {
  const int size = options.crop;
  if (options.resize == 0) return center_crop(image, size, size);
  const auto [height, width] = shorter_side_extent(image, options.resize);
  if (height == image.height && width == image.width) return center_crop(image, size, size);
  const Box box = center_box(height, width, size, size);
  if (options.resize < size)
    return center_crop(resize(image, height, width, options.interpolation), size, size);
  // Computes only the part that is kept.
  return resample(image, {0, 0, image.height, image.width}, height, width, box, options.interpolation);
}

}  // namespace faq
