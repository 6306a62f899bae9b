#include "data/loader.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <numeric>
#include <set>
#include <thread>

#include "tests/data_testing.h"

using namespace faq;
using namespace faq::testing;

namespace {

/// Images of 8 x 8 whose first pixels spell their index; some can be bad.
class Numbers final : public Dataset {
 public:
  explicit Numbers(std::int64_t size, std::function<void(std::int64_t)> before = {})
      : size_(size), before_(std::move(before)) {}
  std::int64_t size() const override { return size_; }
  Image image(std::int64_t index) const override {
    if (before_) before_(index);
    Image image{8, 8, 3, std::vector<std::uint8_t>(192)};
    for (std::size_t i = 0; i < 192; ++i)
      image.pixels[i] = static_cast<std::uint8_t>(index * 7 + static_cast<int>(i));
    image.pixels[0] = static_cast<std::uint8_t>(index);
    image.pixels[1] = static_cast<std::uint8_t>(index >> 8);
    if (index % 30 == 7) image.fault = "a stray byte";
    return image;
  }
  std::int32_t label(std::int64_t index) const override { return static_cast<std::int32_t>(index); }
  std::string name(std::int64_t index) const override { return concat("number ", index); }
  const std::vector<std::string>& class_names() const override { return names_; }
  int channels() const override { return 3; }

 private:
  std::int64_t size_;
  std::function<void(std::int64_t)> before_;
  std::vector<std::string> names_;
};

LoaderOptions options(std::int64_t batch_size, bool training, int workers = 2) {
  return {.batch_size = batch_size,
          .workers = workers,
          .prefetch = 3,
          .training = training,
          .transform = {training ? Augmentation::cifar : Augmentation::none, 8, 0},
          .seed = 5};
}

/// Pixels and labels of a batch, to be compared.
std::vector<int> contents(const Batch& batch) {
  std::vector<int> all(batch.labels.begin(), batch.labels.end());
  for (const std::uint8_t v : batch.images.span<std::uint8_t>()) all.push_back(v);
  return all;
}

std::vector<std::vector<int>> epoch_of(Loader& loader, std::int64_t epoch, std::int64_t first = 0,
                                       Part part = Part::own) {
  loader.start_epoch(epoch, first, part);
  std::vector<std::vector<int>> batches;
  while (const auto batch = loader.next()) batches.push_back(contents(*batch));
  return batches;
}

std::vector<std::int32_t> labels_of(Loader& loader, std::int64_t epoch) {
  loader.start_epoch(epoch);
  std::vector<std::int32_t> labels;
  while (const auto batch = loader.next())
    labels.insert(labels.end(), batch->labels.begin(), batch->labels.end());
  return labels;
}

std::function<void(std::int64_t)> bad_at(std::set<std::int64_t> bad, ErrorKind kind = ErrorKind::bad_data) {
  return [bad = std::move(bad), kind](std::int64_t i) {
    check(!bad.contains(i), kind, "number ", i, " is bad");
  };
}

}  // namespace

TEST_CASE("shuffled_order is a permutation of its own for each seed and epoch") {
  for (const std::int64_t size : {0, 1, 2, 1000}) {
    std::vector<std::int64_t> order = shuffled_order(size, 1, 2);
    std::ranges::sort(order);
    std::vector<std::int64_t> expected(static_cast<std::size_t>(size));
    std::iota(expected.begin(), expected.end(), std::int64_t{0});
    CHECK(order == expected);
  }
  CHECK(shuffled_order(1000, 1, 2) == shuffled_order(1000, 1, 2));
  CHECK(shuffled_order(1000, 1, 2) != shuffled_order(1000, 1, 3));
  CHECK(shuffled_order(1000, 1, 2) != shuffled_order(1000, 2, 2));
  // Each of three samples is first about equally often.
  int first[3] = {};
  for (int epoch = 0; epoch < 3000; ++epoch) ++first[shuffled_order(3, 1, epoch)[0]];
  for (const int n : first) CHECK(std::abs(n - 1000) < 120);
}

TEST_CASE("loader: evaluation keeps everything, in order") {
  const Numbers dataset(103);
  for (const int workers : {0, 1, 3}) {
    Loader loader(dataset, options(10, false, workers));
    CHECK(loader.batches_per_epoch() == 11);
    std::int64_t seen = 0;
    while (const auto batch = loader.next()) {
      CHECK(batch->images.shape() == Shape{batch->size(), 8, 8, 3});
      CHECK(batch->images.dtype() == DType::u8);
      for (std::int64_t i = 0; i < batch->size(); ++i, ++seen) {
        CHECK(batch->labels[static_cast<std::size_t>(i)] == seen);
        CHECK(batch->images.data<std::uint8_t>()[i * 192] == seen);
      }
    }
    CHECK(seen == 103);
    CHECK_FALSE(loader.next().has_value());
  }
}

TEST_CASE("loader: training drops the last partial batch unless it is the only one") {
  const struct {
    std::int64_t size, batch_size, batches, samples;
  } cases[] = {{103, 10, 10, 100}, {100, 10, 10, 100}, {7, 10, 1, 7}, {1, 1, 1, 1}};
  for (const auto& c : cases) {
    const Numbers dataset(c.size);
    Loader loader(dataset, options(c.batch_size, true));
    CHECK(loader.batches_per_epoch() == c.batches);
    const auto labels = labels_of(loader, 0);
    CHECK(static_cast<std::int64_t>(labels.size()) == c.samples);
    CHECK(std::set(labels.begin(), labels.end()).size() == labels.size());
  }
}

TEST_CASE("loader: the number of workers changes nothing") {
  const Numbers dataset(500);
  Loader reference(dataset, options(64, true, 0));
  const auto expected = epoch_of(reference, 3);
  CHECK(expected != epoch_of(reference, 4));
  for (const int workers : {1, 2, 5})
    for (const int prefetch : {1, 4}) {
      LoaderOptions o = options(64, true, workers);
      o.prefetch = prefetch;
      Loader loader(dataset, o);
      CHECK(epoch_of(loader, 3) == expected);
    }
}

TEST_CASE("loader: continues in the middle") {
  const Numbers dataset(500);
  Loader loader(dataset, options(32, true));
  const auto whole = epoch_of(loader, 7);
  REQUIRE(whole.size() == 15);
  for (const std::int64_t first : {1, 8, 14, 15}) {
    const auto rest = epoch_of(loader, 7, first);
    CHECK(rest == std::vector(whole.begin() + first, whole.end()));
  }
  // Abandoned early, again and again.
  for (int epoch = 0; epoch < 20; ++epoch) {
    loader.start_epoch(epoch);
    if (epoch % 2) loader.next();
  }
  CHECK(epoch_of(loader, 7) == whole);
  check_error(ErrorKind::internal, "no batch 16", [&] { loader.start_epoch(0, 16); });
}

TEST_CASE("loader: the shards of a step are the same on any number of ranks") {
  const struct {
    std::int64_t size, batch_size;
    int shards;
    std::int64_t steps;
    int in_last_step;
  } rows[] = {
      {100, 8, 1, 12, 1},  {100, 8, 2, 6, 2}, {100, 8, 6, 2, 6},  {100, 8, 8, 2, 4}, {100, 8, 12, 1, 12},
      {100, 8, 24, 1, 12}, {108, 4, 6, 5, 3}, {101, 10, 4, 3, 2}, {7, 10, 4, 1, 1},  {8, 8, 2, 1, 1},
  };
  constexpr std::int64_t epoch = 3;
  for (const auto& row : rows)
    for (const bool bad_images : {false, true}) {
      const Numbers dataset(row.size, bad_images ? bad_at({3, row.size - 2}) : bad_at({}));
      LoaderOptions o = options(row.batch_size, true);
      o.skip_bad = bad_images ? 2 : 0;
      Loader one(dataset, o);
      const auto expected = epoch_of(one, epoch);

      o.shards = row.shards;
      for (int ranks = 1; ranks <= row.shards; ++ranks) {
        if (row.shards % ranks != 0) continue;
        std::vector<std::vector<int>> found((row.steps - 1) * row.shards + row.in_last_step);
        std::int64_t most = 0, before = 0;
        for (int rank = 0; rank < ranks; ++rank) {
          CAPTURE(row.size, row.batch_size, row.shards, bad_images, ranks, rank);
          o.rank = rank;
          o.ranks = ranks;
          Loader loader(dataset, o);
          REQUIRE(loader.steps_per_epoch() == row.steps);
          CHECK(epoch_of(loader, epoch, 0, Part::all) == expected);

          const auto own = epoch_of(loader, epoch);
          std::size_t next = 0;
          for (std::int64_t step = 0; step < row.steps; ++step) {
            const StepShards shards = loader.shards_of_step(step);
            CHECK(shards.present == (step + 1 < row.steps ? row.shards : row.in_last_step));
            CHECK(shards.images == std::min(row.size, row.batch_size));
            CHECK(shards.own() <= row.shards / ranks);
            loader.start_epoch_at_step(epoch, step);
            const auto first = loader.next();
            CHECK(first.has_value() == (shards.own() > 0));
            if (first) CHECK(contents(*first) == own.at(next));
            for (int shard = shards.begin; shard < shards.end; ++shard) {
              auto& slot = found.at(static_cast<std::size_t>(step * row.shards + shard));
              CHECK(slot.empty());
              slot = own.at(next++);
            }
          }
          CHECK(next == own.size());
          CHECK(loader.batches_per_epoch() == static_cast<std::int64_t>(own.size()));
          loader.start_epoch_at_step(epoch, row.steps);
          CHECK_FALSE(loader.next().has_value());
          most = std::max(most, loader.batches_per_epoch());
          CHECK((rank == 0 || loader.batches_per_epoch() <= before));
          before = loader.batches_per_epoch();
        }
        CAPTURE(row.size, row.batch_size, row.shards, bad_images, ranks);
        CHECK(found == expected);
        CHECK(Loader(dataset, o).rounds_per_epoch() == most);
      }
    }
}

TEST_CASE("loader: a step's shards continue in the middle on another number of ranks") {
  const Numbers dataset(250);
  LoaderOptions o = options(8, true);
  o.shards = 4;
  Loader one(dataset, o);
  const auto whole = epoch_of(one, 2);
  REQUIRE(whole.size() == 31);
  for (const std::int64_t first : {0, 1, 5, 7, 8}) {
    std::vector<std::vector<int>> rest;
    for (int rank = 0; rank < 2; ++rank) {
      o.rank = rank;
      o.ranks = 2;
      Loader loader(dataset, o);
      loader.start_epoch_at_step(2, first);
      while (const auto batch = loader.next()) rest.push_back(contents(*batch));
    }
    auto expected = std::vector(whole.begin() + std::min<std::int64_t>(4 * first, 31), whole.end());
    std::ranges::sort(rest);
    std::ranges::sort(expected);
    CHECK(rest == expected);
  }
  check_error(ErrorKind::internal, "no step 9 in epoch 2 of 8 steps", [&] { one.start_epoch_at_step(2, 9); });
  check_error(ErrorKind::internal, "no step 8 in an epoch of 8", [&] { one.shards_of_step(8); });
  Loader evaluation(dataset, options(8, false));
  check_error(ErrorKind::internal, "has no steps", [&] { evaluation.steps_per_epoch(); });
}

TEST_CASE("loader: evaluation has the same batches on any number of ranks") {
  for (const std::int64_t size : {103, 100, 5, 1}) {
    const Numbers dataset(size);
    Loader one(dataset, options(10, false));
    const auto expected = epoch_of(one, 0);
    const std::int64_t batches = (size + 9) / 10;
    for (const int ranks : {1, 2, 3, 5, 20}) {
      std::vector<std::vector<int>> found;
      std::int64_t most = 0, least = batches;
      for (int rank = 0; rank < ranks; ++rank) {
        CAPTURE(size, ranks, rank);
        LoaderOptions o = options(10, false, rank % 3);
        o.rank = rank;
        o.ranks = ranks;
        Loader loader(dataset, o);
        const auto own = epoch_of(loader, 0);
        CHECK(loader.batches_per_epoch() == static_cast<std::int64_t>(own.size()));
        CHECK(loader.rounds_per_epoch() == (batches + ranks - 1) / ranks);
        CHECK(epoch_of(loader, 0, 0, Part::all) == expected);
        CHECK(epoch_of(loader, 0) == own);
        found.insert(found.end(), own.begin(), own.end());
        most = std::max(most, loader.batches_per_epoch());
        least = std::min(least, loader.batches_per_epoch());
        check_error(ErrorKind::internal, concat("no batch ", batches + 1),
                    [&] { loader.start_epoch(0, batches + 1, Part::all); });
      }
      CAPTURE(size, ranks);
      CHECK(found == expected);
      CHECK(most == (batches + ranks - 1) / ranks);
      CHECK(most - least <= 1);
    }
  }
}

TEST_CASE("loader: a bad image ends the epoch where it stands") {
  for (const int workers : {0, 3})
    for (const ErrorKind kind : {ErrorKind::bad_data, ErrorKind::io}) {
      const Numbers dataset(100, bad_at({37, 55}, kind));
      LoaderOptions o = options(10, false, workers);
      // Only bad data may be skipped; a disk that fails is another matter.
      o.skip_bad = kind == ErrorKind::bad_data ? 0 : 10;
      Loader loader(dataset, o);
      for (int batch = 0; batch < 3; ++batch) CHECK(loader.next()->labels[0] == 10 * batch);
      check_error(kind, "number 37 is bad", [&] { loader.next(); });
      check_error(kind, "number 37 is bad", [&] { loader.next(); });
      CHECK(loader.skipped() == 0);
      loader.start_epoch(1, 4);
      CHECK(loader.next()->labels[0] == 40);
      check_error(kind, "number 55 is bad", [&] { loader.next(); });
    }
}

TEST_CASE("loader: bad images are skipped and counted") {
  const Numbers dataset(100, bad_at({0, 12, 13, 19, 99}));
  for (const int workers : {0, 3}) {
    LoaderOptions o = options(10, false, workers);
    o.skip_bad = 5;
    Loader loader(dataset, o);
    for (int epoch = 0; epoch < 3; ++epoch) {
      loader.start_epoch(epoch);
      std::vector<std::int64_t> sizes;
      while (const auto batch = loader.next()) {
        sizes.push_back(batch->size());
        CHECK(batch->images.shape() == Shape{batch->size(), 8, 8, 3});
        for (std::int64_t i = 0; i < batch->size(); ++i)
          CHECK(batch->images.data<std::uint8_t>()[i * 192] == batch->labels[static_cast<std::size_t>(i)]);
      }
      CHECK(sizes == std::vector<std::int64_t>{9, 7, 10, 10, 10, 10, 10, 10, 10, 9});
    }
    CHECK(loader.skipped() == 5);
    REQUIRE(loader.skipped_samples().size() == 5);
    CHECK(loader.skipped_samples()[1].second == "number 12 is bad");

    o.skip_bad = 4;
    Loader strict(dataset, o);
    for (int batch = 0; batch < 9; ++batch) strict.next();
    check_error(ErrorKind::bad_data, "number 99 is bad", [&] { strict.next(); });
    CHECK(strict.skipped() == 4);
  }
}

TEST_CASE("loader: images with recoverable faults are used and counted") {
  // Number 37 has a fault, and is bad besides.
  for (const bool cache : {false, true})
    for (const int workers : {0, 3}) {
      CAPTURE(cache, workers);
      std::unique_ptr<Dataset> dataset = std::make_unique<Numbers>(100, bad_at({37}));
      if (cache) dataset = cached(std::move(dataset));
      LoaderOptions o = options(10, false, workers);
      o.skip_bad = 1;
      Loader loader(*dataset, o);
      CHECK(loader.faulty_samples().empty());
      for (int epoch = 0; epoch < 2; ++epoch) {
        loader.start_epoch(epoch);
        std::int64_t images = 0;
        while (const auto batch = loader.next()) images += batch->size();
        CHECK(images == 99);
        using Faults = std::vector<std::pair<std::int64_t, std::string>>;
        CHECK(loader.faulty_samples() == Faults{{7, "number 7: a stray byte"},
                                                {67, "number 67: a stray byte"},
                                                {97, "number 97: a stray byte"}});
      }
      CHECK(loader.skipped() == 1);
    }
}

TEST_CASE("loader: a batch of bad images only") {
  const Numbers dataset(10, bad_at({4, 5, 6, 7}));
  LoaderOptions o = options(4, false);
  o.skip_bad = 4;
  Loader evaluation(dataset, o);
  CHECK(labels_of(evaluation, 0) == std::vector<std::int32_t>{0, 1, 2, 3, 8, 9});

  const Numbers hopeless(4, bad_at({0, 1, 2, 3}));
  o.training = true;
  Loader training(hopeless, o);
  check_error(ErrorKind::bad_data, "none of the 4 images", [&] { training.next(); });
}

TEST_CASE("loader: an image of another form than it says is refused") {
  class Odd final : public Dataset {
   public:
    explicit Odd(Image image) : image_(std::move(image)) {}
    std::int64_t size() const override { return 4; }
    Image image(std::int64_t) const override { return image_; }
    std::int32_t label(std::int64_t) const override { return 0; }
    std::string name(std::int64_t i) const override { return concat("odd ", i); }
    const std::vector<std::string>& class_names() const override { return names_; }
    int channels() const override { return 3; }

   private:
    Image image_;
    std::vector<std::string> names_{"a", "b"};
  };
  const Image rows[] = {{.height = 8, .width = 8, .channels = 3, .pixels = {1, 2, 3}},
                        {.height = 8, .width = 8, .channels = 1, .pixels = std::vector<std::uint8_t>(64)},
                        {.height = -8, .width = -8, .channels = 3, .pixels = {}}};
  for (const Image& image : rows) {
    CAPTURE(image.channels, image.pixels.size());
    const Odd dataset(image);
    Loader loader(dataset, options(2, false, 0));
    check_error(ErrorKind::usage, "odd 0: an image of", [&] { loader.next(); });
  }
}

TEST_CASE("loader: other exceptions arrive as they were thrown") {
  const Numbers dataset(100, [](std::int64_t i) {
    if (i == 33) throw std::bad_alloc();
  });
  LoaderOptions o = options(10, false, 3);
  o.skip_bad = 10;
  Loader loader(dataset, o);
  for (int batch = 0; batch < 3; ++batch) loader.next();
  CHECK_THROWS_AS(loader.next(), std::bad_alloc);
}

TEST_CASE("loader: prefetches no further than asked, and can be destroyed at any time") {
  std::atomic<int> count = 0;
  const Numbers dataset(10000, [&](std::int64_t) {
    ++count;
    std::this_thread::sleep_for(std::chrono::microseconds(10));
  });
  {
    Loader loader(dataset, options(10, true, 3));
    loader.start_epoch(0);
    loader.next();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    CHECK(count <= 4 * 10);
  }
  for (int i = 0; i < 20; ++i) {
    Loader loader(dataset, options(1000, true, 3));
    if (i % 4) loader.start_epoch(0);
    if (i % 4 == 2) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (i % 4 == 3) loader.start_epoch(1);
  }
  CHECK(count < 10000);
}

TEST_CASE("loader: refused options") {
  const Numbers dataset(10), empty(0);
  const struct {
    const char* reason;
    std::function<void(LoaderOptions&)> change;
  } cases[] = {
      {"batch size", [](LoaderOptions& o) { o.batch_size = 0; }},
      {"batch size", [](LoaderOptions& o) { o.batch_size = -5; }},
      {"workers", [](LoaderOptions& o) { o.workers = -1; }},
      {"workers", [](LoaderOptions& o) { o.workers = 100000; }},
      {"prefetch", [](LoaderOptions& o) { o.prefetch = 0; }},
      {"crop size", [](LoaderOptions& o) { o.transform.crop = 0; }},
      {"resize size", [](LoaderOptions& o) { o.transform.resize = -1; }},
      {"skip", [](LoaderOptions& o) { o.skip_bad = -1; }},
      {"rank 2 of 2", [](LoaderOptions& o) { o.rank = o.ranks = 2; }},
      {"1 to 1048576 shards, got 0", [](LoaderOptions& o) { o.shards = 0; }},
      {"3 ranks cannot share 8 shards equally: expected 1, 2, 4 or 8 ranks, or a multiple of 3 shards",
       [](LoaderOptions& o) { o.shards = 8, o.ranks = 3; }},
      {"2 ranks cannot share 1 shards equally: expected 1 ranks, or a multiple of 2",
       [](LoaderOptions& o) { o.ranks = 2; }},
  };
  for (const auto& c : cases) {
    LoaderOptions o = options(4, true);
    c.change(o);
    check_error(ErrorKind::usage, c.reason, [&] { Loader(dataset, o); });
  }
  check_error(ErrorKind::bad_data, "empty", [&] { Loader(empty, options(4, true)); });
}

TEST_CASE("loader: real images", "[data]") {
  const auto folder = real_data("imagenet-sample");
  if (!folder) return;
  const auto dataset = open_dataset({.path = *folder}, Split::val);
  std::vector<std::vector<int>> first;
  for (const int workers : {0, 2}) {
    Loader loader(*dataset, {.batch_size = 20,
                             .workers = workers,
                             .training = true,
                             .transform = {Augmentation::imagenet, 64, 0}});
    std::vector<std::vector<int>> batches;
    loader.start_epoch(2);
    for (int i = 0; i < 2; ++i) batches.push_back(contents(*loader.next()));
    if (first.empty()) first = batches;
    CHECK(batches == first);
  }
}
