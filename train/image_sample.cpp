#include "train/image_sample.h"

#include <zlib.h>

#include <algorithm>

#include "core/error.h"
#include "data/decode.h"

namespace faq {
namespace {

std::string size(int height, int width) { return concat(width, "×", height); }

// Nothing is said of what most networks have.
std::string resized_to(const DataChoice& o) {
  return o.interpolation == Interpolation::bicubic ? "resized (bicubic) to " : "resized to ";
}

std::string of_training(const ImageSample& sample, const DataChoice& o) {
  const int crop = o.train_crop_size;
  switch (o.augment.value_or(Augmentation::none)) {
    case Augmentation::imagenet:
      return concat("a random part ", resized_to(o), size(crop, crop), ", flipped at random");
    case Augmentation::cifar: {
      const bool as_they_are = sample.smallest_height == crop && sample.smallest_width == crop &&
                               sample.largest_height == crop && sample.largest_width == crop;
      return concat(as_they_are ? "" : concat(resized_to(o), size(crop, crop), ", "), "padded by ", crop / 8,
                    ", a random crop of ", size(crop, crop), ", flipped at random");
    }
    case Augmentation::none:
      break;
  }
  return "as in evaluation";
}

std::string of_evaluation(const ImageSample& sample, const DataChoice& o) {
  const int resize = o.val_resize_size, crop = o.val_crop_size;
  const int smallest = std::min(sample.smallest_height, sample.smallest_width);
  const std::string cropped = concat("the middle ", size(crop, crop));
  if (resize <= 0) return cropped + (smallest < crop ? ", smaller ones padded with black" : "");
  const bool as_they_are =
      smallest == resize && std::min(sample.largest_height, sample.largest_width) == resize;
  if (as_they_are) return cropped;
  return concat("shorter side ", resized_to(o), resize,
                smallest < resize ? " (smaller images are enlarged)" : "", ", ", cropped);
}

/// Looks at `image_at(i)` of all i below `images`.
template <class ImageAt>
ImageSample look_at(std::int64_t images, const ImageAt& image_at) {
  ImageSample sample;
  for (std::int64_t i = 0; i < images; ++i) {
    Image image;
    try {
      image = image_at(i);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::bad_data && error.kind() != ErrorKind::missing_input) throw;
      sample.checksums.emplace_back();
      continue;
    }
    sample.checksums.emplace_back(static_cast<std::uint32_t>(
        ::crc32_z(::crc32(0, nullptr, 0), image.pixels.data(), image.pixels.size())));
    const int side = std::min(image.height, image.width);
    if (sample.images == 0 || side < std::min(sample.smallest_height, sample.smallest_width))
      sample.smallest_height = image.height, sample.smallest_width = image.width;
    if (sample.images == 0 || side > std::min(sample.largest_height, sample.largest_width))
      sample.largest_height = image.height, sample.largest_width = image.width;
    ++sample.images;
  }
  return sample;
}

}  // namespace

ImageSample sample_of(const Dataset& dataset) {
  const std::int64_t images = std::min(dataset.size(), images_in_sample);
  return look_at(images, [&](std::int64_t i) { return dataset.image(i * dataset.size() / images); });
}

ImageSample sample_of(const std::vector<std::string>& files, int channels) {
  const std::int64_t images = std::min<std::int64_t>(std::ssize(files), images_in_sample);
  return look_at(images,
                 [&](std::int64_t i) { return load_image(files[static_cast<std::size_t>(i)], channels); });
}

std::string text_of_preprocessing(const ImageSample& sample, const DataChoice& options, Split split) {
  std::string text = "images: ";
  if (sample.images > 0) {
    text += size(sample.smallest_height, sample.smallest_width);
    if (sample.smallest_height != sample.largest_height || sample.smallest_width != sample.largest_width)
      text += concat(" to ", size(sample.largest_height, sample.largest_width));
    text += "; ";
  }
  if (split == Split::train) text += concat("training: ", of_training(sample, options), "; ");
  return text + "evaluation: " + of_evaluation(sample, options);
}

}  // namespace faq
