#include "train/ranks/rank_thread.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <new>
#include <optional>

#include "core/foreign_error.h"

namespace faq {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

// Between two looks at the network. The first looks of a wait follow each other at once: small messages are
// quick.
constexpr std::chrono::microseconds poll_interval{100};
constexpr int quick_polls = 20;
// Without work, a rank looks after heartbeats and failures of others only.
constexpr std::chrono::milliseconds idle_interval{20};

// How far a rank has come, for its neighbour.
struct Beat {
  static constexpr std::int64_t last = -1;
  std::int64_t started = 0;  ///< pieces of work that its trainer has asked for; `last`: no other beat follows
};

struct Job {
  RankThread::Work work;
  Patience patience = Patience::limited;
  std::promise<void> done;
};

// The last words of a rank.
struct Notice {
  std::int32_t kind = 0;
  std::int32_t rank = 0;
  std::array<char, 1000> text = {};
};

template <class T>
std::span<std::byte> as_message(T& value) {
  return std::as_writable_bytes(std::span(&value, 1));
}

}  // namespace

// What the thread and its users share. The members after `transport` belong to the thread alone.
struct RankThread::State {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Job> jobs;
  std::int64_t started = 0;
  bool closing = false, opened = false;
  bool closed = false;  ///< the thread has ended, …
  bool clean = false;   ///< … and the transport in good order
  std::exception_ptr open_failed;
  std::optional<Notice> own_failure;  ///< to be told to the others
  std::exception_ptr failure;         ///< what every piece of work throws from now on
  std::vector<std::string> hosts;
  RankDeadlines deadlines;  ///< lost may change
  int rank = 0, size = 1;

  Report report;
  std::unique_ptr<Transport> transport;
  Beat beat_in, beat_out;
  Transport::Started beat_receive, beat_send, notice_receive;
  Notice notice_in, notice_out;
  Clock::time_point heard, beaten;
  Clock::time_point tended;       ///< the time of the last tend(): what comes after it may be sleep
  Clock::duration asleep{0};      ///< of a process that was stopped for a while, or a machine
  std::int64_t steps_before = 0;  ///< the last Beat of the rank before
  std::int64_t done = 0;
  bool reported_slow = false;
  Patience patience = Patience::limited;  ///< of the work that is being done
  bool before_has_ended = false;
  bool silent = false;  ///< after a failure: the transport must not be used any more
  int tag = 0;

  int before() const { return (rank + size - 1) % size; }
  int after() const { return (rank + 1) % size; }

  std::string name_of(int which) {
    const std::lock_guard lock(mutex);
    return concat("rank ", which, " of ", size,
                  static_cast<std::size_t>(which) < hosts.size()
                      ? " (" + hosts[static_cast<std::size_t>(which)] + ")"
                      : "");
  }

  bool failed() {
    const std::lock_guard lock(mutex);
    return failure != nullptr;
  }
  void set_failure(const RemoteError& error) {  // by its own type: a copy of the base would be another one
    const std::lock_guard lock(mutex);
    if (!failure) failure = std::make_exception_ptr(error);
  }
  Seconds lost() {
    const std::lock_guard lock(mutex);
    return deadlines.lost;
  }
  void throw_failure() {
    const std::lock_guard lock(mutex);
    if (failure) std::rethrow_exception(failure);
  }

  // --- by the thread

  void open_channels() {
    heard = beaten = tended = Clock::now();
    if (size == 1) return;
    notice_receive =
        transport->receive(Transport::any_rank, Transport::Channel::notice, 0, as_message(notice_in));
    beat_receive = transport->receive(before(), Transport::Channel::heartbeat, 0, as_message(beat_in));
  }

  // Heartbeats and failures. Called often.
  void tend() {
    if (size == 1 || silent) return;
    const auto now = Clock::now();
    const auto lost_after = lost();
    // A job that was suspended wakes up rank by rank. The time until then is nobody's fault.
    if (now - tended > lost_after / 3) {
      heard = now;
      asleep += now - tended;
    }
    tended = now;
    if (notice_receive && notice_receive->done()) {
      notice_receive.reset();
      notice_in.text.back() = '\0';
      const std::string text = concat(name_of(notice_in.rank), ": ", notice_in.text.data());
      // At once, because a launcher may end this process as soon as the other rank is gone.
      if (rank == 0 && !failed()) report(text);
      set_failure(RemoteError(static_cast<ErrorKind>(notice_in.kind), text));
    }
    if (listen()) heard = now;
    // Often enough for what is said of slow ranks, too.
    if (now - beaten >= std::min(lost_after, deadlines.slow) / 10 && (!beat_send || beat_send->done())) {
      {
        const std::lock_guard lock(mutex);
        beat_out.started = started;
      }
      beat_send = transport->send(after(), Transport::Channel::heartbeat, 0, as_message(beat_out));
      beaten = now;
    }
    if (now - heard > lost_after && !failed())
      lose(concat("nothing was heard of ", name_of(before()), " for ", Seconds(now - heard).count(), " s"));
  }

  // True if the rank before has been heard. Its last beat may come while this rank is still at work.
  bool listen() {
    if (before_has_ended || !beat_receive->done()) return before_has_ended;
    if (beat_in.started == Beat::last) return before_has_ended = true;
    steps_before = beat_in.started;
    beat_receive = transport->receive(before(), Transport::Channel::heartbeat, 0, as_message(beat_in));
    return true;
  }

  // A job without one of its ranks cannot go on, and cannot end in good order.
  void lose(const std::string& reason) {
    const std::string text = concat(reason, ": the job ends");
    set_failure(RemoteError(ErrorKind::io, text));
    report(concat(name_of(rank), ": ", text));
    transport->abort(static_cast<int>(ErrorKind::io));
  }

  void set_own_failure(const Error& error) {
    Notice notice{.kind = error.exit_code(), .rank = rank};
    const std::string_view text = error.what();
    std::copy_n(text.data(), std::min(text.size(), notice.text.size() - 1), notice.text.data());
    const std::lock_guard lock(mutex);
    if (failure) return;  // the others know already
    failure = std::make_exception_ptr(RemoteError(error.kind(), error.what()));
    own_failure = notice;
  }
  // Of the exception that is being handled.
  void set_own_failure() {
    try {
      throw;
    } catch (const Error& error) {
      set_own_failure(error);
    } catch (const std::exception& error) {
      set_own_failure(as_error(error));
    }
  }

  // The others hear of a failure here. Then the transport is left alone: what was under way when work failed
  // may still write into memory that has gone since, whenever the transport gets a chance.
  void fall_silent() {
    if (silent) return;
    silent = true;
    {
      const std::lock_guard lock(mutex);
      if (!own_failure || size == 1) return;
      notice_out = *own_failure;
    }
    try {
      std::vector<Transport::Started> sent;
      for (int other = 0; other < size; ++other)
        if (other != rank)
          sent.push_back(transport->send(other, Transport::Channel::notice, 0, as_message(notice_out)));
      const auto begin = Clock::now();
      while (!all_done(sent) && Clock::now() - begin < deadlines.close)
        std::this_thread::sleep_for(poll_interval);
    } catch (const Error&) {  // a transport that fails, too: the others will miss the heartbeats
    }
  }

  static bool all_done(std::vector<Transport::Started>& requests) {
    std::erase_if(requests, [](const Transport::Started& request) { return request->done(); });
    return requests.empty();
  }

  // Until `finished` says so. Throws the failure of another rank, or of this one.
  template <class Finished>
  void wait(const Finished& finished) {
    tend();
    const auto begin = tended - asleep;
    for (int polls = 0; !finished(); ++polls) {
      tend();
      if (patience == Patience::limited) watch_progress(tended - asleep - begin);
      if (failed()) {
        fall_silent();
        throw_failure();
      }
      if (polls < quick_polls)
        std::this_thread::yield();
      else
        std::this_thread::sleep_for(poll_interval);
    }
  }

  // The rank before is alive, but its trainer has not come here. Of ranks that wait for a slow one, the rank
  // after it says so.
  void watch_progress(Clock::duration waited) {
    if (waited < deadlines.slow) return;
    const bool is_late = steps_before <= done;
    const std::string late = concat(name_of(before()), " is alive and has not come to the next exchange for ",
                                    static_cast<long>(Seconds(waited).count()), " s");
    if (is_late && !reported_slow) {
      reported_slow = true;
      report(concat("warning: ", late, "; the job ends after ", static_cast<long>(deadlines.stuck.count()),
                    " s"));
    }
    if (waited > deadlines.stuck && is_late) lose(late);
    // Nobody is late, and yet nothing arrives.
    if (waited > deadlines.stuck + lost())
      lose(concat("an exchange between all ranks did not end in ", static_cast<long>(Seconds(waited).count()),
                  " s"));
  }

  void work_off(Job& job);
  void loop();
  void end();
};

// Waits as the thread must.
class RankThread::PollingWire final : public Wire {
 public:
  PollingWire(State& state, int tag) : state_(state), tag_(tag) {}
  int rank() const override { return state_.rank; }
  int size() const override { return state_.size; }

  void exchange(std::span<const Outgoing> out, std::span<const Incoming> in) override {
    std::vector<Transport::Started> requests;
    guarded([&] {
      for (const auto& [from, bytes] : in)
        requests.push_back(state_.transport->receive(from, Transport::Channel::data, tag_, bytes));
      for (const auto& [to, bytes] : out)
        requests.push_back(state_.transport->send(to, Transport::Channel::data, tag_, bytes));
      state_.wait([&] { return State::all_done(requests); });
    });
  }
  void max(std::span<std::int64_t> values) override {
    wait([&] { return state_.transport->reduce(values, Transport::Reduction::max); });
  }
  void add(std::span<std::int64_t> values) override {
    wait([&] { return state_.transport->reduce(values, Transport::Reduction::sum); });
  }
  void sum(std::span<float> values) override {
    wait([&] { return state_.transport->sum(values); });
  }
  void broadcast(std::span<std::byte> bytes) override {
    wait([&] { return state_.transport->broadcast(bytes, 0); });
  }

 private:
  // While what is under way still has its memory, the other ranks hear of a failure.
  template <class Body>
  void guarded(const Body& body) {
    try {
      body();
    } catch (...) {
      state_.set_own_failure();
      state_.fall_silent();
      throw;
    }
  }
  template <class Start>
  void wait(const Start& start) {
    Transport::Started request;
    guarded([&] {
      request = start();
      state_.wait([&] { return request->done(); });
    });
  }

  State& state_;
  int tag_;
};

void RankThread::State::work_off(Job& job) {
  try {
    throw_failure();
    reported_slow = false;
    patience = job.patience;
    PollingWire wire(*this, tag);
    job.work(wire);
    job.done.set_value();
  } catch (...) {
    set_own_failure();  // or the others would wait for the rest of this work
    fall_silent();
    job.done.set_exception(std::current_exception());
  }
  job.work = nullptr;  // what it holds, the network no longer needs
  tag = (tag + 1) % Transport::tags;
  ++done;
}

void RankThread::State::loop() {
  for (;;) {
    std::optional<Job> job;
    bool end_now = false;
    {
      std::unique_lock lock(mutex);
      if (jobs.empty() && !closing)
        changed.wait_for(lock, idle_interval, [this] { return !jobs.empty() || closing || own_failure; });
      if (!jobs.empty()) {
        job.emplace(std::move(jobs.front()));
        jobs.pop_front();
      } else {
        end_now = closing;
      }
    }
    if (job) work_off(*job);
    if (failed()) fall_silent();
    if (end_now) return;
    tend();
  }
}

// All ranks have come to their end. Whatever was sent is received, because libraries do not like what is left
// over.
void RankThread::State::end() {
  const auto begin = Clock::now();
  const auto until = [&](const auto& condition) {
    while (!condition()) {
      check(Clock::now() - begin < deadlines.close, ErrorKind::io, "a rank did not say that it ends");
      std::this_thread::sleep_for(poll_interval);
    }
  };
  if (size > 1) {
    until([&] { return !beat_send || beat_send->done(); });
    beat_out.started = Beat::last;
    beat_send = transport->send(after(), Transport::Channel::heartbeat, 0, as_message(beat_out));
    until([&] { return beat_send->done(); });
    until([&] { return listen() && before_has_ended; });
  }
  notice_receive.reset();
  beat_receive.reset();
  beat_send.reset();
  transport->close();
  transport.reset();
}

RankThread::RankThread(const Open& open, const RankDeadlines& deadlines, Report report)
    : state_(std::make_shared<State>()) {
  state_->deadlines = deadlines;
  state_->report = std::move(report);
  thread_ = std::thread([state = state_, open] {
    try {
      state->transport = open();
      state->rank = state->transport->rank();
      state->size = state->transport->size();
      state->open_channels();
    } catch (...) {
      const std::lock_guard lock(state->mutex);
      state->open_failed = std::current_exception();
    }
    {
      const std::lock_guard lock(state->mutex);
      state->opened = true;
    }
    state->changed.notify_all();
    if (state->open_failed) return;
    bool clean = false;
    try {
      state->loop();
    } catch (const std::exception& error) {  // of the transport, outside of a piece of work
      state->lose(error.what());
      state->silent = true;
    }
    try {
      if (!state->silent) {
        state->end();
        clean = true;
      }
    } catch (const std::exception&) {  // all work is done: what hangs now is left alone
    }
    {
      const std::lock_guard lock(state->mutex);
      state->closed = true;
      state->clean = clean;
    }
    state->changed.notify_all();
  });
  std::unique_lock lock(state_->mutex);
  if (!state_->changed.wait_for(lock, deadlines.open, [this] { return state_->opened; })) {
    thread_.detach();
    faq::fail(ErrorKind::io, "the transport was not open after ", deadlines.open.count(), " s");
  }
  rank_ = state_->rank;
  size_ = state_->size;
  if (state_->open_failed) {
    const std::exception_ptr error = state_->open_failed;
    lock.unlock();
    thread_.join();
    std::rethrow_exception(error);
  }
}

RankThread::~RankThread() { close(); }

std::string RankThread::name_of(int rank) const { return state_->name_of(rank); }

void RankThread::name_hosts(std::vector<std::string> hosts) {
  const std::lock_guard lock(state_->mutex);
  state_->hosts = std::move(hosts);
}

void RankThread::set_lost_after(double seconds) {
  const std::lock_guard lock(state_->mutex);
  state_->deadlines.lost = Seconds(seconds);
}

std::future<void> RankThread::run(Work work, Patience patience) {
  Job job{std::move(work), patience, {}};
  std::future<void> done = job.done.get_future();
  {
    const std::lock_guard lock(state_->mutex);
    check(!state_->closing, "ranks: work after close()");
    ++state_->started;
    state_->jobs.push_back(std::move(job));
  }
  state_->changed.notify_all();
  return done;
}

void RankThread::fail(const Error& error) {
  state_->set_own_failure(error);
  state_->changed.notify_all();
}

bool RankThread::close() {
  if (!thread_.joinable()) return true;
  if (!state_->failed()) {
    try {
      std::int64_t nothing = 0;
      run([&nothing](Wire& wire) { wire.max(std::span(&nothing, 1)); }, Patience::endless).get();
    } catch (const std::exception&) {  // the state knows
    }
  }
  std::unique_lock lock(state_->mutex);
  state_->closing = true;
  state_->changed.notify_all();
  const bool ended =
      state_->changed.wait_for(lock, 3 * state_->deadlines.close, [this] { return state_->closed; });
  const bool clean = ended && state_->clean;
  lock.unlock();
  if (ended)
    thread_.join();
  else
    thread_.detach();
  // A transport that did not close must not be destroyed, either.
  static std::vector<std::shared_ptr<State>>* const left_open = new std::vector<std::shared_ptr<State>>;
  static std::mutex left_open_mutex;
  if (!clean) {
    const std::lock_guard left_open_lock(left_open_mutex);
    left_open->push_back(state_);
  }
  return clean;
}

}  // namespace faq
