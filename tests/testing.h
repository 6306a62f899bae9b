// What the tests of quant/, train/ and tools/ share: tiny data sets, and the programs run as a user would.
// Temporary folders and errors are those of data_testing.h.
#pragma once

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include "core/parallel.h"
#include "core/rng.h"
#include "core/safetensors.h"
#include "nn/models.h"
#include "tests/data_testing.h"
#include "tests/reference.h"

namespace faq::testing {

/// One OpenMP thread while alive: small tensors gain nothing from more, and threads that wait for each other
/// on a busy machine cost a hundred times the work.
struct OneThread {
  OneThread() { set_num_threads(1); }
  ~OneThread() { set_num_threads(0); }
};

// --- networks

/// The logits of a training forward, as a run makes it: the statistics of the batch become part of the
/// running ones.
inline Var forward_in_training(Model& model, const Tensor& images, PrecisionPlan precision = {}) {
  BatchStatistics statistics;
  RandomKeys keys;
  for (std::int64_t i = 0; i < images.dim(0); ++i) keys.samples.push_back(i);
  const Var logits = model.forward(
      training_pass(std::move(keys), &statistics, GradFormat::f32, std::move(precision)), Var(images));
  update_running_statistics(statistics);
  return logits;
}

// --- programs

/// How a program ended, and what it said.
struct Outcome {
  int code = -1;   ///< exit code; -1 when a signal ended it
  int signal = 0;  ///< that signal
  std::string out, err;
};

/// A program in the background; ended with SIGKILL when nobody waits for it.
class Process {
 public:
  /// `standard_output`: a file; empty: captured.
  Process(const std::string& program, const std::vector<std::string>& arguments,
          const std::string& standard_output = "") {
    std::vector<std::string> words{program};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    const std::string out = standard_output.empty() ? (folder_ / "out").string() : standard_output;
    const std::string err = (folder_ / "err").string();
    pid_ = ::fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      const int o = ::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
      const int e = ::open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
      if (o < 0 || e < 0 || ::dup2(o, 1) < 0 || ::dup2(e, 2) < 0) ::_exit(126);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
  }
  ~Process() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  bool running() {
    if (pid_ <= 0) return false;
    if (::waitpid(pid_, &status_, WNOHANG) == 0) return true;
    pid_ = 0;
    return false;
  }
  /// True if the process runs this program already (and not the test, of which it was forked), and has a
  /// handler for the signal, or holds it back: from then on it does not die of it.
  bool holds(const std::string& program, int signal) {
    std::error_code gone;
    if (fs::read_symlink(concat("/proc/", pid_, "/exe"), gone) != fs::path(program)) return false;
    std::ifstream status(concat("/proc/", pid_, "/status"));
    unsigned long long mask = 0;
    for (std::string line; std::getline(status, line);)
      if (line.starts_with("SigBlk:") || line.starts_with("SigCgt:"))
        mask |= std::stoull(line.substr(7), nullptr, 16);
    return (mask >> (signal - 1) & 1) != 0;
  }
  void send(int signal) {
    if (running()) ::kill(pid_, signal);
  }
  /// Waits until `condition` holds; false when the program ended, or two minutes passed, before it did.
  template <class Condition>
  bool wait_until(Condition condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(2);
    while (!condition()) {
      if (!running() || std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }
  Outcome wait() {
    if (pid_ > 0) REQUIRE(::waitpid(pid_, &status_, 0) == pid_);
    pid_ = 0;
    Outcome outcome;
    if (WIFEXITED(status_)) outcome.code = WEXITSTATUS(status_);
    if (WIFSIGNALED(status_)) outcome.signal = WTERMSIG(status_);
    if (fs::exists(folder_ / "out")) outcome.out = file_bytes(folder_ / "out");
    outcome.err = file_bytes(folder_ / "err");
    return outcome;
  }

 private:
  TemporaryFolder folder_;
  pid_t pid_ = 0;
  int status_ = 0;
};

using Words = std::vector<std::string>;

inline Outcome run_program(const std::string& program, const Words& arguments,
                           const std::string& standard_output = "") {
  return Process(program, arguments, standard_output).wait();
}

inline std::vector<std::string> operator+(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

inline std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

// --- files

/// An 8-bit PNG of H,W,C pixels (C 1 or 3), without filters. `surplus`: bytes after the last pixel's.
inline std::string png(const Image& image, std::size_t surplus = 0) {
  const auto u32 = [](std::uint32_t v) {
    return std::string{static_cast<char>(v >> 24), static_cast<char>(v >> 16), static_cast<char>(v >> 8),
                       static_cast<char>(v)};
  };
  const auto chunk = [&](const std::string& type, const std::string& data) {
    const std::string body = type + data;
    const auto crc = ::crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size()));
    return u32(static_cast<std::uint32_t>(data.size())) + body + u32(static_cast<std::uint32_t>(crc));
  };
  const std::size_t row = static_cast<std::size_t>(image.width) * image.channels;
  std::string raw;
  for (int y = 0; y < image.height; ++y) {
    raw += '\0';
    raw.append(reinterpret_cast<const char*>(image.pixels.data()) + y * row, row);
  }
  raw.append(surplus, '\0');
  uLongf size = ::compressBound(static_cast<uLong>(raw.size()));
  std::string packed(size, '\0');
  REQUIRE(::compress(reinterpret_cast<Bytef*>(packed.data()), &size,
                     reinterpret_cast<const Bytef*>(raw.data()), static_cast<uLong>(raw.size())) == Z_OK);
  packed.resize(size);
  const std::string kind{8, static_cast<char>(image.channels == 3 ? 2 : 0), 0, 0, 0};
  return "\x89PNG\r\n\x1A\n" +
         chunk("IHDR", u32(static_cast<std::uint32_t>(image.width)) +
                           u32(static_cast<std::uint32_t>(image.height)) + kind) +
         chunk("IDAT", packed) + chunk("IEND", "");
}

/// Stripes whose direction and colour tell the class (0 to 2), under noise.
inline Image pattern(int label, int size, std::uint64_t salt) {
  Random random(7, RandomStream::test, salt);
  Image image{size, size, 3, {}};
  const int phase = static_cast<int>(random.below(4));
  for (int y = 0; y < size; ++y) {
    for (int x = 0; x < size; ++x) {
      const int along = label == 0 ? x : label == 1 ? y : x + y;
      for (int c = 0; c < 3; ++c) {
        const int bright = (along + phase) / 2 % 2 * (c == label ? 140 : 60);
        image.pixels.push_back(static_cast<std::uint8_t>(bright + static_cast<int>(random.below(100))));
      }
    }
  }
  return image;
}

/// An image folder of three classes, the same bytes every time.
inline void write_data_set(const fs::path& folder, int train = 200, int val = 50, int size = 16) {
  const char* names[] = {"across", "down", "slanted"};
  for (int i = 0; i < train + val; ++i) {
    const bool training = i < train;
    const int label = i % 3;
    write_file(folder / (training ? "train" : "val") / names[label] / concat(1000 + i, ".png"),
               png(pattern(label, size, static_cast<std::uint64_t>(i))));
  }
}

/// What differs between the tensors of two files, as text; empty: the same names, shapes and bytes.
inline std::string tensor_difference(const fs::path& a, const fs::path& b) {
  const NamedTensors left = read_safetensors(a), right = read_safetensors(b);
  if (left.tensors.size() != right.tensors.size())
    return concat(left.tensors.size(), " and ", right.tensors.size(), " tensors");
  for (const auto& [name, tensor] : left.tensors) {
    const Tensor* other = right.find(name);
    if (!other) return "no " + name;
    if (!reference::same_bytes(tensor, *other)) return name;
  }
  return "";
}

}  // namespace faq::testing
