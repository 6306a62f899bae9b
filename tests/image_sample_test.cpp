#include "train/image_sample.h"

#include "tests/data_testing.h"

using namespace faq;
using namespace faq::testing;

namespace {

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("what is done to images is said", "[setup]") {
  struct Row {
    ImageSample sample;
    Augmentation augment;
    int crop, resize;
    const char* text;
  };
  const ImageSample same{.images = 4,
                         .checksum = 0,
                         .smallest_height = 32,
                         .smallest_width = 32,
                         .largest_height = 32,
                         .largest_width = 32};
  ImageSample mixed = same;
  mixed.smallest_height = mixed.smallest_width = 28;
  mixed.largest_height = 200;
  mixed.largest_width = 300;
  const Row rows[] = {
      {same, Augmentation::cifar, 32, 32,
       "images: 32×32; training: padded by 4, a random crop of 32×32, flipped at random; evaluation: the "
       "middle "
       "32×32"},
      {mixed, Augmentation::cifar, 32, 32,
       "images: 28×28 to 300×200; training: resized to 32×32, padded by 4, a random crop of 32×32, flipped "
       "at "
       "random; evaluation: shorter side resized to 32 (smaller images are enlarged), the middle 32×32"},
      {mixed, Augmentation::imagenet, 224, 256,
       "images: 28×28 to 300×200; training: a random part resized to 224×224, flipped at random; evaluation: "
       "shorter side resized to 256 (smaller images are enlarged), the middle 224×224"},
      {mixed, Augmentation::none, 32, 0,
       "images: 28×28 to 300×200; training: as in evaluation; evaluation: the middle 32×32, smaller ones "
       "padded "
       "with black"},
      {{},
       Augmentation::none,
       32,
       32,
       "images: training: as in evaluation; evaluation: shorter side resized to 32"},
  };
  for (const Row& row : rows) {
    DataChoice options;
    options.augment = row.augment;
    options.train_crop_size = options.val_crop_size = row.crop;
    options.val_resize_size = row.resize;
    CHECK(has(text_of_preprocessing(row.sample, options, true), row.text));
  }
  const std::string text = text_of_preprocessing(same, {}, false);
  CHECK_FALSE(has(text, "training"));
}
