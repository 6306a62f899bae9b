// The transforms of an image between decoder and network, as torchvision does them on PIL images.
#pragma once

#include <string>

#include "core/interpolation.h"
#include "core/rng.h"
#include "data/image.h"

namespace faq {

/// Resizes with antialiasing, in PIL's fixed-point arithmetic. The result equals PIL's Image.resize(BILINEAR)
/// or (BICUBIC) pixel by pixel (Pillow up to 12; Pillow 13 and later do the vertical pass first for some
/// shapes, which changes single pixels by one).
Image resize(const Image& image, int height, int width,
             Interpolation interpolation = Interpolation::bilinear);
/// Resizes the part [top, top+crop_height) × [left, left+crop_width). The same as crop followed by resize.
Image resized_crop(const Image& image, int top, int left, int crop_height, int crop_width, int height,
                   int width, Interpolation interpolation = Interpolation::bilinear);
/// Resizes the shorter side to `size` and the longer one in proportion, to int(size * longer / shorter) as
/// torchvision does.
Image resize_shorter_side(const Image& image, int size,
                          Interpolation interpolation = Interpolation::bilinear);
/// Returns the middle of the image, padded with black if the image is smaller. The offset is rounded as in
/// torchvision.
Image center_crop(const Image& image, int height, int width);
Image crop(const Image& image, int top, int left, int height, int width);
Image pad(const Image& image, int border);
Image flip_horizontally(const Image& image);

/// A rectangle of an image.
struct Box {
  int top = 0;
  int left = 0;
  int height = 0;
  int width = 0;
  bool operator==(const Box&) const = default;
};

/// Draws the box of torchvision's RandomResizedCrop. The area is uniform in 0.08-1 of the image, the ratio
/// log-uniform in 3/4-4/3. After ten tries it takes the largest central box with an allowed ratio.
Box random_resized_crop_box(int height, int width, Random& random);

enum class Augmentation { none, cifar, imagenet };

/// How images become network inputs of size `crop` × `crop`.
struct TransformOptions {
  Augmentation augmentation = Augmentation::none;  ///< in training only; `none`: the evaluation transform
  int crop = 224;
  int resize = 256;  ///< in evaluation: shorter side before the centre crop; 0: no resizing
  Interpolation interpolation = Interpolation::bilinear;  ///< wherever an image is resized
};

/// The transform in training, by options.augmentation:
/// - none: the evaluation transform.
/// - cifar: resize if the size is not `crop`, pad by `crop/8` (4 at 32, 3 at 28) with black, random crop,
///   flip with probability 1/2.
/// - imagenet: RandomResizedCrop (scale 0.08–1, ratio 3/4–4/3, torchvision's ten tries and fallback), flip
///   with probability 1/2.
Image transform_for_training(const Image& image, const TransformOptions& options, Random& random);
/// The transform in evaluation: resizes the shorter side to options.resize (not if it is 0), then takes the
/// centre crop.
Image transform_for_evaluation(const Image& image, const TransformOptions& options);

}  // namespace faq
