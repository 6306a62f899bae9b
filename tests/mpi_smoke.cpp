// N ranks exchange messages of all kinds over MPI and check what arrives: mpirun -n N faq_mpi_smoke. As in a
// run, one thread that is not the first one owns MPI, and polls. Prints a line of figures on rank 0.
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <future>
#include <optional>
#include <thread>
#include <vector>

#include "core/error.h"
#include "train/ranks/launcher.h"
#include "train/ranks/mpi.h"

using namespace faq;

namespace {

std::atomic<bool> closing = false;

using Clock = std::chrono::steady_clock;
using Channel = Transport::Channel;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Every wait has a deadline: a test that hangs says nothing.
void wait(Transport::Request& request, const char* what) {
  const auto start = Clock::now();
  while (!request.done()) {
    check(seconds_since(start) < 30, ErrorKind::io, what, ": not done after 30 seconds");
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
}
void wait(const std::vector<Transport::Started>& requests, const char* what) {
  for (const auto& request : requests) wait(*request, what);
}

std::byte expected_byte(int from, int tag, std::size_t i) {
  return static_cast<std::byte>(
      (i * 31 + static_cast<std::size_t>(from) * 7 + static_cast<std::size_t>(tag)) % 251);
}
std::vector<std::byte> message(int from, int tag, std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = expected_byte(from, tag, i);
  return bytes;
}

/// All ranks send a message to all, themselves included, on all channels at once. The same tag on different
/// channels may not be confused.
void exchange(Transport& transport, std::size_t size) {
  const Channel channels[] = {Channel::data, Channel::heartbeat, Channel::notice};
  std::vector<Transport::Started> requests;
  std::vector<std::vector<std::byte>> sent, received;
  for (std::size_t c = 0; c < std::size(channels); ++c) {
    for (int other = 0; other < transport.size(); ++other) {
      received.emplace_back(size + 1);  // longer than the message
      requests.push_back(transport.receive(other, channels[c], Transport::tags - 1, received.back()));
    }
  }
  for (std::size_t c = 0; c < std::size(channels); ++c)
    sent.push_back(message(transport.rank(), static_cast<int>(c), size));
  for (std::size_t c = std::size(channels); c-- > 0;)
    for (int other = 0; other < transport.size(); ++other)
      requests.push_back(transport.send(other, channels[c], Transport::tags - 1, sent[c]));
  wait(requests, "exchange");
  for (std::size_t c = 0; c < std::size(channels); ++c) {
    for (int other = 0; other < transport.size(); ++other) {
      auto& bytes =
          received[c * static_cast<std::size_t>(transport.size()) + static_cast<std::size_t>(other)];
      bytes.resize(size);
      check(bytes == message(other, static_cast<int>(c), size), ErrorKind::internal, "exchange: ", size,
            " bytes of rank ", other, " on channel ", c, " arrived wrongly");
    }
  }
}

/// Heartbeats: any rank's, while a large broadcast is under way.
void heartbeats(Transport& transport) {
  std::vector<std::byte> large =
      transport.rank() == 0 ? message(0, 5, 30'000'000) : std::vector<std::byte>(30'000'000);
  const auto broadcast = transport.broadcast(large, 0);
  const std::byte beat{static_cast<unsigned char>(transport.rank())};
  std::byte heard{};
  int sum = 0;
  std::vector<Transport::Started> sent;
  for (int other = 0; other < transport.size(); ++other)
    sent.push_back(transport.send(other, Channel::heartbeat, 0, {&beat, 1}));
  for (int i = 0; i < transport.size(); ++i) {
    wait(*transport.receive(Transport::any_rank, Channel::heartbeat, 0, {&heard, 1}), "heartbeat");
    sum += static_cast<int>(heard);
  }
  check(sum == transport.size() * (transport.size() - 1) / 2, ErrorKind::internal, "heartbeats: sum ", sum);
  wait(sent, "heartbeat");
  wait(*broadcast, "broadcast");
  check(large == message(0, 5, large.size()), ErrorKind::internal, "broadcast: wrong bytes");
}

void reductions(Transport& transport, std::size_t size) {
  const std::int64_t n = transport.size(), rank = transport.rank(), large = std::int64_t{1} << 40;
  std::vector<std::int64_t> sums(size), largest(size);
  std::vector<float> floats(size);
  for (std::size_t i = 0; i < size; ++i) {
    sums[i] = large * (rank + 1) + static_cast<std::int64_t>(i);
    largest[i] = (rank + static_cast<std::int64_t>(i)) % n - large;
    floats[i] = static_cast<float>(rank + static_cast<std::int64_t>(i % 1000));
  }
  const auto first = transport.reduce(sums, Transport::Reduction::sum);
  const auto second = transport.reduce(largest, Transport::Reduction::max);
  const auto third = transport.sum(floats);
  wait(*third, "sum of floats");
  wait(*first, "sum");
  wait(*second, "max");
  for (std::size_t i = 0; i < size; ++i) {
    const std::int64_t steps = n * (n - 1) / 2;
    check(sums[i] == large * (steps + n) + n * static_cast<std::int64_t>(i), ErrorKind::internal,
          "sum: value ", i);
    check(largest[i] == n - 1 - large, ErrorKind::internal, "max: value ", i);
    check(floats[i] == static_cast<float>(steps + n * static_cast<std::int64_t>(i % 1000)),
          ErrorKind::internal, "sum of floats: value ", i, ": ", floats[i]);
  }
}

/// What a message that is too long, a receive that is given up and a count that MPI cannot say do.
void refusals(Transport& transport) {
  const auto fails = [](ErrorKind kind, const std::function<void()>& act) {
    try {
      act();
    } catch (const Error& error) {
      return error.kind() == kind;
    }
    return false;
  };
  std::vector<std::byte> bytes(100);
  {
    const auto never = transport.receive(transport.rank(), Channel::notice, 1, bytes);
    check(!never->done(), ErrorKind::internal, "a receive without a message is done");
  }
  // The cancelled receive does not take the message.
  const auto sent = transport.send(transport.rank(), Channel::notice, 1, message(transport.rank(), 1, 100));
  const auto received = transport.receive(transport.rank(), Channel::notice, 1, bytes);
  wait(*received, "after a cancelled receive");
  check(bytes == message(transport.rank(), 1, 100), ErrorKind::internal,
        "after a cancelled receive: wrong bytes");
  wait(*sent, "after a cancelled receive");

  // To the next rank: Open MPI 4.1 does not report it of a message to oneself.
  const int next = (transport.rank() + 1) % transport.size();
  const int last = (transport.rank() + transport.size() - 1) % transport.size();
  const std::vector<std::byte> longer = message(0, 0, 101);
  const auto too_long = transport.send(next, Channel::notice, 2, longer);
  check(
      fails(ErrorKind::io,
            [&] { wait(*transport.receive(last, Channel::notice, 2, bytes), "a message that is too long"); }),
      ErrorKind::internal, "a message that is longer than its memory: no error");
  wait(*too_long, "a message that is too long");
  check(fails(ErrorKind::io, [&] { transport.send(transport.size(), Channel::data, 0, bytes); }),
        ErrorKind::internal, "a rank that does not exist: no error");
  check(fails(ErrorKind::internal,
              [&] {
                transport.send(0, Channel::data, 0, {bytes.data(), std::size_t{1} << 31});
              }),
        ErrorKind::internal, "2^31 bytes: no error");
}

std::string mask_of(pid_t thread) {
  std::string text;
  cpu_set_t mask;
  if (::sched_getaffinity(thread, sizeof mask, &mask) != 0) return "?";
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &mask)) text += concat(text.empty() ? "" : ",", cpu);
  return text;
}

void run(pid_t main_thread) {
  const auto launch = launch_of_process();
  check(launch.has_value(), ErrorKind::usage,
        "faq_mpi_smoke: start it by mpirun or srun with two or more ranks");
  const std::string library = mpi_library();
  check_before_mpi(*launch, library);
  const std::string before = mask_of(0), main_before = mask_of(main_thread);
  auto start = Clock::now();
  const auto transport = open_mpi();
  const double opened = seconds_since(start);
  check_launch(*launch, transport->size(), library);
  check(transport->rank() == launch->rank, ErrorKind::internal, "rank: expected ", launch->rank, ", found ",
        transport->rank());
  check(mask_of(0) == before && mask_of(main_thread) == main_before, ErrorKind::internal, "CPUs before ",
        before, " and ", main_before, ", after MPI_Init ", mask_of(0), " and ", mask_of(main_thread));
  start = Clock::now();
  for (const std::size_t size : {0, 1, 1000, 100'000, 10'000'000}) exchange(*transport, size);
  for (const std::size_t size : {1, 1000, 7'500'000}) reductions(*transport, size);
  heartbeats(*transport);
  refusals(*transport);
  const double worked = seconds_since(start);
  start = Clock::now();
  closing = true;
  transport->close();
  if (transport->rank() == 0)
    std::printf("%s, %s: %d ranks, open %.2f s, work %.2f s, close %.2f s, CPUs %s\n", library.c_str(),
                launch->launcher.c_str(), transport->size(), opened, worked, seconds_since(start),
                before.c_str());
}

}  // namespace

int main() {
  int code = 0;
  const pid_t main_thread = ::getpid();
  std::promise<void> ended;
  std::thread thread([&] {
    try {
      run(main_thread);
    } catch (const Error& error) {
      std::fprintf(stderr, "faq_mpi_smoke: %s\n", error.what());
      code = error.exit_code();
    }
    ended.set_value();
  });
  std::future<void> end = ended.get_future();
  while (!closing && end.wait_for(std::chrono::milliseconds(10)) == std::future_status::timeout) {
  }
  // Across nodes MPICH 4.0 sometimes hangs in MPI_Finalize, when all is done. As a run does, go without it.
  if (end.wait_for(std::chrono::seconds(10)) == std::future_status::timeout) {
    std::fprintf(stderr, "faq_mpi_smoke: MPI_Finalize hangs; ended without it\n");
    std::_Exit(0);
  }
  thread.join();
  std::fflush(nullptr);
  // Ranks that have failed do not wait for the others in functions that MPI runs at the end.
  if (code != 0) std::_Exit(code);
  return code;
}
