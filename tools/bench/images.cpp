// The way of a photograph of ImageNet's usual size into a batch. One image at a time has one thread; the
// loader has workers.
#include "data/decode.h"
#include "data/loader.h"
#include "data/transforms.h"
#include "tools/bench/bench.h"
#include "tools/bench/jpeg_writer.h"

namespace faq::bench {
namespace {

constexpr int height = 375;
constexpr int width = 500;

// Decodes the same file again and again.
class SameFile : public Dataset {
 public:
  SameFile(std::int64_t size, std::vector<std::byte> jpeg) : size_(size), jpeg_(std::move(jpeg)) {}

  std::int64_t size() const override { return size_; }
  Image image(std::int64_t) const override { return decode_image(jpeg_, channels(), "photograph"); }
  std::int32_t label(std::int64_t) const override { return 0; }
  std::string name(std::int64_t) const override { return "photograph"; }
  const std::vector<std::string>& class_names() const override { return class_names_; }
  int channels() const override { return 3; }

 private:
  std::int64_t size_;
  std::vector<std::byte> jpeg_;
  std::vector<std::string> class_names_{"photograph"};
};

void add_loader(int workers) {
  constexpr std::int64_t images = 64;
  add(concat("loader/500x375_to_224_", workers, "_workers"), {.items = images}, [=]() -> Kernel {
    const auto dataset = std::make_shared<SameFile>(images, jpeg_of(photograph(height, width)));
    const LoaderOptions options{.batch_size = 16,
                                .workers = workers,
                                .training = true,
                                .transform = {.augmentation = Augmentation::imagenet, .crop = 224}};
    return [dataset, loader = std::make_shared<Loader>(*dataset, options), epoch = 0]() mutable {
      loader->start_epoch(epoch++);
      while (loader->next()) {
      }
    };
  });
}

}  // namespace

void add_images() {
  const std::string decoder = jpeg_decoder_name();
  add("decode_jpeg/500x375_" + decoder, {.items = 1, .bytes = 3 * height * width}, [=]() -> Kernel {
    return [jpeg = jpeg_of(photograph(height, width))] { decode_image(jpeg, 3, "photograph"); };
  });
  const TransformOptions options{.augmentation = Augmentation::imagenet, .crop = 224, .resize = 256};
  add("transform/training_500x375_to_224", {.items = 1}, [=]() -> Kernel {
    return [=, image = photograph(height, width), sample = std::uint64_t{0}]() mutable {
      Random random(0, RandomStream::augmentation, 0, sample++);
      transform_for_training(image, options, random);
    };
  });
  add("transform/evaluation_500x375_to_224", {.items = 1}, [=]() -> Kernel {
    return [=, image = photograph(height, width)] { transform_for_evaluation(image, options); };
  });
  for (const int workers : {0, 1, 2}) add_loader(workers);
}

}  // namespace faq::bench
