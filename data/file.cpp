#include "data/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace faq {
namespace {

/// A file descriptor that closes itself.
struct Descriptor {
  int fd;
  explicit Descriptor(int descriptor) : fd(descriptor) {}
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
};

std::string reason(int error) { return std::system_category().message(error); }

}  // namespace

ErrorKind kind_of_open_error(int error) {
  const bool ours = error == EMFILE || error == ENFILE || error == EIO;
  return ours ? ErrorKind::io : ErrorKind::missing_input;
}

std::vector<std::byte> read_file(const std::filesystem::path& file, std::int64_t max_bytes) {
  // O_NONBLOCK: opening a named pipe must not wait for a writer.
  const Descriptor in(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (in.fd < 0) {
    const int error = errno;
    fail(kind_of_open_error(error), file.string(), ": cannot be opened: ", reason(error));
  }
  struct stat status {};
  check(::fstat(in.fd, &status) == 0, ErrorKind::io, file.string(), ": cannot be examined: ", reason(errno));
  check(S_ISREG(status.st_mode), ErrorKind::bad_data, file.string(), ": expected a file, found ",
        S_ISDIR(status.st_mode) ? "a directory" : "a device or pipe");
  const auto size = static_cast<std::int64_t>(status.st_size);
  check(size <= max_bytes, ErrorKind::bad_data, file.string(), ": expected at most ", max_bytes,
        " bytes, found ", size);

  std::vector<std::byte> bytes(static_cast<std::size_t>(size));
  std::size_t filled = 0;
  while (filled < bytes.size()) {
    const ssize_t n = ::read(in.fd, bytes.data() + filled, bytes.size() - filled);
    if (n < 0 && errno == EINTR) continue;
    check(n >= 0, ErrorKind::io, file.string(), ": reading failed: ", reason(errno));
    if (n == 0) break;  // the file shrank meanwhile; the parser will report it
    filled += static_cast<std::size_t>(n);
  }
  bytes.resize(filled);
  return bytes;
}

}  // namespace faq
