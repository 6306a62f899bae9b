#include "core/safetensors.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>
#include <system_error>
#include <unordered_set>
#include <utility>

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/file_kind.h"
#include "core/regular_file.h"
#include "core/safetensors_header.h"

namespace faq {
namespace {

static_assert(std::endian::native == std::endian::little,
              "safetensors values are stored as they are in memory");

using namespace safetensors;

constexpr const char* checksum_key = "crc32";

// ---- Checksums ----

std::uint32_t crc32_of(const void* bytes, std::size_t count) {
  return static_cast<std::uint32_t>(crc32_z(0, static_cast<const Bytef*>(bytes), count));
}

/// True if an entry of the metadata is the checksums of this file's tensors, whatever it is called.
bool holds_checksums(const std::string& text, const Header& header) {
  if (!text.starts_with('{')) return false;
  try {
    const Checksums checksums = parse_checksums(text, "");
    return checksums.contains(metadata_key) &&
           std::ranges::all_of(header.entries, [&](const Entry& e) { return checksums.contains(e.name); });
  } catch (const Error&) {
    return false;
  }
}

/// Returns the checksums of a file (empty: none). Removes their entry from the metadata and verifies the
/// checksum of the header.
Checksums take_checksums(Header& header, const std::string& context) {
  const auto found = header.metadata.find(checksum_key);
  if (found == header.metadata.end()) {
    // One damaged byte in the key must not turn all checksums off. What they cover, the rest of the header
    // among it, says itself that they belong to this file.
    for (const auto& [key, value] : header.metadata)
      check(!holds_checksums(value, header), ErrorKind::bad_data, context,
            "the header is damaged: the checksums are called ", quoted(key), ", expected ",
            quoted(checksum_key));
    return {};
  }
  Checksums checksums = parse_checksums(found->second, context + "checksums: ");
  header.metadata.erase(found);
  for (const Entry& e : header.entries)
    check(checksums.contains(e.name), ErrorKind::bad_data, context, "no checksum of ", quoted(e.name));
  check(checksums.size() == header.entries.size() + checksums.count(metadata_key), ErrorKind::bad_data,
        context, "checksums of ", checksums.size() - checksums.count(metadata_key), " tensors, expected ",
        header.entries.size());
  if (const auto own = checksums.find(metadata_key); own != checksums.end()) {
    const std::string text = header_text(header.entries, header.metadata);
    const std::uint32_t actual = crc32_of(text.data(), text.size());
    check(own->second == actual, ErrorKind::bad_data, context, "the header is damaged: expected CRC-32 ",
          hex(own->second), ", found ", hex(actual));
  }
  return checksums;
}

// ---- Reading ----

/// A file or memory: a known number of bytes that can be read at any offset.
struct Source {
  std::string name;
  std::uint64_t bytes = 0;
  std::function<void(std::uint64_t offset, std::span<std::byte> into)> read;
};

void validate(const Entry& e, std::uint64_t buffer_bytes) {
  check(e.offsets[0] <= e.offsets[1] && e.offsets[1] <= buffer_bytes, ErrorKind::bad_data, "data_offsets [",
        e.offsets[0], ", ", e.offsets[1], "] do not lie within the buffer of ", buffer_bytes, " bytes");
  // Extents of 0 count as 1 here, so a later multiplication cannot overflow in any order.
  std::int64_t product = static_cast<std::int64_t>(sizeof(std::int64_t));
  bool empty = false;
  for (std::size_t i = 0; i < e.rank; ++i) {
    empty = empty || e.extents[i] == 0;
    check(!__builtin_mul_overflow(product, std::max<std::uint64_t>(e.extents[i], 1), &product),
          ErrorKind::bad_data, "the shape has more elements than can be counted");
  }
  const std::uint64_t expected =
      empty ? 0 : static_cast<std::uint64_t>(product) / sizeof(std::int64_t) * e.format->size;
  check(e.bytes() == expected, ErrorKind::bad_data, "expected ", expected, " bytes for ", e.format->name, " ",
        e.shape(), ", found ", e.bytes(), " at data_offsets [", e.offsets[0], ", ", e.offsets[1], "]");
}

/// Reads and validates everything before the buffer. The entries are returned in the order of their data.
Header read_header(const Source& source, std::uint64_t& buffer_start) {
  const std::string context = concat("reading ", source.name, ": ");
  std::uint64_t length = 0;
  check(source.bytes >= sizeof(length), ErrorKind::bad_data, context,
        "expected a safetensors file, found only ", source.bytes, " bytes");
  source.read(0, std::as_writable_bytes(std::span(&length, 1)));
  const std::uint64_t rest = source.bytes - sizeof(length);
  const bool plausible = length >= 2 && length <= max_header_bytes && length <= rest;
  // Of what is no header, enough to see what it is instead. Reading goes on, never back.
  std::string text(plausible ? length : std::min<std::uint64_t>(rest, file_kind_bytes), '\0');
  source.read(sizeof(length), std::as_writable_bytes(std::span(text)));
  if (!plausible || text[0] != '{') {
    std::string start(sizeof(length), '\0');
    std::memcpy(start.data(), &length, sizeof(length));
    const std::string kind = file_kind(start + text.substr(0, file_kind_bytes));
    check(kind.empty(), ErrorKind::bad_data, context, "expected a safetensors file, found ", kind);
  }
  check(length >= 2 && length <= max_header_bytes, ErrorKind::bad_data, context, "expected a header of 2 to ",
        max_header_bytes, " bytes at offset 0, found length ", length);
  check(length <= rest, ErrorKind::bad_data, context, "the header of ", length,
        " bytes ends beyond the file of ", source.bytes, " bytes");
  check(text[0] == '{', ErrorKind::bad_data, context, "expected '{' at offset 8, found byte ",
        static_cast<int>(static_cast<unsigned char>(text[0])));

  Header header = parse_header(text, context + "header: ");
  buffer_start = sizeof(length) + length;
  const std::uint64_t buffer_bytes = source.bytes - buffer_start;

  std::ranges::stable_sort(header.entries, {}, &Entry::offsets);
  std::uint64_t end = 0;
  for (const Entry& e : header.entries) {
    try {
      validate(e, buffer_bytes);
      check(e.offsets[0] == end, ErrorKind::bad_data, e.offsets[0] < end ? "overlap" : "hole",
            " in the buffer: expected data at offset ", end, ", found ", e.offsets[0]);
    } catch (const Error& error) {  // the text of the place is made only when it is needed
      fail(ErrorKind::bad_data, context, "tensor ", quoted(e.name), ": ", error.what());
    }
    end = e.offsets[1];
  }
  check(end == buffer_bytes, ErrorKind::bad_data, context, "expected ", buffer_start + end, " bytes, found ",
        source.bytes, ": ", buffer_bytes - end, " trailing bytes");
  return header;
}

float half_to_float(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000u) << 16;
  const std::uint32_t rest = (half & 0x7fffu) << 13;
  if (rest >= 0x7c00u << 13) return std::bit_cast<float>(sign | 0x7f800000u | rest);  // infinity or NaN
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(std::bit_cast<float>(rest) * 0x1p112f));
}

template <class From, class To, class Convert>
void convert_all(std::span<const std::byte> bytes, Tensor& to, Convert convert) {
  To* out = to.mutable_data<To>();
  for (std::size_t i = 0; i * sizeof(From) < bytes.size(); ++i) {
    From value;
    std::memcpy(&value, bytes.data() + i * sizeof(From), sizeof(From));
    out[i] = convert(value, i);
  }
}

/// Throws bad_data for a number that does not fit.
void convert(const Format& from, std::span<const std::byte> bytes, Tensor& to) {
  const std::string_view name = from.name;
  if (name == "BOOL") {
    std::ranges::copy(bytes, static_cast<std::byte*>(to.mutable_raw()));
  } else if (name == "F16") {
    convert_all<std::uint16_t, float>(bytes, to,
                                      [](std::uint16_t x, std::size_t) { return half_to_float(x); });
  } else if (name == "F64") {
    convert_all<double, float>(bytes, to, [&](double x, std::size_t i) {
      check(!std::isfinite(x) || std::abs(x) <= std::numeric_limits<float>::max(), ErrorKind::bad_data,
            "value ", x, " of element ", i, " does not fit f32");
      return static_cast<float>(x);
    });
  } else {
    convert_all<std::int64_t, std::int32_t>(bytes, to, [&](std::int64_t x, std::size_t i) {
      check(std::in_range<std::int32_t>(x), ErrorKind::bad_data, "value ", x, " of element ", i,
            " does not fit s32");
      return static_cast<std::int32_t>(x);
    });
  }
}

/// True if a tensor of that dtype is written in that format, which is the first one that loads as the dtype.
bool is_written_as(DType dtype, const Format& format) {
  return &format == std::ranges::find(formats, dtype, &Format::loads_as);
}

enum class Unusable { refused, listed };

NamedTensors read_contents(const Source& source, Unusable unusable) {
  const std::string context = concat("reading ", source.name, ": ");
  std::uint64_t buffer_start = 0;
  Header header = read_header(source, buffer_start);
  const auto checksums = take_checksums(header, context);

  NamedTensors contents;
  contents.has_checksums = !checksums.empty();
  contents.metadata = std::move(header.metadata);
  for (const Entry& e : header.entries) {
    Tensor value = e.format->loads_as ? Tensor::empty(e.shape(), *e.format->loads_as) : Tensor();
    std::vector<std::byte> staged;
    const bool as_is = value.defined() && is_written_as(value.dtype(), *e.format);
    if (!as_is) staged.resize(e.bytes());
    const std::span<std::byte> bytes =
        as_is ? std::span(static_cast<std::byte*>(value.mutable_raw()), value.bytes()) : std::span(staged);
    source.read(buffer_start + e.offsets[0], bytes);
    if (const auto checksum = checksums.find(e.name); checksum != checksums.end()) {
      const std::uint32_t actual = crc32_of(bytes.data(), bytes.size());
      if (checksum->second != actual)
        fail(ErrorKind::bad_data, context, "tensor ", quoted(e.name), ": the data at offset ",
             buffer_start + e.offsets[0], " are damaged: expected CRC-32 ", hex(checksum->second), ", found ",
             hex(actual));
    }
    try {
      check(value.defined(), ErrorKind::bad_data, "dtype ", e.format->name);
      if (!as_is) convert(*e.format, bytes, value);
      contents.add(e.name, std::move(value));
    } catch (const Error& error) {
      if (unusable == Unusable::refused)
        fail(ErrorKind::bad_data, context, "tensor ", quoted(e.name), ": ", error.what());
      contents.unusable.push_back({e.name, error.what()});
    }
  }
  return contents;
}

NamedTensors read_all(const Source& source) { return read_contents(source, Unusable::refused); }

// Uses plain read(), not mmap: a file that shrinks meanwhile is an error, not a SIGBUS. Reads go from front
// to back.
void read_next(int descriptor, std::uint64_t offset, std::span<std::byte> into, const std::string& context) {
  while (!into.empty()) {
    const ssize_t count = file_calls().read(descriptor, into.data(), into.size());
    if (count < 0 && errno == EINTR) continue;
    check(count >= 0, ErrorKind::io, context, "read at offset ", offset,
          " failed: ", std::generic_category().message(errno));
    check(count > 0, ErrorKind::io, context, "the file was cut short while it was being read: expected ",
          into.size(), " more bytes at offset ", offset, ", found none");
    offset += static_cast<std::uint64_t>(count);
    into = into.subspan(static_cast<std::size_t>(count));
  }
}

/// Calls `use` with the file as a Source.
template <class Use>
auto with_file(const std::filesystem::path& file, Use use) {
  const std::string context = concat("reading ", file.string(), ": ");
  const RegularFile opened(file, "reading");
  return use(Source{file.string(), static_cast<std::uint64_t>(opened.bytes()),
                    [&](std::uint64_t offset, std::span<std::byte> into) {
                      read_next(opened.descriptor(), offset, into, context);
                    }});
}

}  // namespace

const Tensor* NamedTensors::find(const std::string& name) const {
  const auto found =
      std::ranges::find(tensors, name, [](const auto& named) -> const std::string& { return named.first; });
  return found == tensors.end() ? nullptr : &found->second;
}

NamedTensors read_safetensors(const std::filesystem::path& file) { return with_file(file, read_all); }

NamedTensors read_usable_tensors(const std::filesystem::path& file) {
  return with_file(file, [](const Source& source) { return read_contents(source, Unusable::listed); });
}

Metadata read_safetensors_metadata(const std::filesystem::path& file) {
  return with_file(file, [](const Source& source) {
    std::uint64_t buffer_start = 0;
    Header header = read_header(source, buffer_start);
    take_checksums(header, concat("reading ", source.name, ": "));
    return header.metadata;
  });
}

NamedTensors parse_safetensors(std::span<const std::byte> bytes, const std::string& name) {
  return read_all({name, bytes.size(), [&](std::uint64_t offset, std::span<std::byte> into) {
                     std::ranges::copy(bytes.subspan(offset, into.size()), into.begin());
                   }});
}

// ---- Writing ----

void write_safetensors(const std::filesystem::path& file, const NamedTensors& contents) {
  const std::string context = concat("writing ", file.string(), ": ");
  std::vector<Entry> entries;
  std::unordered_set<std::string> names;
  Checksums checksums;
  std::uint64_t end = 0;
  for (const auto& [name, tensor] : contents.tensors) {
    check(tensor.defined(), ErrorKind::internal, context, "tensor ", quoted(name), " is undefined");
    check(name != metadata_key && names.insert(name).second, ErrorKind::internal, context,
          "duplicate or reserved name ", quoted(name));
    Entry& e = entries.emplace_back();
    e.name = name;
    e.format = std::ranges::find(formats, tensor.dtype(), &Format::loads_as);
    e.rank = static_cast<std::size_t>(tensor.rank());
    std::ranges::copy(tensor.shape().extents(), e.extents.begin());
    e.offsets = {end, end + tensor.bytes()};
    end = e.offsets[1];
    checksums[name] = crc32_of(tensor.raw(), tensor.bytes());
  }

  std::string text;
  try {
    Metadata metadata = contents.metadata;
    metadata.erase(checksum_key);
    text = header_text(entries, metadata);
    checksums[metadata_key] = crc32_of(text.data(), text.size());
    metadata[checksum_key] = checksums_text(checksums);
    text = header_text(entries, metadata);
  } catch (const nlohmann::json::type_error&) {
    fail(ErrorKind::internal, context, "expected names and metadata in UTF-8");
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = text.size();
  check(length <= max_header_bytes, ErrorKind::internal, context, "expected a header of at most ",
        max_header_bytes, " bytes, got ", length);

  AtomicFile out(file);
  out.write(std::as_bytes(std::span(&length, 1)));
  out.write(text);
  for (const auto& [name, tensor] : contents.tensors)
    out.write(std::span(static_cast<const std::byte*>(tensor.raw()), tensor.bytes()));
  out.commit();
}

void check_has_checksums(const NamedTensors& contents, const std::string& what) {
  check(contents.has_checksums, ErrorKind::bad_data, what,
        ": no checksums, which faq writes into all its files: "
        "this one is damaged, or was written anew by another program");
}

}  // namespace faq
