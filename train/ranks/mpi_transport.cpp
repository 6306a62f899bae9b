// MPI as transport, through the C interface of MPI 3.1. No other file includes its header.
#include <mpi.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <climits>
#include <cstdlib>
#include <filesystem>
#include <thread>
#include <utility>
#include <vector>

#include "core/error.h"
#include "train/ranks/launcher.h"
#include "train/ranks/mpi.h"

namespace faq {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int num_channels = 3;
// How long a cancelled receive, and at the end what was given up, may take.
constexpr std::chrono::milliseconds cancel_patience{100}, close_patience{2000};

void check_mpi(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING + 1> text{};
  int length = 0;
  if (MPI_Error_string(code, text.data(), &length) != MPI_SUCCESS) length = 0;
  std::string reason(text.data(), static_cast<std::size_t>(length));
  std::ranges::replace(reason, '\n', ' ');
  fail(ErrorKind::io, call, ": ", reason.empty() ? concat("error ", code) : reason);
}

/// MPI 3.1 counts in int. The largest message of a run is the gradient of one tensor, which is far smaller
/// (VGG's first linear layer: 411 MB), so longer ones are refused and not cut into pieces.
int count_of(std::size_t count, const char* call) {
  check(count <= INT_MAX, call, ": expected at most ", INT_MAX, " elements, found ", count);
  return static_cast<int>(count);
}

// --- the CPUs of this process's threads, which MPI may change while it is initialised

/// The CPUs that a thread may run on, in the kernel's own form, for any number of CPUs.
using CpuMask = std::vector<unsigned long>;
constexpr std::size_t mask_words = 1024;  // 65 536 CPUs, more than the kernel can have

std::vector<std::pair<pid_t, CpuMask>> masks_of_threads() {
  std::vector<std::pair<pid_t, CpuMask>> masks;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task", ignored)) {
    const pid_t thread = static_cast<pid_t>(std::stol(entry.path().filename().string()));
    CpuMask mask(mask_words);
    if (::sched_getaffinity(thread, mask_words * sizeof(long), reinterpret_cast<cpu_set_t*>(mask.data())) ==
        0)
      masks.emplace_back(thread, std::move(mask));
  }
  return masks;
}

/// A library may bind the process while it is initialised, as hwloc does: all its threads, and not only the
/// calling one. So all of them get back what they had. Threads that MPI has made keep what it gave them.
class KeptCpus {
 public:
  KeptCpus() : masks_(masks_of_threads()) {}
  ~KeptCpus() {
    // A thread that has ended meanwhile is none of our business.
    for (auto& [thread, mask] : masks_)
      (void)::sched_setaffinity(thread, mask_words * sizeof(long), reinterpret_cast<cpu_set_t*>(mask.data()));
  }
  KeptCpus(const KeptCpus&) = delete;
  KeptCpus& operator=(const KeptCpus&) = delete;

 private:
  std::vector<std::pair<pid_t, CpuMask>> masks_;
};

// --- operations

bool test(MPI_Request& request) {
  int done = 0;
  check_mpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Test");
  return done != 0;
}

/// What operations share with their transport, and may outlive it.
struct Shared {
  bool ended = false;                  ///< MPI may not be called any more
  std::vector<MPI_Request> abandoned;  ///< destroyed before they were done
};

/// Cancels a receive. Returns true if MPI has no more to do with its memory.
bool cancel(MPI_Request& request) {
  if (MPI_Cancel(&request) != MPI_SUCCESS) return false;
  // Most libraries cancel at once. Network adapters may want to be asked several times. A receive that has
  // already met its message, from a sender that is no more, never ends.
  const auto deadline = Clock::now() + cancel_patience;
  do {
    if (test(request)) return true;
  } while (Clock::now() < deadline);
  return false;
}

class MpiRequest final : public Transport::Request {
 public:
  MpiRequest(std::shared_ptr<Shared> shared, MPI_Request request, bool is_receive)
      : shared_(std::move(shared)), request_(request), is_receive_(is_receive) {}
  MpiRequest(const MpiRequest&) = delete;
  MpiRequest& operator=(const MpiRequest&) = delete;

  bool done() override { return request_ == MPI_REQUEST_NULL || test(request_); }

  /// A receive is cancelled. MPI 3.1 has no way to give up a send or a collective: MPI_Request_free leaves
  /// the first running and is an error for the second. So their requests stay, and close() asks for them.
  ~MpiRequest() override {
    if (request_ == MPI_REQUEST_NULL || shared_->ended) return;
    try {
      if (test(request_) || (is_receive_ && cancel(request_))) return;
    } catch (const Error&) {  // the operation has failed: it is over
      if (request_ == MPI_REQUEST_NULL) return;
    }
    shared_->abandoned.push_back(request_);
  }

 private:
  std::shared_ptr<Shared> shared_;
  MPI_Request request_;
  bool is_receive_;
};

class MpiTransport final : public Transport {
 public:
  MpiTransport() {
    check_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
    check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &size_), "MPI_Comm_size");
    for (MPI_Comm& channel : channels_) channel = duplicate();
    collectives_ = duplicate();
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  Started send(int to, Channel channel, int tag, std::span<const std::byte> bytes) override {
    MPI_Request request = MPI_REQUEST_NULL;
    check_mpi(
        MPI_Isend(bytes.data(), count_of(bytes.size(), "send"), MPI_BYTE, to, tag, of(channel), &request),
        "MPI_Isend");
    return started(request);
  }

  Started receive(int from, Channel channel, int tag, std::span<std::byte> bytes) override {
    MPI_Request request = MPI_REQUEST_NULL;
    check_mpi(MPI_Irecv(bytes.data(), count_of(bytes.size(), "receive"), MPI_BYTE,
                        from == any_rank ? MPI_ANY_SOURCE : from, tag, of(channel), &request),
              "MPI_Irecv");
    return started(request, true);
  }

  Started reduce(std::span<std::int64_t> values, Reduction reduction) override {
    return reduce_in_place(values.data(), values.size(), MPI_INT64_T,
                           reduction == Reduction::max ? MPI_MAX : MPI_SUM);
  }

  Started sum(std::span<float> values) override {
    return reduce_in_place(values.data(), values.size(), MPI_FLOAT, MPI_SUM);
  }

  Started broadcast(std::span<std::byte> bytes, int from) override {
    MPI_Request request = MPI_REQUEST_NULL;
    check_mpi(
        MPI_Ibcast(bytes.data(), count_of(bytes.size(), "broadcast"), MPI_BYTE, from, collectives_, &request),
        "MPI_Ibcast");
    return started(request);
  }

  void close() override {
    // MPI_Finalize would wait for them, if need be for ever. A last small message is as good as sent.
    auto& abandoned = shared_->abandoned;
    const auto deadline = Clock::now() + close_patience;
    while (std::erase_if(abandoned, test), !abandoned.empty() && Clock::now() < deadline)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    check(abandoned.empty(), ErrorKind::io, "close: ", abandoned.size(),
          " operations were given up and did not end");
    for (MPI_Comm& channel : channels_) check_mpi(MPI_Comm_free(&channel), "MPI_Comm_free");
    check_mpi(MPI_Comm_free(&collectives_), "MPI_Comm_free");
    shared_->ended = true;
    check_mpi(MPI_Finalize(), "MPI_Finalize");
  }

  // MPI_Abort may wait for a launcher that cannot be reached. This process ends all the same.
  void abort(int exit_code) override {
    if (shared_->ended) return;
    std::thread([exit_code] {
      std::this_thread::sleep_for(std::chrono::seconds(5));
      std::_Exit(exit_code);
    }).detach();
    MPI_Abort(MPI_COMM_WORLD, exit_code);
  }

 private:
  MPI_Comm of(Channel channel) const { return channels_.at(static_cast<std::size_t>(channel)); }

  MPI_Comm duplicate() {
    MPI_Comm copy = MPI_COMM_NULL;
    check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &copy), "MPI_Comm_dup");
    check_mpi(MPI_Comm_set_errhandler(copy, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    return copy;
  }

  Started started(MPI_Request request, bool is_receive = false) {
    return std::make_unique<MpiRequest>(shared_, request, is_receive);
  }

  Started reduce_in_place(void* values, std::size_t size, MPI_Datatype type, MPI_Op op) {
    MPI_Request request = MPI_REQUEST_NULL;
    check_mpi(
        MPI_Iallreduce(MPI_IN_PLACE, values, count_of(size, "reduce"), type, op, collectives_, &request),
        "MPI_Iallreduce");
    return started(request);
  }

  int rank_ = 0;
  int size_ = 1;
  std::array<MPI_Comm, num_channels> channels_{};
  MPI_Comm collectives_ = MPI_COMM_NULL;
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

}  // namespace

std::unique_ptr<Transport> open_mpi() {
  int initialised = 0;
  check_mpi(MPI_Initialized(&initialised), "MPI_Initialized");
  check(!initialised, ErrorKind::io, "open_mpi: MPI was already initialised in this process");
  {
    const KeptCpus kept;
    int provided = MPI_THREAD_SINGLE;
    check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
    check(provided >= MPI_THREAD_FUNNELED, ErrorKind::io,
          "MPI_Init_thread: expected the thread level FUNNELED, found SINGLE in ", mpi_library());
  }
  return std::make_unique<MpiTransport>();
}

std::string mpi_library() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING + 1> text{};
  int length = 0;
  check_mpi(MPI_Get_library_version(text.data(), &length), "MPI_Get_library_version");
  return library_name(std::string(text.data(), static_cast<std::size_t>(length)));
}

}  // namespace faq
