#include "core/file_kind.h"

#include "tests/catch.h"

using namespace faq;
using namespace std::string_literals;

TEST_CASE("files of other kinds are named by their first bytes", "[file_kind]") {
  struct Row {
    std::string start;
    const char* expected;  ///< in what is said; empty: nothing is
  };
  const Row rows[] = {
      {"PK\3\4\0\0\0\0\0"s, "a PyTorch file: convert it with tools/convert_torch.py"},
      {"\x80\2\x8a\nl\xfc\x9c\x46\xf9 j", "a PyTorch file"},
      {"\x80\2\0\0\0\0\0\0{}"s, ""},
      {"\x80\6\x8a\nl\xfc\x9c\x46\xf9 j", ""},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "git lfs pull"},
      {"<!DOCTYPE html>\n<html>", "an HTML page"},
      {"\n\n  <HTML><HEAD>", "an HTML page"},
      {"\xef\xbb\xbf<html>", "an HTML page"},
      {"<?xml version=\"1.0\"?><Error>", "an XML document"},
      {"\x1f\x8b\x08\0\0\0\0\0"s, "gunzip"},
      {"BZh91AY&SY", "bunzip2"},
      {"\xfd"
       "7zXZ\0\0\4"s,
       "unxz"},
      {"\x28\xb5\x2f\xfd\x04\x58", "unzstd"},
      {"\x89HDF\r\n\x1a\n\0\0"s, "HDF5"},
      {"\x93NUMPY\1\0v\0{"s, "a NumPy array"},
      {"\x08\x07\x12\x07pytorch", "an ONNX model"},
      {"GGUF\3\0\0\0"s, "GGUF"},
      {"\x1c\0\0\0TFL3\0\0"s, "a TensorFlow Lite model"},
      {std::string(257, 'a') + "ustar\0"s + std::string(200, '\0'), "a tar archive"},
      {"{\"weight_map\": {}}", "JSON text"},
      {std::string(512, '\0'), "nothing but zeros"},
      {"Not found, sorry.\n", "text"},
      {"\1\2\3\4\5\6\7\x08\x09", ""},
      {"", ""},
  };
  for (const Row& row : rows) {
    INFO(row.start.substr(0, 20));
    const std::string kind = file_kind(row.start);
    CHECK(kind.empty() == std::string(row.expected).empty());
    CHECK(kind.find(row.expected) != std::string::npos);
  }
}
