// What happens to an image between the decoder and the network, as torchvision does it on PIL images.
#pragma once

#include <string>

#include "core/rng.h"
#include "data/image.h"

namespace faq {

/// Bilinear with antialiasing (a triangle filter whose support grows with the reduction), in PIL's
/// fixed-point arithmetic: equal to PIL's Image.resize(BILINEAR) pixel by pixel (Pillow up to 12; from 13 on
/// it takes the vertical pass first for some shapes, which moves single pixels by one).
Image resize(const Image& image, int height, int width);
/// The part [top, top+height) × [left, left+width) resized; equal to crop followed by resize.
Image resized_crop(const Image& image, int top, int left, int crop_height, int crop_width, int height,
                   int width);
/// Resizes the shorter side to `size`, the longer in proportion (torchvision: int(size * longer / shorter)).
Image resize_shorter_side(const Image& image, int size);
/// The middle, padded with black when the image is smaller (torchvision's rounding of the offset).
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

/// torchvision's RandomResizedCrop: an area uniform in 0.08-1 of the image, a ratio log-uniform in 3/4-4/3,
/// ten tries, then the largest central box of an allowed ratio.
Box random_resized_crop_box(int height, int width, Random& random);

enum class Augmentation { none, cifar, imagenet };

/// How samples become network inputs of size `crop` × `crop`.
struct TransformOptions {
  Augmentation augmentation = Augmentation::none;  ///< training only; `none` means the evaluation transform
  int crop = 224;
  int resize = 256;  ///< evaluation: shorter side before the centre crop; 0 = no resizing
};

/// cifar: pad `crop/8` (4 at 32, 3 at 28) with black, random crop, flip with probability 1/2 (the image is
/// first resized when its size is not `crop`). imagenet: RandomResizedCrop (scale 0.08–1, ratio 3/4–4/3,
/// torchvision's ten tries and fallback), flip.
Image transform_for_training(const Image& image, const TransformOptions& options, Random& random);
/// Resize of the shorter side to options.resize, then the centre crop.
Image transform_for_evaluation(const Image& image, const TransformOptions& options);

}  // namespace faq
