#include "data/loader.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <numeric>
#include <system_error>
#include <thread>

#include "core/error.h"
#include "data/batch_plan.h"

namespace faq {
namespace {

/// The number of samples a worker takes at a time. It is small so that several workers can share a batch;
/// taking costs little.
constexpr std::int64_t chunk_size = 16;

/// A text such as "1, 2, 4 or 8".
std::string divisors_of(int number) {
  std::string text = "1";
  for (int d = 2; d <= number; ++d)
    if (number % d == 0) text += concat(d == number ? " or " : ", ", d);
  return text;
}

void check_options(const Dataset& dataset, const LoaderOptions& o) {
  const auto expect = [](bool condition, const auto&... parts) {
    check(condition, ErrorKind::usage, "loader: ", parts...);
  };
  expect(o.batch_size > 0 && o.batch_size <= 1 << 20, "expected a batch size of 1 to ", 1 << 20, ", got ",
         o.batch_size);
  expect(o.workers >= 0 && o.workers <= 1024, "expected 0 to 1024 workers, got ", o.workers);
  expect(o.prefetch > 0 && o.prefetch <= 1024, "expected to prefetch 1 to 1024 batches, got ", o.prefetch);
  expect(o.transform.crop > 0 && o.transform.crop <= 8192, "expected a crop size of 1 to 8192, got ",
         o.transform.crop);
  expect(o.transform.resize >= 0 && o.transform.resize <= 8192, "expected a resize size of 0 to 8192, got ",
         o.transform.resize);
  expect(o.skip_bad >= 0, "expected to skip 0 or more bad images, got ", o.skip_bad);
  expect(o.ranks > 0 && o.rank >= 0 && o.rank < o.ranks, "rank ", o.rank, " of ", o.ranks);
  check(dataset.size() > 0, ErrorKind::bad_data, "loader: the data set is empty");
  expect(o.shards > 0 && o.shards <= 1 << 20, "expected 1 to ", 1 << 20, " shards, got ", o.shards);
  if (o.training && o.shards % o.ranks != 0)
    fail(ErrorKind::usage, "loader: ", o.ranks, " ranks cannot share ", o.shards,
         " shards equally: expected ", divisors_of(o.shards), " ranks, or a multiple of ", o.ranks,
         " shards");
}

struct Failure {
  std::int64_t row = 0;  ///< row in the batch
  std::exception_ptr error;
  std::string message;
  bool bad_data = false;
};

/// A file that was decoded in spite of its fault.
struct Fault {
  std::int64_t row = 0;  ///< row in the batch
  std::string text;
};

/// What went wrong with the samples of a batch, or of a part of it.
struct Problems {
  std::vector<Failure> failures;
  std::vector<Fault> faults;

  void append(Problems&& more) {
    std::ranges::move(more.failures, std::back_inserter(failures));
    std::ranges::move(more.faults, std::back_inserter(faults));
  }
};

/// Samples [begin, end) of a batch, for a worker to prepare.
struct PendingBatch;
struct Chunk {
  PendingBatch* batch = nullptr;
  PositionRange rows;
};

/// A batch in preparation. Workers write to disjoint rows of `images`; the mutex guards the other members.
struct PendingBatch {
  PositionRange positions;
  Batch batch;
  std::uint8_t* pixels = nullptr;
  std::int64_t claimed = 0;
  std::int64_t finished = 0;
  Problems problems;

  bool complete() const { return finished == positions.size(); }
};

}  // namespace

struct Loader::State {
  State(const Dataset& dataset_, const LoaderOptions& options_) : dataset(dataset_), options(options_) {}

  const Dataset& dataset;
  const LoaderOptions options;
  const BatchPlan plan{dataset.size(), options};

  mutable std::mutex mutex;
  std::condition_variable work_available, batch_complete, worker_idle;
  std::vector<std::thread> workers;
  bool stopping = false;
  int busy = 0;                         ///< workers preparing a chunk
  std::atomic<bool> abandoned = false;  ///< the batches in preparation are no longer wanted
  std::exception_ptr worker_failure;    ///< a worker failed outside of a sample

  bool started = false;
  std::int64_t epoch = 0;
  std::vector<std::int64_t> order;  ///< empty: samples in order. Changes only while no worker is busy.
  Part part = Part::own;
  std::int64_t next_batch = 0;                        ///< index in `part` of the next batch to be opened
  std::deque<std::unique_ptr<PendingBatch>> pending;  ///< in order; next() returns the first one
  std::exception_ptr failed;                          ///< the error that ended the epoch early
  std::map<std::int64_t, std::string> skipped;        ///< error message by index of the sample
  std::map<std::int64_t, std::string> faulty;         ///< fault by index of the sample

  std::int64_t sample_at(std::int64_t position) const {
    return order.empty() ? position : order[static_cast<std::size_t>(position)];
  }
  std::int64_t batches_in(Part which) const {
    return which == Part::all ? plan.batches() : plan.own_batches();
  }
  bool batches_left() const { return next_batch < batches_in(part); }
  std::size_t image_bytes() const {
    const auto side = static_cast<std::size_t>(options.transform.crop);
    return side * side * static_cast<std::size_t>(dataset.channels());
  }

  // These functions need the mutex.

  void start(std::unique_lock<std::mutex>& lock, std::int64_t new_epoch, std::int64_t first_batch,
             Part new_part);
  bool work_to_claim() const {
    if (abandoned) return false;
    const bool unclaimed =
        std::ranges::any_of(pending, [](const auto& p) { return p->claimed < p->positions.size(); });
    return unclaimed || (batches_left() && static_cast<int>(pending.size()) < options.prefetch);
  }
  Chunk claim();
  PendingBatch& open_batch();
  void finish(const Chunk& chunk, Problems problems);
  void fail_epoch(std::exception_ptr error) {
    failed = error;
    std::rethrow_exception(failed);
  }

  // prepare() and prepare_sample() do not need the mutex. work() and stop() lock it themselves. settle()
  // needs it.

  Problems prepare(const Chunk& chunk) const;
  /// Returns the fault of the image, or nothing.
  std::string prepare_sample(std::int64_t sample, std::uint8_t* pixels, std::int32_t& label) const;
  void work();
  void stop();
  std::optional<Batch> settle(PendingBatch& done);
};

PendingBatch& Loader::State::open_batch() {
  auto opened = std::make_unique<PendingBatch>();
  opened->positions = plan.batch(part == Part::all ? next_batch : plan.own_batch(next_batch));
  const std::int64_t n = opened->positions.size(), side = options.transform.crop;
  opened->batch.images = Tensor::empty({n, side, side, dataset.channels()}, DType::u8);
  opened->batch.labels.resize(static_cast<std::size_t>(n));
  opened->pixels = opened->batch.images.mutable_data<std::uint8_t>();
  pending.push_back(std::move(opened));
  ++next_batch;
  return *pending.back();
}

Chunk Loader::State::claim() {
  const auto open =
      std::ranges::find_if(pending, [](const auto& p) { return p->claimed < p->positions.size(); });
  PendingBatch& batch = open != pending.end() ? **open : open_batch();
  const PositionRange rows{batch.claimed, std::min(batch.claimed + chunk_size, batch.positions.size())};
  batch.claimed = rows.end;
  return {&batch, rows};
}

void Loader::State::finish(const Chunk& chunk, Problems problems) {
  chunk.batch->finished += chunk.rows.size();
  chunk.batch->problems.append(std::move(problems));
  if (chunk.batch->complete()) batch_complete.notify_all();
}

std::string Loader::State::prepare_sample(std::int64_t sample, std::uint8_t* pixels,
                                          std::int32_t& label) const {
  const TransformOptions& transform = options.transform;
  Image image = dataset.image(sample);
  check(image.channels == dataset.channels() &&
            std::ssize(image.pixels) == std::int64_t{image.height} * image.width * image.channels,
        ErrorKind::usage, dataset.name(sample), ": an image of ", image.height, "×", image.width, "×",
        image.channels, " with ", image.pixels.size(), " values, expected ", dataset.channels(), " channels");
  const std::string fault = std::move(image.fault);
  if (options.training) {
    Random random(options.seed, RandomStream::augmentation, static_cast<std::uint64_t>(epoch),
                  static_cast<std::uint64_t>(sample));
    image = transform_for_training(image, transform, random);
  } else {
    image = transform_for_evaluation(image, transform);
  }
  check(image.pixels.size() == image_bytes(), "loader: expected ", image_bytes(), " values, got ",
        image.pixels.size());
  std::memcpy(pixels, image.pixels.data(), image.pixels.size());
  label = dataset.label(sample);
  return fault;
}

Problems Loader::State::prepare(const Chunk& chunk) const {
  Problems problems;
  for (std::int64_t row = chunk.rows.begin; row < chunk.rows.end && !abandoned; ++row) {
    const auto r = static_cast<std::size_t>(row);
    try {
      const std::int64_t sample = sample_at(chunk.batch->positions.begin + row);
      const std::string fault =
          prepare_sample(sample, chunk.batch->pixels + r * image_bytes(), chunk.batch->batch.labels[r]);
      if (!fault.empty()) problems.faults.push_back({row, concat(dataset.name(sample), ": ", fault)});
    } catch (const Error& error) {
      problems.failures.push_back(
          {row, std::current_exception(), error.what(), error.kind() == ErrorKind::bad_data});
    } catch (...) {
      problems.failures.push_back({row, std::current_exception(), "", false});
    }
  }
  return problems;
}

void Loader::State::work() {
  std::unique_lock lock(mutex);
  for (;;) {
    work_available.wait(lock, [this] { return stopping || work_to_claim(); });
    if (stopping) return;
    const Chunk chunk = claim();
    ++busy;
    lock.unlock();
    Problems problems = prepare(chunk);
    lock.lock();
    --busy;
    finish(chunk, std::move(problems));
    if (busy == 0) worker_idle.notify_all();
  }
}

void Loader::State::stop() {
  {
    const std::lock_guard lock(mutex);
    stopping = true;
    abandoned = true;
  }
  work_available.notify_all();
  for (std::thread& worker : workers) worker.join();
  workers.clear();
}

void Loader::State::start(std::unique_lock<std::mutex>& lock, std::int64_t new_epoch,
                          std::int64_t first_batch, Part new_part) {
  const std::int64_t batches = batches_in(new_part);
  check(new_epoch >= 0 && first_batch >= 0 && first_batch <= batches, "loader: no batch ", first_batch,
        " in epoch ", new_epoch, " of ", batches, " batches");
  std::vector<std::int64_t> new_order;
  if (options.training) new_order = dataset.shuffled(options.seed, new_epoch);
  if (worker_failure) std::rethrow_exception(worker_failure);
  abandoned = true;
  worker_idle.wait(lock, [this] { return busy == 0; });
  pending.clear();
  order = std::move(new_order);
  epoch = new_epoch;
  part = new_part;
  next_batch = first_batch;
  failed = nullptr;
  started = true;
  abandoned = false;
  work_available.notify_all();
}

/// Decides about the samples that failed, in the order of the batch. So the speed of the workers has no
/// influence on which samples are skipped and what ends the epoch. Returns nothing when no sample is left.
std::optional<Batch> Loader::State::settle(PendingBatch& done) {
  for (std::int64_t i = done.positions.begin; i < done.positions.end; ++i)
    done.batch.samples.push_back(sample_at(i));
  for (Fault& fault : done.problems.faults)
    faulty.emplace(sample_at(done.positions.begin + fault.row), std::move(fault.text));
  std::vector<Failure>& failures = done.problems.failures;
  if (failures.empty()) return std::move(done.batch);
  std::ranges::sort(failures, {}, &Failure::row);
  std::vector<bool> bad(done.batch.labels.size());
  for (Failure& failure : failures) {
    const std::int64_t sample = sample_at(done.positions.begin + failure.row);
    const bool known = skipped.contains(sample);
    if (!failure.bad_data || (!known && static_cast<std::int64_t>(skipped.size()) >= options.skip_bad))
      fail_epoch(failure.error);
    skipped.emplace(sample, std::move(failure.message));
    bad[static_cast<std::size_t>(failure.row)] = true;
  }
  const auto left = std::ranges::count(bad, false);
  if (left == 0 && !options.training) return std::nullopt;
  if (left == 0)
    fail_epoch(std::make_exception_ptr(Error(
        ErrorKind::bad_data,
        concat("loader: none of the ", bad.size(),
               " images of a batch can be used, the last: ", skipped[sample_at(done.positions.end - 1)]))));

  const std::int64_t side = options.transform.crop;
  Batch batch{Tensor::empty({left, side, side, dataset.channels()}, DType::u8), {}};
  std::uint8_t* out = batch.images.mutable_data<std::uint8_t>();
  for (std::size_t row = 0; row < bad.size(); ++row) {
    if (bad[row]) continue;
    std::memcpy(out, done.pixels + row * image_bytes(), image_bytes());
    out += image_bytes();
    batch.labels.push_back(done.batch.labels[row]);
    batch.samples.push_back(done.batch.samples[row]);
  }
  return batch;
}

Loader::Loader(const Dataset& dataset, const LoaderOptions& options) {
  check_options(dataset, options);
  state_ = std::make_unique<State>(dataset, options);
  // Workers have nothing to prepare until an epoch starts.
  state_->abandoned = true;
  try {
    for (int i = 0; i < options.workers; ++i)
      state_->workers.emplace_back([s = state_.get()] {
        try {
          s->work();
        } catch (...) {  // for example, no memory for a batch
          const std::lock_guard lock(s->mutex);
          s->worker_failure = std::current_exception();
          s->batch_complete.notify_all();
        }
      });
  } catch (const std::system_error& error) {
    const std::size_t running = state_->workers.size();
    state_->stop();
    fail(ErrorKind::out_of_memory, "loader: only ", running, " of ", options.workers,
         " worker threads could be started: ", error.what());
  }
}

Loader::~Loader() { state_->stop(); }

std::int64_t Loader::batches_per_epoch() const { return state_->plan.own_batches(); }

std::int64_t Loader::rounds_per_epoch() const { return state_->plan.rounds(); }

std::int64_t Loader::steps_per_epoch() const {
  check(state_->options.training, "loader: an evaluation has no steps");
  return state_->plan.steps();
}

StepShards Loader::shards_of_step(std::int64_t step) const {
  const std::int64_t steps = steps_per_epoch();
  check(step >= 0 && step < steps, "loader: no step ", step, " in an epoch of ", steps, " steps");
  return state_->plan.shards_of_step(step);
}

void Loader::start_epoch(std::int64_t epoch, std::int64_t first_batch, Part part) {
  std::unique_lock lock(state_->mutex);
  state_->start(lock, epoch, first_batch, part);
}

void Loader::start_epoch_at_step(std::int64_t epoch, std::int64_t first_step) {
  const std::int64_t steps = steps_per_epoch();
  check(first_step >= 0 && first_step <= steps, "loader: no step ", first_step, " in epoch ", epoch, " of ",
        steps, " steps");
  // The batches of the steps before it. Only the last step may have fewer, and nothing is behind that one.
  const std::int64_t before =
      std::min(first_step * state_->plan.shards_per_rank(), state_->plan.own_batches());
  start_epoch(epoch, before);
}

std::optional<Batch> Loader::next() {
  State& s = *state_;
  std::unique_lock lock(s.mutex);
  if (!s.started) s.start(lock, 0, 0, Part::own);
  for (;;) {
    if (s.failed) std::rethrow_exception(s.failed);
    if (s.pending.empty() && !s.batches_left()) return std::nullopt;
    if (s.workers.empty()) {
      while (s.pending.empty() || !s.pending.front()->complete()) {
        const Chunk chunk = s.claim();
        s.finish(chunk, s.prepare(chunk));
      }
    } else {
      s.batch_complete.wait(
          lock, [&] { return s.worker_failure || (!s.pending.empty() && s.pending.front()->complete()); });
      if (s.worker_failure) s.fail_epoch(s.worker_failure);
    }
    const std::unique_ptr<PendingBatch> done = std::move(s.pending.front());
    s.pending.pop_front();
    s.work_available.notify_all();
    if (std::optional<Batch> batch = s.settle(*done)) return batch;
  }
}

std::int64_t Loader::skipped() const {
  const std::lock_guard lock(state_->mutex);
  return static_cast<std::int64_t>(state_->skipped.size());
}

std::vector<std::pair<std::int64_t, std::string>> Loader::skipped_samples() const {
  const std::lock_guard lock(state_->mutex);
  return {state_->skipped.begin(), state_->skipped.end()};
}

std::vector<std::pair<std::int64_t, std::string>> Loader::faulty_samples() const {
  const std::lock_guard lock(state_->mutex);
  return {state_->faulty.begin(), state_->faulty.end()};
}

}  // namespace faq
