#include "core/safetensors.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <locale>

#include "core/atomic_file.h"
#include "core/error.h"
#include "tests/data_testing.h"

using namespace faq;
using namespace faq::testing;

namespace {

void put(const fs::path& file, const std::string& bytes) { std::ofstream(file, std::ios::binary) << bytes; }

template <class T>
std::string bytes_of(std::initializer_list<T> values) {
  return {reinterpret_cast<const char*>(values.begin()), values.size() * sizeof(T)};
}

/// A file of this header and buffer.
std::string file_of(const std::string& header, const std::string& buffer = "") {
  return bytes_of<std::uint64_t>({header.size()}) + header + buffer;
}

NamedTensors parse(const std::string& bytes) {
  return parse_safetensors(std::as_bytes(std::span(bytes.data(), bytes.size())), "test");
}

/// The message of the error, which must be of this kind and one printable line.
std::string message_of(const std::function<void()>& action, ErrorKind kind = ErrorKind::bad_data) {
  try {
    action();
  } catch (const Error& error) {
    const std::string message = error.what();
    CHECK(error.kind() == kind);
    CHECK(message.size() < 500);
    CHECK(std::ranges::none_of(message, [](unsigned char c) { return c < ' ' || c == 127; }));
    return message;
  }
  return "no error";
}

void check_says(const std::string& message, const std::string& expected) {
  INFO("message: " << message);
  INFO("expected: " << expected);
  CHECK(message.find(expected) != std::string::npos);
}

bool equal(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() && std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}

bool equal(const NamedTensors& a, const NamedTensors& b) {
  return a.metadata == b.metadata &&
         std::ranges::equal(a.tensors, b.tensors, [](const auto& x, const auto& y) {
           return x.first == y.first && equal(x.second, y.second);
         });
}

template <class T>
Tensor tensor(const Shape& shape, std::vector<T> values) {
  return Tensor::from<T>(shape, std::span<const T>(values));
}

NamedTensors every_kind() {
  NamedTensors all;
  all.add("z.weight",
          Tensor::from({2, 1, 2, 1}, {1.5f, -0.0f, std::numeric_limits<float>::infinity(), 1e-42f}));
  all.add("odd", tensor<std::uint8_t>({3}, {0, 127, 255}));
  all.add("signed", tensor<std::int8_t>({1, 2}, {-128, 127}));
  all.add("scalar", tensor<std::int32_t>({}, {std::numeric_limits<std::int32_t>::min()}));
  all.add("empty", Tensor::empty({0, 3}));
  all.add("half", tensor<bfloat16>({2}, {bfloat16{0x3f80}, bfloat16{0x7fc1}}));
  all.add("\xc3\xa9 \"\\\n\x01", Tensor::from({1}, {3}));
  all.add("", Tensor::from({1}, {4}));
  all.metadata = {
      {"format", "pt"}, {"", ""}, {"json", "{\"a\":[1,2]}"}, {"text", "line\nline \xf0\x9f\x99\x82"}};
  return all;
}

const std::string tensor_a = R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";

/// {"a":{"dtype":..., "shape":..., "data_offsets":...}} of these texts.
std::string header_of(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"a":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
}

std::string repeated(const std::string& text, int count) {
  std::string result;
  for (int i = 0; i < count; ++i) result += text;
  return result;
}

}  // namespace

TEST_CASE("safetensors: what is written is read") {
  const TemporaryFolder folder;
  const fs::path file = folder / "file.safetensors";
  for (const NamedTensors& written : {every_kind(), NamedTensors{}}) {
    write_safetensors(file, written);
    CHECK(equal(read_safetensors(file), written));
    CHECK(equal(parse(contents(file)), written));
    CHECK(read_safetensors_metadata(file) == written.metadata);

    const std::string bytes = contents(file);
    write_safetensors(file, read_safetensors(file));
    CHECK(contents(file) == bytes);
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data(), sizeof(length));
    CHECK(length % 8 == 0);
  }
}

TEST_CASE("safetensors: the program's locale does not matter") {
  struct Grouped : std::numpunct<char> {
    char do_thousands_sep() const override { return '.'; }
    std::string do_grouping() const override { return "\3"; }
  };
  struct Restore {
    std::locale saved = std::locale::global(std::locale(std::locale::classic(), new Grouped));
    ~Restore() { std::locale::global(saved); }
  } const restore;
  CHECK(concat(1234567, ' ', 0.5) == "1234567 0.5");
  const TemporaryFolder folder;
  NamedTensors written;
  written.add("a", Tensor::zeros({1, 12345}));
  written.add("b", Tensor::zeros({3}));
  write_safetensors(folder / "file", written);
  CHECK(equal(read_safetensors(folder / "file"), written));
}

TEST_CASE("safetensors: what no dtype of ours holds is listed for those who ask") {
  const TemporaryFolder folder;
  const fs::path file = folder / "file.safetensors";
  struct Row {
    const char* dtype;
    std::string bytes;
    std::string why;  ///< empty: usable
  };
  const Row rows[] = {
      {"BOOL", std::string("\1\0", 2), ""},
      {"U16", bytes_of<std::uint16_t>({1, 2}), "dtype U16"},
      {"U32", bytes_of<std::uint32_t>({1, 2}), "dtype U32"},
      {"U64", bytes_of<std::uint64_t>({1, 2}), "dtype U64"},
      {"F8_E4M3", "ab", "dtype F8_E4M3"},
      {"F8_E5M2", "ab", "dtype F8_E5M2"},
      {"F8_E8M0", "ab", "dtype F8_E8M0"},
      {"C64", bytes_of<float>({1, 2, 3, 4}), "dtype C64"},
      {"I64", bytes_of<std::int64_t>({1, 1LL << 31}), "value 2147483648 of element 1 does not fit s32"},
      {"F64", bytes_of<double>({1e300, 1}), "value 1e+300 of element 0 does not fit f32"},
  };
  for (const Row& row : rows) {
    INFO(row.dtype);
    const std::string size = std::to_string(row.bytes.size());
    const std::string header = concat(R"({"a":{"dtype":")", row.dtype, R"(","shape":[2],"data_offsets":[0,)",
                                      size, R"(]},"b":{"dtype":"U8","shape":[1],"data_offsets":[)", size, ",",
                                      row.bytes.size() + 1, "]}}");
    write_file(file, file_of(header, row.bytes + "x"));
    const NamedTensors read = read_usable_tensors(file);
    REQUIRE(read.find("b"));
    CHECK(read.find("b")->span<std::uint8_t>()[0] == 'x');
    if (row.why.empty()) {
      REQUIRE(read.find("a"));
      CHECK(read.find("a")->span<std::uint8_t>()[0] == 1);
      CHECK(equal(read_safetensors(file), read));
      continue;
    }
    REQUIRE(read.unusable.size() == 1);
    CHECK(read.unusable[0].name == "a");
    CHECK(read.unusable[0].why == row.why);
    CHECK_THROWS_WITH(read_safetensors(file), Catch::Contains(concat("\"a\": ", row.why)));
  }
}

TEST_CASE("safetensors: find") {
  const NamedTensors all = every_kind();
  REQUIRE(all.find("odd") != nullptr);
  CHECK(all.find("odd")->dtype() == DType::u8);
  CHECK(all.find("even") == nullptr);
}

TEST_CASE("safetensors: files of others") {
  const std::string two_floats = bytes_of<float>({1, 2});
  struct Row {
    const char* what;
    std::string file;
    std::vector<std::string> names;
  };
  const std::vector<Row> table = {
      {"nothing", file_of("{}"), {}},
      {"no metadata", file_of("{" + tensor_a + "}", two_floats), {"a"}},
      {"space", file_of("{ \n\t" + tensor_a + "\r } \n  ", two_floats), {"a"}},
      {"empty metadata", file_of(R"({"__metadata__":{},)" + tensor_a + "}", two_floats), {"a"}},
      {"metadata at the end", file_of("{" + tensor_a + R"(,"__metadata__":{"a":"b"}})", two_floats), {"a"}},
      {"keys in another order",
       file_of(R"({"a":{"data_offsets":[0,8],"shape":[2],"dtype":"F32"}})", two_floats),
       {"a"}},
      {"tensors in another order",
       file_of(R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[8,9]},)" + tensor_a + "}", two_floats + "x"),
       {"a", "b"}},
      {"empty tensors anywhere",
       file_of(R"({"c":{"dtype":"F64","shape":[0],"data_offsets":[8,8]},)"
               R"("b":{"dtype":"I8","shape":[3,0],"data_offsets":[0,0]},)" +
                   tensor_a + "}",
               two_floats),
       {"b", "a", "c"}},
      {"escapes in names",
       file_of(R"({"\u0061":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", two_floats),
       {"a"}},
  };
  for (const Row& row : table) {
    INFO(row.what);
    const NamedTensors read = parse(row.file);
    std::vector<std::string> names;
    for (const auto& [name, value] : read.tensors) names.push_back(name);
    CHECK(names == row.names);
    if (const Tensor* a = read.find("a")) CHECK(equal(*a, Tensor::from({2}, {1, 2})));
  }
}

TEST_CASE("safetensors: malformed files") {
  struct Row {
    const char* what;
    std::string file;
    const char* expected;
  };
  const std::string eight = "12345678", a = "{" + tensor_a + "}";
  const auto length = [](std::uint64_t n, const std::string& rest) {
    return bytes_of<std::uint64_t>({n}) + rest;
  };
  const auto b = [](const char* offsets, const char* shape) {
    return "{" + tensor_a + R"(,"b":{"dtype":"U8","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
  };
  const std::string million(1'000'000, '[');
  const std::vector<Row> table = {
      {"empty file", "", "found only 0 bytes"},
      {"seven bytes", "\1\0\0\0\0\0\0", "found only"},
      {"length 0", length(0, "{}"), "found length 0"},
      {"length 1", length(1, "{"), "found length 1"},
      {"length beyond the file", length(3, "{}"), "ends beyond the file of 10 bytes"},
      {"length 2^63", length(std::uint64_t{1} << 63, "{}"), "found length 9223372036854775808"},
      {"length 2^64 - 1", length(~std::uint64_t{0}, "{}"), "found length 18446744073709551615"},
      {"length above the limit", length(100'000'001, "{}"), "found length 100000001"},
      {"length at the limit", length(100'000'000, "{}"), "ends beyond the file"},
      {"PyTorch's zip archive", std::string("PK\3\4\0\0\10\10\0\0", 10),
       "convert it with tools/convert_torch.py"},
      {"PyTorch's pickles", "\x80\2\x8a\nl\xfc\x9c\x46\xf9 j", "found a PyTorch file: convert it"},
      {"pickles of another protocol", "\x80\4\x8a\nl\xfc\x9c\x46\xf9 j", "found a PyTorch file: convert it"},
      {"an HTML page", "<!DOCTYPE html><html></html>", "found an HTML page"},
      {"a git LFS pointer", "version https://git-lfs.github.com/spec/v1\n", "found a git LFS pointer"},
      {"a gzip file", std::string("\x1f\x8b\x08\0\0\0\0\0\0\3", 10), "found a gzip file"},
      {"a length that begins as a pickle", length(0x280, "{}"), "ends beyond the file of 10 bytes"},
      {"length of 7", length(7, a + eight), "not valid JSON at byte 8"},
      {"no brace", file_of(" {}"), "expected '{' at offset 8, found byte 32"},
      {"byte order mark", file_of("\xef\xbb\xbf{}"), "found byte 239"},
      {"not an object", file_of("[]"), "found byte 91"},
      {"cut JSON", file_of("{\"a\""), "not valid JSON at byte 5"},
      {"two objects", file_of("{}{}"), "not valid JSON at byte 3"},
      {"zero bytes as padding", file_of(std::string("{}\0\0", 4)), "not valid JSON at byte 3: a zero byte"},
      {"comment", file_of("{/**/}"), "not valid JSON"},
      {"trailing comma", file_of("{" + tensor_a + ",}", eight), "not valid JSON"},
      {"bad UTF-8 in a name", file_of("{\"\xff\":1}"), "ill-formed UTF-8"},
      {"overlong UTF-8", file_of("{\"\xc0\x80\":1}"), "ill-formed UTF-8"},
      {"lone surrogate", file_of(R"({"\ud800":1})"), "not valid JSON"},
      {"a million [", file_of("{" + million), "not valid JSON"},
      {"a million [ as a tensor", file_of(R"({"a":)" + million),
       "expected an object for \"a\", found an array"},
      {"a million [ as shape", file_of(R"({"a":{"shape":)" + million),
       "whole numbers in shape, found an array"},
      {"a million [ as dtype", file_of(R"({"a":{"dtype":)" + million), "a dtype among F32"},
      {"a million [ as metadata", file_of(R"({"__metadata__":{"a":)" + million), "found an array"},
      {"a million {", file_of(repeated(R"({"a":)", 1'000'000)), "\"a\": unknown key \"a\""},
      {"a million dimensions", file_of(R"({"a":{"shape":[1)" + repeated(",1", 1'000'000)),
       "at most 4 dimensions"},
      {"a name of a million bytes", file_of("{\"" + std::string(1'000'000, 'n') + "\":1}"),
       "found the number 1"},
      {"a string of a million bytes", file_of("{\"" + std::string(1'000'000, 'n')), "not valid JSON"},
      {"control characters in a name", file_of(R"({"\n\u001b[31m":1})"), R"(an object for "\n\u001b[31m")"},

      {"tensor is null", file_of(R"({"a":null})"), "found null"},
      {"tensor is a string", file_of(R"({"a":"b"})"), "found the string \"b\""},
      {"duplicate tensors", file_of("{" + tensor_a + "," + tensor_a + "}", eight), "duplicate key \"a\""},
      {"duplicates by escape", file_of("{" + tensor_a + R"(,"\u0061":{}})", eight), "duplicate key \"a\""},
      {"duplicate dtype", file_of(R"({"a":{"dtype":"F32","dtype":"F32"}})"),
       "\"a\": duplicate key \"dtype\""},
      {"duplicate shape", file_of(R"({"a":{"shape":[],"shape":[]}})"), "duplicate key \"shape\""},
      {"duplicate data_offsets", file_of(R"({"a":{"data_offsets":[0,0],"data_offsets":[0,0]}})"),
       "duplicate key"},
      {"duplicate metadata", file_of(R"({"__metadata__":{"a":"b","a":"b"}})"), "duplicate key \"a\""},
      {"metadata twice", file_of(R"({"__metadata__":{},"__metadata__":{}})"),
       "duplicate key \"__metadata__\""},
      {"unknown key", file_of(R"({"a":{"strides":[1]}})"), "unknown key \"strides\""},
      {"no dtype", file_of(R"({"a":{"shape":[2],"data_offsets":[0,8]}})", eight),
       "expected a dtype, found none"},
      {"no shape", file_of(R"({"a":{"dtype":"F32","data_offsets":[0,8]}})", eight),
       "expected a shape, found none"},
      {"no data_offsets", file_of(R"({"a":{"dtype":"F32","shape":[2]}})", eight),
       "expected a data_offsets, found none"},
      {"nothing", file_of(R"({"a":{}})"), "expected a dtype, found none"},

      {"metadata is null", file_of(R"({"__metadata__":null})"), "found null"},
      {"metadata is a list", file_of(R"({"__metadata__":[]})"), "found an array"},
      {"metadata number", file_of(R"({"__metadata__":{"a":1}})"),
       "a string for the metadata \"a\", found the number 1"},
      {"metadata boolean", file_of(R"({"__metadata__":{"a":true}})"), "found a boolean"},
      {"metadata null", file_of(R"({"__metadata__":{"a":null}})"), "found null"},
      {"metadata object", file_of(R"({"__metadata__":{"a":{}}})"), "found an object"},
      {"metadata bad UTF-8", file_of("{\"__metadata__\":{\"a\":\"\xed\xa0\x80\"}}"), "ill-formed UTF-8"},

      {"dtype unknown", file_of(header_of("\"F4\"", "[2]", "[0,8]"), eight), "found dtype \"F4\""},
      {"dtype in small letters", file_of(header_of("\"f32\"", "[2]", "[0,8]"), eight), "found dtype \"f32\""},
      {"dtype of other bytes", file_of(header_of("\"U64\"", "[2]", "[0,8]"), eight),
       "expected 16 bytes for U64 [2]"},
      {"dtype number", file_of(header_of("32", "[2]", "[0,8]"), eight), "found the number 32"},
      {"shape is a number", file_of(header_of("\"F32\"", "2", "[0,8]"), eight),
       "an array of whole numbers as shape"},
      {"shape negative", file_of(header_of("\"F32\"", "[-2]", "[0,8]"), eight),
       "found the negative number -2"},
      {"shape minus zero", file_of(header_of("\"F32\"", "[-0]", "[0,0]")), "found the negative number 0"},
      {"shape fractional", file_of(header_of("\"F32\"", "[2.5]", "[0,8]"), eight), "found the number 2.5"},
      {"shape 2.0", file_of(header_of("\"F32\"", "[2.0]", "[0,8]"), eight), "found the number 2.0"},
      {"shape 2e0", file_of(header_of("\"F32\"", "[2e0]", "[0,8]"), eight), "found the number 2e0"},
      {"shape 1e999", file_of(header_of("\"F32\"", "[1e999]", "[0,8]"), eight), "not valid JSON"},
      {"shape of strings", file_of(header_of("\"F32\"", "[\"2\"]", "[0,8]"), eight),
       "found the string \"2\""},
      {"shape above 2^64", file_of(header_of("\"F32\"", "[18446744073709551616]", "[0,8]"), eight),
       "found the number"},
      {"shape of five", file_of(header_of("\"U8\"", "[1,1,1,1,8]", "[0,8]"), eight), "at most 4 dimensions"},
      {"product overflows", file_of(header_of("\"F32\"", "[4294967296,4294967296]", "[0,8]"), eight),
       "be counted"},
      {"product wraps to 2", file_of(header_of("\"F32\"", "[9223372036854775809,2]", "[0,8]"), eight),
       "be counted"},
      {"bytes wrap to 8", file_of(header_of("\"F32\"", "[4611686018427387906]", "[0,8]"), eight),
       "be counted"},
      {"overflow beside 0", file_of(header_of("\"U8\"", "[0,9223372036854775807,9]", "[0,0]")), "be counted"},
      {"extent 2^64 - 1", file_of(header_of("\"U8\"", "[18446744073709551615]", "[0,8]"), eight),
       "be counted"},

      {"one offset", file_of(header_of("\"F32\"", "[2]", "[8]"), eight),
       "expected two data_offsets, found 1"},
      {"no offsets", file_of(header_of("\"F32\"", "[2]", "[]"), eight), "expected two data_offsets, found 0"},
      {"three offsets", file_of(header_of("\"F32\"", "[2]", "[0,8,8]"), eight),
       "expected two data_offsets, found more"},
      {"offsets of null", file_of(header_of("\"F32\"", "[2]", "null"), eight), "found null"},
      {"negative offset", file_of(header_of("\"F32\"", "[2]", "[-8,0]"), eight),
       "found the negative number -8"},
      {"fractional offset", file_of(header_of("\"F32\"", "[2]", "[0,8.5]"), eight), "found the number 8.5"},
      {"begin > end", file_of(header_of("\"F32\"", "[2]", "[8,0]"), eight), "do not lie within the buffer"},
      {"end beyond the buffer", file_of(header_of("\"F32\"", "[3]", "[0,12]"), eight),
       "within the buffer of 8 bytes"},
      {"offset 2^64 - 1", file_of(header_of("\"F32\"", "[2]", "[0,18446744073709551615]"), eight),
       "within the buffer"},
      {"bytes disagree", file_of(header_of("\"F32\"", "[3]", "[0,8]"), eight),
       "expected 12 bytes for F32 [3], found 8"},
      {"bytes for an empty one", file_of(header_of("\"F32\"", "[0]", "[0,8]"), eight),
       "expected 0 bytes for F32 [0]"},
      {"scalar of two", file_of(header_of("\"F32\"", "[]", "[0,8]"), eight), "expected 4 bytes for F32 []"},
      {"not from 0", file_of(header_of("\"U8\"", "[7]", "[1,8]"), eight),
       "hole in the buffer: expected data at offset 0"},
      {"hole", file_of(b("[9,10]", "[1]"), eight + "xx"),
       "hole in the buffer: expected data at offset 8, found 9"},
      {"overlap", file_of(b("[7,9]", "[2]"), eight + "x"),
       "overlap in the buffer: expected data at offset 8, found 7"},
      {"same range", file_of(b("[0,8]", "[8]"), eight), "overlap in the buffer"},
      {"within another", file_of(b("[4,6]", "[2]"), eight), "overlap in the buffer"},
      {"empty within another", file_of(b("[4,4]", "[0]"), eight), "overlap in the buffer"},
      {"trailing byte", file_of(a, eight + "x"), "1 trailing bytes"},
      {"trailing bytes of nothing", file_of("{}", eight), "8 trailing bytes"},
      {"cut by one byte", file_of(a, "1234567"), "within the buffer of 7 bytes"},

      {"crc32 is no object", file_of(R"({"__metadata__":{"crc32":"[]"}})"),
       "checksums: expected a JSON object"},
      {"crc32 is no JSON", file_of(R"({"__metadata__":{"crc32":""}})"), "checksums: not valid JSON"},
      {"crc32 nested", file_of(R"({"__metadata__":{"crc32":"{\"a\":{}}"}})"),
       "8 hex digits for \"a\", found an object"},
      {"crc32 of a number", file_of(R"({"__metadata__":{"crc32":"{\"a\":1}"}})"), "8 hex digits for \"a\""},
      {"crc32 too short", file_of(R"({"__metadata__":{"crc32":"{\"a\":\"123\"}"}})"),
       "8 hex digits for \"a\""},
      {"crc32 twice", file_of(R"({"__metadata__":{"crc32":"{\"a\":\"00000000\",\"a\":\"00000000\"}"}})"),
       "duplicate"},
      {"crc32 of a stranger", file_of(R"({"__metadata__":{"crc32":"{\"a\":\"00000000\"}"}})"),
       "checksums of 1 tensors"},
      {"crc32 missing", file_of(R"({"__metadata__":{"crc32":"{}"},)" + tensor_a + "}", eight),
       "no checksum of \"a\""},
      {"crc32 wrong", file_of(R"({"__metadata__":{"crc32":"{\"a\":\"00000000\"}"},)" + tensor_a + "}", eight),
       "are damaged: expected CRC-32 00000000, found 9ae0daaf"},
      {"crc32 of the header", file_of(R"({"__metadata__":{"crc32":"{\"__metadata__\":\"00000000\"}"}})"),
       "the header is damaged"},
  };
  const TemporaryFolder folder;
  for (const Row& row : table) {
    INFO(row.what);
    const std::string message = message_of([&] { parse(row.file); });
    check_says(message, row.expected);
    CHECK(message.starts_with("reading test: "));

    // The same from a file; what concerns the header is found by reading the metadata alone.
    put(folder / "file", row.file);
    const std::string name = (folder / "file").string();
    CHECK(message_of([&] { read_safetensors(name); }) == "reading " + name + message.substr(12));
    if (row.what != std::string("crc32 wrong"))
      CHECK(message_of([&] { read_safetensors_metadata(name); }) == "reading " + name + message.substr(12));
  }
}

TEST_CASE("safetensors: a checksum that is right, and none for the header") {
  const std::string header = R"({"__metadata__":{"crc32":"{\"a\":\"9ae0daaf\"}","b":"c"},)" + tensor_a + "}";
  const NamedTensors read = parse(file_of(header, "12345678"));
  CHECK(read.tensors.size() == 1);
  CHECK(read.metadata == std::map<std::string, std::string>{{"b", "c"}});
}

TEST_CASE("safetensors: conversions") {
  const auto one = [](const char* dtype, int count, const std::string& data) {
    const std::string offsets = "[0," + std::to_string(data.size()) + "]";
    const NamedTensors read = parse(
        file_of(header_of('"' + std::string(dtype) + '"', "[" + std::to_string(count) + "]", offsets), data));
    return read.tensors.at(0).second;
  };

  SECTION("F16: every number") {
    std::vector<std::uint16_t> halves(65536);
    for (std::size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<std::uint16_t>(i);
    const Tensor t = one("F16", 65536, {reinterpret_cast<const char*>(halves.data()), 2 * halves.size()});
    REQUIRE(t.dtype() == DType::f32);
    int wrong = 0;
    for (int i = 0; i < 65536; ++i) {
      const int exponent = (i >> 10) & 31, mantissa = i & 1023;
      const double size = exponent == 0    ? std::ldexp(mantissa, -24)
                          : exponent == 31 ? (mantissa ? std::nan("") : HUGE_VAL)
                                           : std::ldexp(1024 + mantissa, exponent - 25);
      const float expected = static_cast<float>(i < 32768 ? size : -size), found = t.span<float>()[i];
      const bool same = std::isnan(expected) ? std::isnan(found) : expected == found;
      if (!same || (!std::isnan(expected) && std::signbit(expected) != std::signbit(found))) ++wrong;
    }
    CHECK(wrong == 0);
  }
  SECTION("F64") {
    const Tensor t = one("F64", 4, bytes_of<double>({0.1, -1e-320, HUGE_VAL, std::nan("")}));
    REQUIRE(t.dtype() == DType::f32);
    CHECK(t.span<float>()[0] == 0.1f);
    CHECK(t.span<float>()[1] == 0.0f);
    CHECK(t.span<float>()[2] == HUGE_VALF);
    CHECK(std::isnan(t.span<float>()[3]));
    check_says(message_of([&] {
                 one("F64", 2, bytes_of<double>({1, -1e39}));
               }),
               "tensor \"a\": value -1e+39 of element 1 does not fit f32");
  }
  SECTION("I64") {
    const Tensor t = one("I64", 2, bytes_of<std::int64_t>({-2147483648, 2147483647}));
    CHECK(equal(t, tensor<std::int32_t>({2}, {std::numeric_limits<std::int32_t>::min(), 2147483647})));
    for (const std::int64_t value : {std::int64_t{2147483648}, std::int64_t{-2147483649}}) {
      check_says(message_of([&] { one("I64", 1, bytes_of<std::int64_t>({value})); }),
                 "value " + std::to_string(value) + " of element 0 does not fit s32");
    }
  }
}

TEST_CASE("safetensors: cut anywhere, it is refused") {
  const TemporaryFolder folder;
  write_safetensors(folder / "file", every_kind());
  const std::string bytes = contents(folder / "file");
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    INFO(length << " of " << bytes.size() << " bytes");
    CHECK(message_of([&] { parse(bytes.substr(0, length)); }) != "no error");
  }
  CHECK(message_of([&] { parse(bytes + '\0'); }) != "no error");
}

TEST_CASE("safetensors: with any byte changed, it is refused or means the same") {
  const TemporaryFolder folder;
  const NamedTensors written = every_kind();
  write_safetensors(folder / "file", written);
  const std::string bytes = contents(folder / "file");
  for (std::size_t place = 0; place < bytes.size(); ++place) {
    for (const int flip : {1, 2, 4, 8, 16, 32, 64, 128, 255}) {
      std::string changed = bytes;
      changed[place] = static_cast<char>(changed[place] ^ flip);
      try {
        if (!equal(parse(changed), written))
          FAIL("byte " << place << " changed by " << flip << " goes unnoticed");
      } catch (const Error& error) {
        if (error.kind() != ErrorKind::bad_data)
          FAIL("byte " << place << " changed by " << flip << ": " << error.what());
      }
    }
  }
}

TEST_CASE("safetensors: checksums count under any name, and are known to be there") {
  const TemporaryFolder folder;
  const NamedTensors written = every_kind();
  write_safetensors(folder / "file", written);
  const std::string bytes = contents(folder / "file");
  CHECK(parse(bytes).has_checksums);
  CHECK_FALSE(parse(file_of("{" + tensor_a + "}", bytes_of<float>({1, 2}))).has_checksums);
  const std::size_t key = bytes.find("\"crc32\"");
  REQUIRE(key != std::string::npos);
  for (const char* name : {"crc33", "CRC32", "abcde", "~~~~~", "json "}) {
    INFO(name);
    std::string changed = bytes;
    changed.replace(key + 1, 5, name);
    check_says(message_of([&] { parse(changed); }), "the header is damaged: the checksums are called");
    put(folder / "changed", changed);
    check_says(message_of([&] { read_safetensors_metadata(folder / "changed"); }),
               "the checksums are called");
  }
  // What looks like checksums of other tensors is an entry like any other.
  const std::string others =
      R"({"__metadata__":{"mine":"{\"__metadata__\":\"00000000\"}"},)" + tensor_a + "}";
  CHECK(parse(file_of(others, bytes_of<float>({1, 2}))).metadata.contains("mine"));
}

TEST_CASE("safetensors: a header of a million tensors ends early, and messages stay short") {
  std::string header = "{";
  for (int i = 0; i < 1'000'000; ++i)
    header += concat(i ? "," : "", "\"t", i, R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})");
  const std::clock_t begin = std::clock();  // of the processor: others may be busy, too
  check_says(message_of([&] { parse(file_of(header + "}")); }), "at most 100000 tensors, found more");
  CHECK(std::clock() - begin < 10 * CLOCKS_PER_SEC);
  std::string metadata = R"({"__metadata__":{)";
  for (int i = 0; i < 200'000; ++i) metadata += concat(i ? "," : "", "\"t", i, "\":\"\"");
  check_says(message_of([&] { parse(file_of(metadata + "}}")); }), "at most 100000 entries, found more");
  // Names that take six bytes each when they are escaped.
  std::string control;
  for (int i = 0; i < 1000; ++i) control += "\\u0001";
  check_says(message_of([&] { parse(file_of("{\"" + control + "\":1}")); }), "...\", found the number 1");
}

TEST_CASE("safetensors: files that cannot be read") {
  const TemporaryFolder folder;
  fs::create_directory(folder / "folder");
  REQUIRE(mkfifo((folder / "pipe").c_str(), 0600) == 0);
  fs::create_symlink(folder / "missing", folder / "dangling");
  for (const auto& [name, kind] :
       {std::pair{"missing", ErrorKind::missing_input}, std::pair{"dangling", ErrorKind::missing_input},
        std::pair{"missing/file", ErrorKind::missing_input}, std::pair{"folder", ErrorKind::bad_data},
        std::pair{"pipe", ErrorKind::bad_data}}) {
    INFO(name);
    const std::string file = (folder / name).string();
    check_says(message_of([&file] { read_safetensors(file); }, kind), file);
    check_says(message_of([&file] { read_safetensors_metadata(file); }, kind), file);
  }
  check_says(message_of([] { read_safetensors("/dev/zero"); }, ErrorKind::bad_data),
             "expected a file, found a device");
}

TEST_CASE("safetensors: faults while reading") {
  const TemporaryFolder folder;
  const fs::path file = folder / "file";
  const NamedTensors written = every_kind();
  write_safetensors(file, written);
  struct Restore {
    FileCalls saved = file_calls();
    ~Restore() { file_calls() = saved; }
  } const restore;
  static int calls;
  static fs::path path;
  calls = 0;
  path = file;

  SECTION("short and interrupted reads are continued") {
    file_calls().read = [](int descriptor, void* bytes, std::size_t count) {
      if (++calls % 2 == 0) return errno = EINTR, ssize_t{-1};
      return ::read(descriptor, bytes, std::min<std::size_t>(count, 3));
    };
    CHECK(equal(read_safetensors(file), written));
  }
  SECTION("an error of the device") {
    for (int good = 0; good < 3; ++good) {
      calls = good;
      file_calls().read = [](int descriptor, void* bytes, std::size_t count) {
        if (calls-- == 0) return errno = EIO, ssize_t{-1};
        return ::read(descriptor, bytes, count);
      };
      check_says(message_of([&] { read_safetensors(file); }, ErrorKind::io), "read at offset ");
    }
  }
  SECTION("the file shrinks meanwhile") {
    file_calls().read = [](int descriptor, void* bytes, std::size_t count) {
      if (++calls == 3) fs::resize_file(path, fs::file_size(path) - 1);
      return ::read(descriptor, bytes, count);
    };
    check_says(message_of([&] { read_safetensors(file); }, ErrorKind::io),
               "cut short while it was being read");
  }
}

TEST_CASE("safetensors: what cannot be written") {
  const TemporaryFolder folder;
  const fs::path file = folder / "file";
  write_safetensors(file, every_kind());
  const std::string before = contents(file);
  const Tensor one = Tensor::from({1}, {1});
  const std::vector<std::pair<NamedTensors, const char*>> table = {
      {{{{"a", Tensor()}}, {}}, "tensor \"a\" is undefined"},
      {{{{"a", one}, {"a", one}}, {}}, "name \"a\""},
      {{{{"__metadata__", one}}, {}}, "name \"__metadata__\""},
      {{{{"\xff", one}}, {}}, "UTF-8"},
      {{{}, {{"a", "\xff"}}}, "UTF-8"},
      {{{}, {{"a", std::string(100'000'000, 'x')}}}, "header of at most 100000000 bytes"},
  };
  for (const auto& [bad, expected] : table)
    check_says(message_of([&, &tensors = bad] { write_safetensors(file, tensors); }, ErrorKind::internal),
               expected);

  message_of([&] { write_safetensors(folder / "missing" / "file", every_kind()); }, ErrorKind::io);
  message_of([&] { write_safetensors("/dev/full", every_kind()); }, ErrorKind::io);
  rlimit limit{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &limit) == 0);
  const rlimit small{before.size() - 1, limit.rlim_max};
  REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
  const std::string message = message_of([&] { write_safetensors(file, every_kind()); }, ErrorKind::io);
  REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
  check_says(message, file.string() + ": write failed");

  CHECK(contents(file) == before);
  CHECK(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()) == 1);
}

TEST_CASE("safetensors: an old crc32 entry is replaced") {
  const TemporaryFolder folder;
  NamedTensors written;
  written.add("a", Tensor::from({1}, {1}));
  written.metadata["crc32"] = "{}";
  write_safetensors(folder / "file", written);
  CHECK(read_safetensors(folder / "file").metadata.empty());
}
