// Decodes damaged images, each of them twice: with other contents of the memory that is not initialised, and
// after another image. What comes out must be the same, and nothing but a refusal may be thrown.
// tools/campaigns/images.py is the command for it.
#include <malloc.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <new>
#include <string>

#include <zlib.h>
#include <cxxopts.hpp>

#include "core/error.h"
#include "data/decode.h"
#include "tests/campaign_main.h"
#include "tests/image_files.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) || __has_feature(thread_sanitizer)
#define FAQ_OWN_MALLOC 0
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)
#define FAQ_OWN_MALLOC 0
#endif
#ifndef FAQ_OWN_MALLOC
#define FAQ_OWN_MALLOC 1
#endif

namespace {

/// What memory contains that nobody has initialised.
volatile unsigned char poison = 0;

}  // namespace

// Sanitizers have an allocator of their own: there only the stack is poisoned.
#if FAQ_OWN_MALLOC
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t bytes) {
  void* block = __libc_malloc(bytes);
  if (block) std::memset(block, poison, bytes);
  return block;
}
void* realloc(void* old, std::size_t bytes) {
  const std::size_t before = old ? malloc_usable_size(old) : 0;
  void* block = __libc_realloc(old, bytes);
  if (block && bytes > before) std::memset(static_cast<char*>(block) + before, poison, bytes - before);
  return block;
}
void* memalign(std::size_t alignment, std::size_t bytes) {
  void* block = __libc_memalign(alignment, bytes);
  if (block) std::memset(block, poison, bytes);
  return block;
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) { return memalign(alignment, bytes); }
int posix_memalign(void** block, std::size_t alignment, std::size_t bytes) {
  *block = memalign(alignment, bytes);
  return *block ? 0 : ENOMEM;
}
}
#endif

namespace faq::testing {
namespace {

namespace fs = std::filesystem;

/// Leaves its frame full of poison: the functions that are called next have theirs in the same place.
[[gnu::noinline]] void poison_stack() {
  unsigned char frame[std::size_t{128} << 10];
  std::memset(frame, poison, sizeof frame);
  asm volatile("" : : "r"(frame) : "memory");
}

struct Result {
  std::string refused;  ///< empty: decoded
  Image image;
  std::string broken;  ///< what was thrown that is no refusal
  bool operator==(const Result& other) const {
    return refused == other.refused && broken == other.broken && image.pixels == other.image.pixels &&
           image.height == other.image.height && image.width == other.image.width &&
           image.fault == other.image.fault;
  }
};

[[gnu::noinline]] Result decoded(const std::string& bytes, int channels) {
  Result result;
  try {
    result.image = decode_image(std::as_bytes(std::span(bytes.data(), bytes.size())), channels, "image");
  } catch (const Error& error) {
    (error.kind() == ErrorKind::bad_data ? result.refused : result.broken) = error.what();
  } catch (const std::exception& error) {
    result.broken = error.what();
  }
  return result;
}

Result decoded_with(unsigned char contents, const std::string& bytes, const std::string& before,
                    int channels) {
  poison = contents;
  poison_stack();
  decoded(before, 3);
  poison_stack();
  return decoded(bytes, channels);
}

std::uint32_t checksum(const Image& image) {
  return static_cast<std::uint32_t>(::crc32(0, image.pixels.data(), static_cast<uInt>(image.pixels.size())));
}

std::string extension(const std::string& bytes) { return bytes.starts_with("\x89P") ? ".png" : ".jpg"; }

void write(const fs::path& file, const std::string& bytes) {
  fs::create_directories(file.parent_path());
  std::ofstream out(file, std::ios::binary);
  out << bytes;
  check(out.good(), ErrorKind::io, file.string(), ": cannot be written");
}

struct Options {
  std::int64_t first = 0;
  std::int64_t count = 2000;
  std::uint64_t seed = 1;
  fs::path fixtures = fs::path(FAQ_TEST_FIXTURES) / "images";
  std::string keep;
  std::string list;
};

Options options_of(int argc, char** argv) {
  Options o;
  cxxopts::Options parser("faq_image_campaign");
  parser.add_options()("first", "number of the first mutant", cxxopts::value(o.first))(
      "count", "of mutants", cxxopts::value(o.count))("seed", "of all mutants", cxxopts::value(o.seed))(
      "keep", "folder for files that are decoded differently", cxxopts::value(o.keep))(
      "list", "folder for all files, with what became of each", cxxopts::value(o.list));
  parser.parse(argc, argv);
  return o;
}

std::vector<ImageFile> seeds(const Options& o) {
  std::vector<ImageFile> files = odd_images();
  std::map<std::string, std::string> fixtures;  // in the order of their names
  for (const auto& entry : fs::directory_iterator(o.fixtures))
    if (const auto kind = entry.path().extension(); kind == ".jpg" || kind == ".png") {
      std::ifstream in(entry.path(), std::ios::binary);
      fixtures[entry.path().filename().string()] = {std::istreambuf_iterator<char>(in), {}};
    }
  for (const auto& [name, bytes] : fixtures) files.push_back({"fixture_" + name, bytes});
  return files;
}

class Campaign {
 public:
  explicit Campaign(const Options& options) : o_(options), seeds_(seeds(options)) {
    if (o_.list.empty()) return;
    fs::create_directories(o_.list);
    list_.open(fs::path(o_.list) / "list.tsv");
  }

  void run() {
    for (const ImageFile& seed : seeds_) {
      const Result result = try_one(seed.name, seed.bytes, seeds_.front().bytes, 3);
      if (!result.refused.empty())
        found(seed.name, seed.bytes, "a valid image is refused: " + result.refused);
    }
    for (std::int64_t i = o_.first; i < o_.first + o_.count; ++i) {
      Random random(o_.seed, RandomStream::test, static_cast<std::uint64_t>(i));
      const auto any = [&]() -> const std::string& {
        return seeds_[random.below(static_cast<std::uint32_t>(seeds_.size()))].bytes;
      };
      const std::string& seed = any();
      const std::string& other = any();
      const std::string bytes = mutated(seed, other, random);
      const Result result =
          try_one(concat("mutant_", i, extension(bytes)), bytes, other, random.below(2) ? 3 : 1);
      ++(result.refused.empty() ? accepted_ : refused_);
      faulty_ += !result.image.fault.empty();
    }
  }

  int report() const {
    std::printf(
        "{\"seeds\": %zu, \"mutants\": %lld, \"decoded\": %lld, \"recoverable_faults\": %lld, \"refused\": "
        "%lld, "
        "\"heap_poisoned\": %s, \"findings\": %lld}\n",
        seeds_.size(), static_cast<long long>(o_.count), accepted_, faulty_, refused_,
        FAQ_OWN_MALLOC ? "true" : "false", findings_);
    return findings_ == 0 ? 0 : 1;
  }

 private:
  Result try_one(const std::string& name, const std::string& bytes, const std::string& before, int channels) {
    const std::string& second = seeds_[bytes.size() % seeds_.size()].bytes;
    const Result a = decoded_with(0x5A, bytes, before, channels);
    const Result b = decoded_with(0xC3, bytes, second, channels);
    if (!a.broken.empty()) found(name, bytes, "thrown: " + a.broken);
    if (!(a == b)) found(name, bytes, "decoded twice, it differs: " + a.refused + " / " + b.refused);
    if (list_.is_open()) {
      const Result colors = decoded(bytes, 3);
      write(fs::path(o_.list) / name, bytes);
      list_ << name << '\t' << (a.refused.empty() ? "decoded" : "refused") << '\t' << checksum(colors.image)
            << '\t' << (a.refused.empty() ? a.image.fault : a.refused) << '\n';
    }
    return a;
  }

  void found(const std::string& name, const std::string& bytes, const std::string& what) {
    ++findings_;
    std::fprintf(stderr, "%s: %s\n", name.c_str(), what.c_str());
    if (!o_.keep.empty()) write(fs::path(o_.keep) / name, bytes);
  }

  Options o_;
  std::vector<ImageFile> seeds_;
  std::ofstream list_;
  long long accepted_ = 0, refused_ = 0, faulty_ = 0, findings_ = 0;
};

}  // namespace
}  // namespace faq::testing

int main(int argc, char** argv) {
  return faq::testing::campaign_main<faq::testing::Campaign>(argc, argv, faq::testing::options_of);
}
