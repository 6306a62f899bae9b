#include "data/file.h"

#include "core/regular_file.h"

namespace faq {

std::vector<std::byte> read_file(const std::filesystem::path& file, std::int64_t max_bytes) {
  const RegularFile in(file);
  check(in.bytes() <= max_bytes, ErrorKind::bad_data, file.string(), ": expected at most ", max_bytes,
        " bytes, found ", in.bytes());
  std::vector<std::byte> bytes(static_cast<std::size_t>(in.bytes()));
  bytes.resize(in.read(bytes));  // a file that shrank meanwhile: the parser will report it
  return bytes;
}

}  // namespace faq
