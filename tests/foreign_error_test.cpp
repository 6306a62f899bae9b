#include "core/foreign_error.h"

#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

#include "tests/testing.h"

using namespace faq;
using namespace faq::testing;

TEST_CASE("only bugs are internal errors", "[errors]") {
  const auto of_system = [](int error) {
    return std::system_error(error, std::generic_category(), "a call");
  };
  struct Row {
    const char* what;
    std::function<void()> raise;
    ErrorKind kind;
    const char* text;
  };
  const Row rows[] = {
      {"our own", [] { fail(ErrorKind::diverged, "loss nan"); }, ErrorKind::diverged, "loss nan"},
      {"no memory", [] { throw std::bad_alloc(); }, ErrorKind::out_of_memory, "out of memory"},
      {"a size beyond all memory", [] { std::vector<int>().reserve(std::size_t(-1)); },
       ErrorKind::out_of_memory, "out of memory"},
      {"no thread", [&] { throw of_system(EAGAIN); }, ErrorKind::out_of_memory, "a call"},
      {"no descriptor", [&] { throw of_system(EMFILE); }, ErrorKind::io, "Too many open files"},
      {"a fault of the disk", [&] { throw of_system(EIO); }, ErrorKind::io, "Input/output error"},
      {"no such folder", [] { (void)std::filesystem::file_size("/no/such/file"); }, ErrorKind::missing_input,
       "/no/such/file: No such file"},
      {"a folder that cannot be read",
       [] {
         throw std::filesystem::filesystem_error("x", "/folder",
                                                 std::make_error_code(std::errc::permission_denied));
       },
       ErrorKind::io, "/folder: Permission denied"},
      {"JSON of another kind", [] { (void)nlohmann::json("text").get<int>(); }, ErrorKind::bad_data,
       "another form"},
      {"JSON without a key", [] { (void)nlohmann::json::object().at("a"); }, ErrorKind::bad_data,
       "another form"},
      {"a bug", [] { throw std::logic_error("two is one"); }, ErrorKind::internal,
       "internal error: two is one"},
  };
  for (const Row& row : rows) {
    INFO(row.what);
    try {
      row.raise();
      FAIL("nothing is thrown");
    } catch (const std::exception& exception) {
      const Error error = as_error(exception);
      CHECK(error.kind() == row.kind);
      CHECK(std::string(error.what()).find(row.text) != std::string::npos);
    }
  }
}
