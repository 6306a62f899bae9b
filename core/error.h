// Errors of the library. Libraries throw; only the programs print and choose the exit code.
#pragma once

#include <locale>
#include <sstream>
#include <stdexcept>
#include <string>

namespace faq {

/// The kind of an error. Its value is the sysexits code that the programs exit with (docs/commands.md, "Exit
/// codes").
enum class ErrorKind {
  usage = 64,          ///< an option or a combination of options that makes no sense
  bad_data = 65,       ///< data, weights or a checkpoint that cannot be used
  missing_input = 66,  ///< a file or folder that does not exist or cannot be opened
  internal = 70,       ///< a bug in this library, or a violated precondition
  out_of_memory = 71,
  io = 74,        ///< writing or reading failed
  stopped = 75,   ///< stopped by a signal after saving a checkpoint
  diverged = 76,  ///< non-finite loss or gradient
};

/// The message is one line: the operation, the object, what was expected and what was found.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }
  int exit_code() const { return static_cast<int>(kind_); }

 private:
  ErrorKind kind_;
};

/// Concatenates all parts as `operator<<` writes them. The program's locale has no influence, because some of
/// these texts go into files.
template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  out.imbue(std::locale::classic());
  (out << ... << parts);
  return out.str();
}

template <class... Parts>
[[noreturn]] void fail(ErrorKind kind, const Parts&... parts) {
  throw Error(kind, concat(parts...));
}

/// Throws Error(kind, parts...) unless `condition` holds.
template <class... Parts>
void check(bool condition, ErrorKind kind, const Parts&... parts) {
  if (!condition) [[unlikely]]
    fail(kind, parts...);
}

/// Throws Error(internal, …) unless `condition` holds: a precondition of a library function is violated.
template <class... Parts>
void check(bool condition, const char* first, const Parts&... parts) {
  if (!condition) [[unlikely]]
    fail(ErrorKind::internal, first, parts...);
}

}  // namespace faq
