#include "core/foreign_error.h"

#include <cerrno>
#include <filesystem>
#include <new>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <system_error>

namespace faq {
namespace {

ErrorKind kind_of(const std::error_code& code) {
  switch (code.value()) {
    case ENOMEM:
    case EAGAIN:  // of threads and processes: the limit is reached
      return ErrorKind::out_of_memory;
    case ENOENT:
      return ErrorKind::missing_input;
    default:
      return ErrorKind::io;
  }
}

bool of_system(const std::error_code& code) {
  return code.category() == std::generic_category() || code.category() == std::system_category();
}

}  // namespace

Error as_error(const std::exception& exception) {
  if (const auto* error = dynamic_cast<const Error*>(&exception)) return *error;
  if (dynamic_cast<const std::bad_alloc*>(&exception)) return {ErrorKind::out_of_memory, "out of memory"};
  if (const auto* error = dynamic_cast<const std::filesystem::filesystem_error*>(&exception))
    return {kind_of(error->code()), concat(error->path1().string(), ": ", error->code().message())};
  if (const auto* error = dynamic_cast<const std::system_error*>(&exception);
      error != nullptr && of_system(error->code()))
    return {kind_of(error->code()), error->what()};
  // Files are the only source of JSON that is not as it should be, and of sizes beyond all memory.
  if (dynamic_cast<const nlohmann::json::exception*>(&exception))
    return {ErrorKind::bad_data,
            concat("a file holds JSON of another form than expected: ", exception.what())};
  if (dynamic_cast<const std::length_error*>(&exception))
    return {ErrorKind::out_of_memory, concat("out of memory: ", exception.what())};
  return {ErrorKind::internal, concat("internal error: ", exception.what())};
}

}  // namespace faq
