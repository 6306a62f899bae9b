#include "core/regular_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "core/atomic_file.h"
#include "core/file_error.h"

namespace faq {
namespace {

std::string reason(int error) { return std::generic_category().message(error); }

const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

}  // namespace

RegularFile::RegularFile(std::filesystem::path file, const std::string& what)
    : path_(std::move(file)), name_(what.empty() ? path_.string() : concat(what, " ", path_.string())) {
  // O_NONBLOCK: opening a pipe must not wait for somebody who writes to it.
  do {
    descriptor_ = file_calls().open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
  } while (descriptor_ < 0 && errno == EINTR);
  if (descriptor_ < 0) {
    const int error = errno;
    // A socket cannot be opened at all.
    std::error_code ignored;
    check(!std::filesystem::is_socket(path_, ignored), ErrorKind::bad_data, name_,
          ": expected a file, found a socket");
    fail(kind_of_file_error(error), name_, ": cannot be opened: ", reason(error));
  }
  try {
    struct stat status {};
    check(::fstat(descriptor_, &status) == 0, ErrorKind::io, name_, ": cannot be examined: ", reason(errno));
    check(S_ISREG(status.st_mode), ErrorKind::bad_data, name_, ": expected a file, found ",
          kind_of(status.st_mode));
    bytes_ = static_cast<std::int64_t>(status.st_size);
  } catch (...) {
    file_calls().close(descriptor_);
    throw;
  }
}

RegularFile::~RegularFile() { file_calls().close(descriptor_); }

template <class ReadSome>
std::size_t RegularFile::fill(std::span<std::byte> into, const ReadSome& read_some) const {
  std::size_t filled = 0;
  while (filled < into.size()) {
    const ssize_t n = read_some(into.subspan(filled), filled);
    if (n < 0 && errno == EINTR) continue;
    check(n >= 0, ErrorKind::io, name_, ": reading failed: ", reason(errno));
    if (n == 0) break;
    filled += static_cast<std::size_t>(n);
  }
  return filled;
}

std::size_t RegularFile::read(std::span<std::byte> into) const {
  return fill(into, [&](std::span<std::byte> rest, std::size_t) {
    return file_calls().read(descriptor_, rest.data(), rest.size());
  });
}

std::size_t RegularFile::read_at(std::int64_t position, std::span<std::byte> into) const {
  return fill(into, [&](std::span<std::byte> rest, std::size_t filled) {
    return ::pread(descriptor_, rest.data(), rest.size(), position + static_cast<std::int64_t>(filled));
  });
}

std::string read_text_file(const std::filesystem::path& file, const std::string& what,
                           std::int64_t max_bytes) {
  const RegularFile in(file, what);
  const auto refuse_longer = [&](std::int64_t bytes) {
    check(bytes <= max_bytes, ErrorKind::bad_data, what, " ", file.string(), ": expected at most ", max_bytes,
          " bytes, found ", bytes > max_bytes && bytes == in.bytes() ? "" : "at least ", bytes);
  };
  refuse_longer(in.bytes());
  // Read to the end, not to the size: files of /proc have none.
  std::string text;
  constexpr std::size_t step = 1 << 16;
  for (std::size_t filled = 0;;) {
    text.resize(filled + step);
    const std::size_t n = in.read(std::as_writable_bytes(std::span(text.data() + filled, step)));
    filled += n;
    refuse_longer(static_cast<std::int64_t>(filled));
    if (n == step) continue;
    text.resize(filled);
    return text;
  }
}

}  // namespace faq
