#include "train/setup.h"
#include "train/option_table.h"

#include "tests/testing.h"
#include "train/run_record.h"

using namespace faq;
using namespace faq::testing;

TEST_CASE("images enter a network as it was trained, unless told otherwise", "[setup]") {
  struct Row {
    const char* what;
    TrainOptions options;
    const char* augment;
    int train_crop, val_resize, val_crop;
    bool asks_for_size = false;
  };
  const auto with = [](const char* model, int train_crop, int val_crop, int val_resize) {
    TrainOptions o;
    o.model = model;
    o.train_crop_size = train_crop;
    o.val_crop_size = val_crop;
    o.val_resize_size = val_resize;
    return o;
  };
  TrainOptions plain = with("resnet18", 0, 0, -1);
  plain.augment = Augmentation::none;
  const Row rows[] = {
      {"torchvision's classifiers", with("resnet18", 0, 0, -1), "imagenet", 224, 256, 224},
      {"Inception", with("inception_v3", 0, 0, -1), "imagenet", 299, 342, 299},
      {"AlexNet", with("alexnet", 0, 0, -1), "imagenet", 224, 256, 224},
      {"smaller training images", with("resnet50", 112, 0, -1), "imagenet", 112, 128, 112},
      {"larger evaluation images", with("resnet50", 0, 288, -1), "imagenet", 224, 329, 288},
      {"no resizing", with("resnet50", 0, 0, 0), "imagenet", 224, 0, 224},
      {"no augmentation", plain, "none", 224, 256, 224},
      {"CIFAR", with("resnet20", 0, 0, -1), "cifar", 28, 28, 28, true},
      {"CIFAR in another size", with("resnet20", 24, 0, -1), "cifar", 24, 24, 24},
      {"CIFAR, larger evaluation images", with("resnet20", 24, 32, -1), "cifar", 24, 32, 32},
      {"CIFAR, cropped as it is", with("resnet20", 24, 0, 0), "cifar", 24, 0, 24},
      {"CIFAR, everything given", with("resnet110", 24, 20, 22), "cifar", 24, 22, 20},
  };
  for (const Row& row : rows) {
    INFO(row.what);
    TrainOptions options = row.options;
    int asked = 0;
    choose_preprocessing(options, [&] { return ++asked, 28; });
    CHECK(to_json(options)["augment"] == row.augment);
    CHECK(options.train_crop_size == row.train_crop);
    CHECK(options.val_resize_size == row.val_resize);
    CHECK(options.val_crop_size == row.val_crop);
    CHECK(asked == (row.asks_for_size ? 1 : 0));
  }
}

TEST_CASE("the size of images is that of the first that can be decoded", "[setup]") {
  const TemporaryFolder folder;
  write_data_set(folder.path(), 6, 6);
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder / "val"))
    if (entry.is_regular_file()) files.push_back(entry.path());
  std::ranges::sort(files);
  const auto crop_with = [&](int skip_bad) {
    TrainOptions options;
    options.data_path = folder.path().string();
    options.skip_bad = skip_bad;
    return open_data(options).crop;
  };
  const int side = crop_with(0);
  CHECK(side > 1);
  write_file(files[0], "no image");
  write_file(files[1], file_bytes(files[1]).substr(0, 40));
  CHECK(crop_with(2) == side);
  check_error(ErrorKind::bad_data, files[1].filename().string(), [&] { crop_with(1); });
  check_error(ErrorKind::bad_data, files[0].filename().string(), [&] { crop_with(0); });
  for (const fs::path& file : files) write_file(file, "no image");
  check_error(ErrorKind::bad_data, files.back().filename().string(), [&] { crop_with(1000); });
}

TEST_CASE("a data set may move: its record is of what is in it", "[setup]") {
  const TemporaryFolder folder;
  // CIFAR-10's binary format: a label and 3072 pixels; here two images a file.
  const auto put = [&](const char* name, char label) {
    write_file(folder / "a" / name, label + std::string(3072, 'x') + '\1' + std::string(3072, 'y'));
  };
  for (const char* name : {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
                           "data_batch_5.bin", "test_batch.bin"})
    put(name, '\0');
  const auto record = [&](const fs::path& path) {
    TrainOptions options;
    options.data_path = path.string();
    const Data data = open_data(options);
    return record_of_run(options, *data.train, *data.val, sample_of(*data.train), sample_of(*data.val)).data;
  };
  const nlohmann::json before = record(folder / "a");
  CHECK(record(folder / "a/") == before);
  fs::rename(folder / "a", folder / "b");
  CHECK(record(folder / "b") == before);
  fs::rename(folder / "b", folder / "a");
  put("data_batch_3.bin", '\2');
  CHECK(record(folder / "a") != before);
}

TEST_CASE("a mean that a network has anyway is not another one", "[setup]") {
  TrainOptions given, of_run;
  CHECK(same_pixels(given, of_run));
  given.mean = {0.485, 0.456, 0.406};
  CHECK(same_pixels(given, of_run));
  given.mean[1] = 0.457;
  CHECK_FALSE(same_pixels(given, of_run));
  of_run.mean = given.mean;
  CHECK(same_pixels(given, of_run));
  of_run.std = {1, 1, 1};
  CHECK(same_pixels(given, of_run));
  given.std = {1, 1, 2};
  CHECK_FALSE(same_pixels(given, of_run));
}

TEST_CASE("an option that a checkpoint does not have had its default, not what its preset says today",
          "[setup]") {
  const TrainOptions o = options_of_checkpoint(
      {{"config", R"({"preset": "faq-4bit", "epochs": 3})"}, {"progress", "{}"}}, "some file");
  CHECK(o.preset == "faq-4bit");
  CHECK(o.epochs == 3);
  CHECK(o.scheme == Scheme::none);
  CHECK(o.weight_decay == TrainOptions{}.weight_decay);
  check_error(ErrorKind::bad_data, "some file", [] {
    options_of_checkpoint({{"config", R"({"preset": 4, "epochs": "many"})"}, {"progress", "{}"}},
                          "some file");
  });
}
