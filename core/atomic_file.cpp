#include "core/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <string>
#include <system_error>
#include <vector>

#include "core/error.h"

namespace faq {
namespace {

// Beyond RLIMIT_FSIZE, write() fails with EFBIG, but first the calling thread gets SIGXFSZ, which would kill
// the process. The signal is blocked during the call and removed from the queue afterwards.
class HoldFileSizeSignal {
 public:
  HoldFileSizeSignal() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &signals_, &before_);
  }
  ~HoldFileSizeSignal() {
    const int error = errno;
    if (!sigismember(&before_, SIGXFSZ)) {
      const timespec no_wait{};
      while (sigtimedwait(&signals_, nullptr, &no_wait) > 0) {
      }
      pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }
    errno = error;
  }
  HoldFileSizeSignal(const HoldFileSizeSignal&) = delete;
  HoldFileSizeSignal& operator=(const HoldFileSizeSignal&) = delete;

 private:
  sigset_t signals_;
  sigset_t before_;
};

ssize_t write_once(int descriptor, std::span<const std::byte> bytes) {
  const HoldFileSizeSignal hold;
  return file_calls().write(descriptor, bytes.data(), bytes.size());
}

// The descriptor is closed whatever close() returns. After EINTR nothing is lost.
bool close_succeeds(int descriptor) { return file_calls().close(descriptor) == 0 || errno == EINTR; }

constexpr std::string_view marker = ".tmp.";

// ".<name>.tmp.<process id>"
bool is_temporary(std::string_view name) {
  const std::size_t at = name.rfind(marker);
  if (!name.starts_with('.') || at == std::string_view::npos || at == 0) return false;
  const std::string_view process = name.substr(at + marker.size());
  return !process.empty() && process.find_first_not_of("0123456789") == std::string_view::npos;
}

std::filesystem::path folder_of(const std::filesystem::path& file) {
  return file.has_parent_path() ? file.parent_path() : std::filesystem::path(".");
}

}  // namespace

FileCalls& file_calls() {
  static FileCalls calls{
      [](const char* file, int flags, mode_t mode) { return ::open(file, flags, mode); },
      ::read,
      ::write,
      ::fsync,
      ::close,
      ::rename,
      ::unlink,
  };
  return calls;
}

void remove_temporary_files(const std::filesystem::path& folder) noexcept {
  std::error_code ignored;
  std::vector<std::filesystem::path> found;
  for (auto entry = std::filesystem::directory_iterator(folder, ignored);
       entry != std::filesystem::directory_iterator(); entry.increment(ignored)) {
    if (is_temporary(entry->path().filename().string())) found.push_back(entry->path());
  }
  for (const auto& file : found) file_calls().unlink(file.c_str());
}

AtomicFile::AtomicFile(std::filesystem::path file) : file_(std::move(file)) {
  std::error_code ignored;
  const auto status = std::filesystem::status(file_, ignored);
  check(!std::filesystem::exists(status) || std::filesystem::is_regular_file(status), ErrorKind::io,
        "writing ", file_.string(), ": expected a regular file or none, found something else of that name");
  check(file_.has_filename(), ErrorKind::io, "writing '", file_.string(), "': expected the name of a file");

  const auto temporary =
      folder_of(file_) / concat(".", file_.filename().string(), marker, static_cast<long>(getpid()));
  constexpr int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
  descriptor_ = file_calls().open(temporary.c_str(), flags, 0666);
  if (descriptor_ < 0 && errno == EEXIST) {  // left by a killed process that had our process id
    file_calls().unlink(temporary.c_str());
    descriptor_ = file_calls().open(temporary.c_str(), flags, 0666);
  }
  if (descriptor_ < 0) give_up("open");
  temporary_ = temporary;
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::write(std::span<const std::byte> bytes) {
  check(descriptor_ >= 0, "AtomicFile: write after commit or failure");
  while (!bytes.empty()) {
    const ssize_t written = write_once(descriptor_, bytes);
    if (written < 0 && errno == EINTR) continue;
    if (written == 0) errno = ENOSPC;  // no progress and no error: do not retry for ever
    if (written <= 0) give_up("write");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void AtomicFile::commit() {
  check(descriptor_ >= 0, "AtomicFile: commit after commit or failure");
  if (file_calls().fsync(descriptor_) != 0) give_up("fsync");
  const int written = descriptor_;
  descriptor_ = -1;
  if (!close_succeeds(written)) give_up("close");

  const int folder = file_calls().open(folder_of(file_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (folder < 0) give_up("open of the folder");
  if (file_calls().rename(temporary_.c_str(), file_.c_str()) != 0) {
    const int error = errno;
    file_calls().close(folder);
    errno = error;
    give_up("rename");
  }
  temporary_.clear();
  // EINVAL: this file system has no fsync for folders.
  const bool synced = file_calls().fsync(folder) == 0 || errno == EINVAL;
  const int error = errno;
  file_calls().close(folder);
  errno = error;
  if (!synced) give_up("fsync of the folder");
}

void AtomicFile::give_up(const char* call) {
  const int error = errno;
  discard();
  fail(ErrorKind::io, "writing ", file_.string(), ": ", call,
       " failed: ", std::generic_category().message(error));
}

void AtomicFile::discard() noexcept {
  if (descriptor_ >= 0) file_calls().close(descriptor_);
  descriptor_ = -1;
  if (!temporary_.empty()) file_calls().unlink(temporary_.c_str());
  temporary_.clear();
}

}  // namespace faq
